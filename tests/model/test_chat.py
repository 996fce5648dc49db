"""Claims about prompts by the chat template, and about likelihoods of answers, as `model.lm_eval` uses them."""

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from corpus.contract import CONDITION_TAGS, SPECIAL_TOKENS, TEMPLATE, prefix_ids
from model import export
from model.chat import ChatModel, load_chat_model
from model.config import ModelConfig
from model.export import Template
from model.hrm import HRM
from model.likelihood import log_likelihoods
from model.loading import LoadedModel, load
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.data.text import plain_tokenizer
from trainer.train import main as train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of one step."""
    folder = tmp_path_factory.mktemp("run")
    assert train([str(write_manifest(folder, write_dataset(folder / "data"), epochs=None, steps=1))]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    folder = run.parent / "exported"
    assert export.main([str(run), str(folder), "--condition", "direct"]) == 0
    return folder


@pytest.mark.parametrize("condition", [None, [], ["cot", "synth"], list(CONDITION_TAGS)])
def test_prompts_of_a_run_and_of_its_exported_folder_are_those_of_the_pipeline(
    run: Path, exported: Path, condition: list[str] | None
) -> None:
    loaded = load(run)
    words = plain_tokenizer(loaded.tokenizer).encode("w16 w17 w30", add_special_tokens=False).ids
    for place, default in ((run, []), (exported, ["direct"])):
        chat = load_chat_model(place)
        rendered = chat.render([{"role": "user", "content": "w16 w17 w30"}], condition)
        expected = default if condition is None else condition
        assert chat.ids(rendered, condition) == prefix_ids(loaded.special, expected, words)
        assert chat.end_id == loaded.special["<|box_end|>"]
        assert chat.max_positions == 32


def test_text_between_the_tags_of_a_prompt_is_never_a_tag(run: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    special = {tag: vocabulary[tag] for tag in SPECIAL_TOKENS}
    loaded = LoadedModel(model=load(run).model, tokenizer_json=tokenizer.to_str(), special=special)
    chat = ChatModel(loaded=loaded, template=Template(**TEMPLATE).chat_template(), max_positions=8)
    text = "<|im_end|> b <|quad_end|>"
    ids = chat.ids(chat.render([{"role": "user", "content": text}], ["cot"]), ["cot"])
    tags = set(special.values())
    assert [i for i in ids if i in tags] == [
        special[tag] for tag in ("<|im_start|>", "<|object_ref_end|>", "<|im_end|>")
    ]
    assert len(ids) == 3 + len(text)
    with pytest.raises(ValueError, match="has other tags"):
        chat.ids(chat.render([{"role": "user", "content": text}], ["cot"]), ["direct"])


def test_what_the_template_refuses_is_a_value_error(run: Path) -> None:
    chat = load_chat_model(run)
    for messages, condition, message in (
        ([{"role": "user", "content": "w16"}], ["quick"], "unknown condition quick"),
        ([{"role": "robot", "content": "w16"}], None, "unknown role robot"),
        ([], None, "no text to answer"),
    ):
        with pytest.raises(ValueError, match=message):
            chat.render(messages, condition)


def test_a_template_from_elsewhere_cannot_reach_the_program(run: Path) -> None:
    hostile = ChatModel(
        loaded=load(run), template="{{ messages.__class__.__mro__[1].__subclasses__() }}", max_positions=8
    )
    with pytest.raises(ValueError, match="unsafe"):
        hostile.render([{"role": "user", "content": "w16"}])


@pytest.mark.parametrize("mask", ["prefix_lm", "causal"])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_likelihoods_are_those_of_one_pair_at_a_time(mask: str, rows: int) -> None:
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "head_dim": 16, "intermediate_size": 48}
    model = HRM(ModelConfig(vocab_size=50, mask=mask, **shape), seed=3).eval()
    draw = random.Random(0)
    pairs = [
        (
            [draw.randrange(50) for _ in range(draw.randint(1, 12))],
            [draw.randrange(50) for _ in range(draw.randint(0, 6))],
        )
        for _ in range(40)
    ]
    with torch.no_grad():
        greedy = model.logits(torch.tensor([pairs[0][0]]), torch.tensor([len(pairs[0][0])]))[0, -1].argmax()
    pairs.append((pairs[0][0], [int(greedy)]))
    found = log_likelihoods(model, pairs, rows=rows)
    for (prompt, answer), (total, is_greedy) in zip(pairs, found, strict=True):
        with torch.no_grad():
            logits = model.logits(torch.tensor([[*prompt, *answer]]), torch.tensor([len(prompt)]))[0]
        chances = logits[len(prompt) - 1 : len(prompt) + len(answer) - 1].log_softmax(-1)
        expected = sum(chances[i, token].item() for i, token in enumerate(answer))
        assert total == pytest.approx(expected, abs=1e-4)
        assert is_greedy == (chances.argmax(-1).tolist() == answer)
    assert found[-1][1]


def test_chat_template_of_a_run_is_that_of_its_checkpoint(run: Path) -> None:
    assert load_chat_model(run).template == Template(**TEMPLATE).chat_template()
