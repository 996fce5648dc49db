"""Claims about answering many prompts with continuous batching."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batching import answer_all, next_tokens
from model.config import ModelConfig
from model.generate import generate
from model.hrm import HRM
from tests.model.packing import VOCABULARY

CONFIG = ModelConfig(
    vocab_size=VOCABULARY, num_layers=4, hidden_size=24, num_heads=3, head_dim=10, intermediate_size=40
)
tokens = st.integers(0, VOCABULARY - 1)
prompts = st.lists(st.lists(tokens, min_size=1, max_size=9), min_size=1, max_size=12)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they save on a model of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> HRM:
    return HRM(CONFIG, seed=2)


@settings(deadline=None, max_examples=10)
@given(prompts=prompts, end_id=tokens, rows=st.integers(1, 6), data=st.data())
def test_greedy_answers_are_those_of_one_prompt_at_a_time(model, prompts, end_id, rows, data):
    limits = data.draw(st.lists(st.integers(0, 14), min_size=len(prompts), max_size=len(prompts)))
    expected = [
        generate(model, [prompt], max_new_tokens=limit, end_id=end_id)[0]
        for prompt, limit in zip(prompts, limits, strict=True)
    ]
    for captured in (False, True):  # on a CPU without a graph
        assert answer_all(model, prompts, limits=limits, end_id=end_id, rows=rows, captured=captured) == expected


@settings(deadline=None, max_examples=10)
@given(prompts=prompts, rows=st.integers(1, 6))
def test_next_tokens_are_the_first_of_the_answers(model, prompts, rows):
    expected = [generate(model, [prompt], max_new_tokens=1, end_id=VOCABULARY)[0] for prompt in prompts]
    assert [[token] for token in next_tokens(model, prompts, rows=rows)] == expected


def test_rows_that_finish_are_given_to_the_next_prompts(model):
    """Answers of very different lengths: all positions together are few more than those of the answers."""
    prompts = [[i, i + 1] for i in range(20)]
    limits = [40 if i % 5 == 0 else 4 for i in range(20)]
    computed: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, out: computed.append(len(out)))
    with hook:
        answers = answer_all(model, prompts, limits=limits, end_id=VOCABULARY, rows=4)
    assert [len(answer) for answer in answers] == limits
    assert sum(computed) < 1.5 * sum(limits)
    in_groups_of_four = sum(4 * max(limits[i : i + 4]) for i in range(0, 20, 4))
    assert sum(computed) < in_groups_of_four / 2


def test_a_prompts_tokens_see_what_follows_them_so_shared_beginnings_have_no_shared_states(model):
    """Under the PrefixLM mask the state of an example depends on the question after it, under a causal mask not."""
    shared = [3, 1, 4, 1, 5]
    for mask, is_shared in (("prefix_lm", False), ("causal", True)):
        hrm = HRM(replace(CONFIG, mask=mask), seed=2)
        found = [
            hrm.logits(torch.tensor([shared + rest]), torch.tensor([7]))[0, : len(shared)] for rest in ([9, 2], [6, 5])
        ]
        assert torch.allclose(*found, atol=1e-5) == is_shared


def test_prompts_that_the_model_cannot_read_are_refused(model):
    for bad in ([], [VOCABULARY]):
        with pytest.raises(ValueError, match="prompt 1"):
            answer_all(model, [[1], bad], limits=[2, 2], end_id=0, rows=2)
        with pytest.raises(ValueError, match="prompt 1"):
            next_tokens(model, [[1], bad], rows=2)
