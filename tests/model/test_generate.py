"""Claims about cached decoding."""

from collections import Counter
from dataclasses import asdict, replace
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batching import answer_all
from model.config import ModelConfig
from model.generate import Decoder, _choose, generate
from model.hrm import HRM
from tests.model.packing import VOCABULARY

CONFIG = ModelConfig(
    vocab_size=VOCABULARY, num_layers=4, hidden_size=24, num_heads=3, head_dim=10, intermediate_size=40
)
NEVER = VOCABULARY
"""An end token outside of the vocabulary."""

tokens = st.integers(0, VOCABULARY - 1)
prompts = st.lists(st.lists(tokens, min_size=1, max_size=9), min_size=1, max_size=7)


@pytest.fixture(scope="module")
def model() -> HRM:
    return HRM(CONFIG, seed=2)


def uncached_logits(model: HRM, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Logits after the prompt and after each token of the answer, computed without a cache."""
    with torch.no_grad():
        return model.logits(torch.tensor([prompt + answer]), torch.tensor([len(prompt)]))[0, len(prompt) - 1 :]


@settings(deadline=None, max_examples=25)
@given(prompts=prompts, data=st.data())
def test_cached_decoding_gives_the_logits_of_decoding_without_a_cache(model, prompts, data):
    answers = [data.draw(st.lists(tokens, min_size=4, max_size=4)) for _ in prompts]
    decoder = Decoder(model, rows=len(prompts), capacity=max(map(len, prompts)) + 4)
    with torch.no_grad():
        logits = [decoder.prefill(prompts)]
        logits += [decoder.step(torch.tensor(column)) for column in zip(*answers, strict=True)]
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        cached = torch.stack([step[row] for step in logits])
        torch.testing.assert_close(cached, uncached_logits(model, prompt, answer), atol=2e-5, rtol=1e-4)


@settings(deadline=None, max_examples=12)
@given(prompts=prompts)
def test_greedy_answers_are_those_of_decoding_without_a_cache(model, prompts):
    expected = []
    for prompt in prompts:
        answer: list[int] = []
        for _ in range(8):
            answer.append(int(uncached_logits(model, prompt, answer)[-1].argmax()))
        expected.append(answer)
    for captured in (False, True):  # on a CPU without a graph
        assert generate(model, prompts, max_new_tokens=8, end_id=NEVER, captured=captured) == expected


def test_captured_steps_read_and_write_at_fixed_addresses_until_the_caches_grow(model):
    decoder = Decoder(model, rows=2, capacity=100, captured=True)

    def addresses() -> list[int]:
        keys_and_values = [(cache.key, cache.value) for application in decoder.caches for cache in application]
        return [t.data_ptr() for t in (decoder.length, decoder._tokens, *chain.from_iterable(keys_and_values))]

    with torch.no_grad():
        before, moved_at = addresses(), []
        decoder.prefill([60 * [1], [4]])
        decoder.admit([1], [[5, 6]])
        for length in range(61, 75):
            decoder.step(torch.tensor([7, 8]))
            if addresses() != before:
                before = addresses()
                moved_at.append(length)
    assert moved_at == [65], "64 keys fit into 100 slots, 128 do not"


def test_captured_decoding_is_refused_under_autocast(model):
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match="convert the model, and disable autocast"),
    ):
        Decoder(model, rows=1, capacity=1, captured=True)


def test_decoding_goes_on_without_graphs_where_none_can_be_made_and_says_so_once(model, capsys, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    monkeypatch.setattr("torch.cuda.Stream", lambda device: torch.cuda.current_stream())  # which needs a driver
    found = []
    for replays in (False, True):
        decoder = Decoder(model, rows=2, capacity=100, captured=True)
        decoder._replays = replays  # as on a GPU
        with torch.no_grad():
            logits = [decoder.prefill([[1, 2, 3], [4]])] + [decoder.step(torch.tensor([5, 6])) for _ in range(3)]
        found.append(torch.stack(logits))
        assert decoder.captured is not replays
    assert torch.allclose(*found, atol=1e-5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("decoding without CUDA graphs, which is slower: Found no NVIDIA driver")


@pytest.mark.gpu
@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_steps_captured_in_cuda_graphs_give_the_answers_of_plain_ones(cuda, guidance):
    model = HRM(CONFIG, seed=2).to(cuda)
    prompts = [[i % VOCABULARY for i in range(first, first + 1 + first % 9)] for first in range(40)]
    limits = [70 if i % 5 == 0 else 5 for i in range(40)]
    plain, captured = (
        (
            generate(model, prompts, max_new_tokens=70, end_id=7, guidance=guidance, captured=how),
            answer_all(model, prompts, limits=limits, end_id=7, rows=8, captured=how),
        )
        for how in (False, True)
    )
    assert captured == plain


@settings(deadline=None, max_examples=25)
@given(prompts=prompts, end_id=tokens)
def test_an_answer_stops_before_the_end_token_whatever_the_other_rows_do(model, prompts, end_id):
    endless = generate(model, prompts, max_new_tokens=12, end_id=NEVER)
    stopped = generate(model, prompts, max_new_tokens=12, end_id=end_id)
    assert stopped == [answer[: answer.index(end_id)] if end_id in answer else answer for answer in endless]


def test_finished_rows_are_removed_when_they_are_a_quarter_of_the_batch(model):
    prompts = [[i, i + 1, 2 * i] for i in range(20)]
    endless = generate(model, prompts, max_new_tokens=10, end_id=NEVER)
    ((end_id, ended),) = Counter(token for answer in endless for token in set(answer[:8])).most_common(1)
    assert ended >= 5
    computed: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, out: computed.append(len(out)))
    with hook:
        generate(model, prompts, max_new_tokens=10, end_id=end_id)
    running = [sum(end_id not in answer[:step] for answer in endless) for step in range(10)]
    assert computed[0] == 20
    assert computed[-1] < 20
    assert all(0.75 * rows < left for rows, left in zip(computed, running, strict=False))


def test_samples_follow_the_softmax_and_the_seed(model):
    prompts = [[1, 2, 3]] * 4000

    def draw(seed: int, temperature: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        answers = generate(model, prompts, max_new_tokens=1, end_id=NEVER, temperature=temperature, generator=generator)
        return torch.tensor(answers)[:, 0]

    first = draw(0, 0.7)
    assert torch.equal(first, draw(0, 0.7))
    assert not torch.equal(first, draw(1, 0.7))
    probabilities = torch.softmax(uncached_logits(model, [1, 2, 3], [])[0] / 0.7, -1)
    shares = torch.bincount(first, minlength=VOCABULARY) / len(prompts)
    assert (shares - probabilities).abs().max() < 4 * 0.5 / len(prompts) ** 0.5


def test_sampling_at_a_low_temperature_equals_greedy_decoding(model):
    prompts = [[1, 2, 3], [4], [9, 9]]
    greedy = generate(model, prompts, max_new_tokens=5, end_id=NEVER)
    assert generate(model, prompts, max_new_tokens=5, end_id=NEVER, temperature=1e-4) == greedy


@settings(deadline=None, max_examples=30)
@given(top_p=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_top_p_samples_from_the_smallest_set_of_that_probability_in_proportion(top_p, seed):
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2
    probabilities = torch.softmax(logits / 0.8, -1)
    ranked = sorted(range(VOCABULARY), key=lambda token: -probabilities[token])
    fewest = next(n for n in range(1, VOCABULARY + 1) if probabilities[ranked[:n]].sum() >= top_p - 1e-6)
    drawn = _choose(logits.expand(3000, -1), 0.8, top_p, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=VOCABULARY) / 3000
    assert set(shares.nonzero().flatten().tolist()) <= set(ranked[:fewest])
    expected = probabilities[ranked[:fewest]] / probabilities[ranked[:fewest]].sum()
    assert (shares[ranked[:fewest]] - expected).abs().max() < 5 * 0.5 / 3000**0.5


class TestGuidance:
    """Auto-guidance extrapolates away from the prediction after HRM's first cycle."""

    @pytest.mark.parametrize("guidance", [0.5, 2.0, -1.0])
    def test_logits_are_extrapolated_from_those_of_the_previous_to_those_of_the_last_cycle(self, model, guidance):
        """A model of one cycle with the same weights gives the prediction after the first cycle."""
        one = HRM(replace(CONFIG, H_cycles=1), seed=2)
        prompts, answer = [[1, 2, 3], [4], [9, 9, 5, 5, 5]], torch.tensor([[3, 4], [5, 6], [7, 8]])
        found = []
        for decoder in (
            Decoder(model, rows=3, capacity=7, guidance=guidance),
            Decoder(model, rows=3, capacity=7),
            Decoder(one, rows=3, capacity=7),
        ):
            with torch.no_grad():
                found.append(torch.stack([decoder.prefill(prompts), *(decoder.step(token) for token in answer.T)]))
        guided, last, before = found
        torch.testing.assert_close(guided, (1 + guidance) * last - guidance * before, atol=2e-5, rtol=1e-4)
        assert (guided - last).abs().max() > 0.01

    def test_it_needs_no_further_application(self, model):
        counts = []
        for guidance in (0.0, 1.0):
            applied: list[str] = []
            hooks = [
                stack.register_forward_hook(lambda *_, name=name, applied=applied: applied.append(name))
                for name, stack in model.named_children()
                if name.endswith("_module")
            ]
            generate(model, [[1, 2], [3]], max_new_tokens=4, end_id=NEVER, guidance=guidance)
            for hook in hooks:
                hook.remove()
            counts.append(Counter(applied))
        assert counts[0] == counts[1] == {"L_module": 24, "H_module": 8}

    def test_it_is_refused_for_a_model_that_writes_the_head_state_once(self):
        model = HRM(ModelConfig(**{**asdict(CONFIG), "architecture": "transformer"}), seed=2)
        with pytest.raises(ValueError, match="and transformer with this schedule has one: set it to 0"):
            generate(model, [[1]], max_new_tokens=2, end_id=NEVER, guidance=1.0)


def test_bf16_decoding_stays_close_to_fp32(device):
    model = HRM(CONFIG, seed=2).to(device)
    prompts = [[1, 2, 3], [4], [9, 9, 5, 5, 5, 7]]
    answer = torch.tensor([[3, 4], [5, 6], [7, 8]], device=device)

    def logits() -> torch.Tensor:
        decoder = Decoder(model, rows=3, capacity=8)
        with torch.no_grad():
            decoder.prefill(prompts)
            decoder.step(answer[:, 0])
            return decoder.step(answer[:, 1]).float()

    exact = logits()
    with torch.autocast(device, torch.bfloat16):
        low = logits()
        assert generate(model, prompts, max_new_tokens=3, end_id=NEVER)
    torch.testing.assert_close(low, exact, atol=0.1, rtol=0.05)


def test_no_prompts_and_no_new_tokens_give_empty_answers(model):
    assert generate(model, [], max_new_tokens=3, end_id=0) == []
    assert generate(model, [[1], [2]], max_new_tokens=0, end_id=0) == [[], []]


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ([], {}, "prompt 1 is empty"),
        ([3, VOCABULARY], {}, f"prompt 1 has token {VOCABULARY}; the model has 0 to {VOCABULARY - 1}"),
        ([3, -1], {}, "prompt 1 has token -1"),
        ([3], {"max_new_tokens": -1}, "max_new_tokens is -1"),
        ([3], {"temperature": -0.5}, "temperature is -0.5"),
        ([3], {"top_p": 0}, "top_p is 0; expected above 0"),
        ([3], {"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_invalid_arguments_are_refused(model, prompt, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(model, [[1], prompt], **{"max_new_tokens": 2, "end_id": 0, **changes})
