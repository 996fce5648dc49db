"""Claim: our model is the `hrm_text` of transformers.

transformers 5 conflicts with other dependencies of this project. The comparison (parity.py) therefore runs in a
separate environment, which is created once and kept in pytest's cache folder.
"""

import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from corpus.contract import CONDITION_TAGS, TEMPLATE, prefix_ids
from corpus.turns import instruction_of
from model.config import ModelConfig
from model.escapes import MARK
from model.export import Template, export
from model.generate import generate
from model.hrm import HRM
from model.loading import LoadedModel, find_checkpoint, load_checkpoint
from tests.model.spelled import model_with_added_tokens, pipeline_ids, spelled_texts
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.data.text import plain_tokenizer

REPOSITORY = Path(__file__).parents[2]
REQUIREMENTS = ("torch==2.13.0", "transformers>=5.9", "safetensors", "numpy", "tokenizers", "jinja2")
ASKED_TOKENS = 5
"""As in parity.py."""
QUESTIONS = (
    {"instruction": "w16 w17 w18", "condition": ["direct"]},
    {"instruction": "w19", "condition": ["cot", "synth"]},
    {"instruction": "w16 w16 w30 w31 w40", "condition": []},
)


def _chats() -> list[dict[str, Any]]:
    """200 chats of 1 to 60 words, with all subsets of conditions; a part with few-shot examples as earlier turns."""
    draw = random.Random(3)
    subsets = [list(s) for size in range(5) for s in itertools.combinations(CONDITION_TAGS, size)]

    def words(most: int) -> str:
        return " ".join(f"w{draw.randrange(16, 130)}" for _ in range(draw.randint(1, most)))

    chats = []
    for number in range(200):
        shots = [{"role": role, "content": words(6)} for _ in range(number % 4) for role in ("user", "assistant")]
        system = [{"role": "system", "content": words(5)}] if number % 5 == 0 else []
        messages = [*system, *shots, {"role": "user", "content": words(60)}]
        chats.append({"messages": messages, "condition": subsets[number % len(subsets)]})
    return chats


CHATS = _chats()
SPELLED = spelled_texts(100)

pytestmark = pytest.mark.slow  # creates an environment with pip: 40 s the first time; the comparison takes 25 s


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> Path:
    """Python of an environment that has transformers 5."""
    key = hashlib.sha256(repr((REQUIREMENTS, sys.version_info[:2])).encode()).hexdigest()[:12]
    assert request.config.cache is not None
    folder = request.config.cache.mkdir(f"transformers-{key}")
    python = folder / "bin" / "python"
    whole = folder / "whole"
    if not whole.exists():
        shutil.rmtree(folder)
        venv.create(folder, with_pip=True)
        pip = subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS], capture_output=True, text=True)
        if pip.returncode != 0:
            last = (pip.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"pip cannot install {', '.join(REQUIREMENTS)} here: {last}")
        whole.touch()
    return python


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run."""
    folder = tmp_path_factory.mktemp("run")
    manifest = write_manifest(folder, write_dataset(folder / "data"))
    run(sys.executable, "-m", "trainer.train", manifest, "epochs=null", "steps=6", "optimizer.lr=3e-3")
    return folder / "run"


@pytest.fixture(scope="session")
def found(python: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Measurements of parity.py."""
    folder = tmp_path_factory.mktemp("parity")
    run(sys.executable, "-m", "model.export", trained, folder / "exported")
    (folder / "questions.json").write_text(json.dumps(QUESTIONS))
    (folder / "chats.json").write_text(json.dumps(CHATS))
    export(asked(trained), folder / "asked", template=Template(**TEMPLATE), max_positions=256)
    (folder / "spelled.json").write_text(json.dumps(SPELLED))
    export(model_with_added_tokens(), folder / "spelled", template=Template(**TEMPLATE), max_positions=256)
    found: dict[str, Any] = json.loads(run(python, "-m", "tests.model.parity", folder).splitlines()[-1])
    return found


def asked(trained: Path) -> LoadedModel:
    """A model with random weights, whose answers depend on the mask, and a tokenizer of words."""
    tokenizer = load_checkpoint(find_checkpoint(trained))
    shape = {"num_layers": 4, "hidden_size": 64, "num_heads": 4, "head_dim": 16, "intermediate_size": 128}
    random_model = HRM(ModelConfig(vocab_size=tokenizer.model.config.vocab_size, **shape), seed=5).eval()
    return LoadedModel(model=random_model, tokenizer_json=tokenizer.tokenizer_json, special=tokenizer.special)


def run(*command: str | Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
def test_logits_gradients_and_continuations_are_those_of_transformers(
    found: dict[str, Any], direction: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(title=f"{direction}, {found['versions']}", title_justify="left")
    for name in ("shape", "max |difference of logits|", "gradients at K = 5, relative", "greedy answers that differ"):
        table.add_column(name, justify="left" if name == "shape" else "right")
    for shape, measured in found[direction].items():
        differences = (f"{measured['logits']:.1e}", f"{measured['gradients']:.1e}", str(measured["continuations"]))
        table.add_row(shape, *differences)
    with capsys.disabled():
        Console(width=120).print("", table)
    assert len(found[direction]) == 3
    for measured in found[direction].values():
        assert measured["logits"] <= 1e-4
        assert measured["gradients"] <= 1e-5
        assert measured["continuations"] == 0
        assert measured["warnings"] == []


def test_an_exported_checkpoint_loads_without_a_warning_and_gives_the_same_answers(
    found: dict[str, Any], trained: Path
) -> None:
    ours = load_checkpoint(find_checkpoint(trained))
    tokenizer, end = ours.tokenizer, ours.special["<|box_end|>"]
    prompts = [prefix_ids(ours.special, q["condition"], encode(tokenizer, q["instruction"])) for q in QUESTIONS]
    exported = found["exported"]
    assert exported["warnings"] == []
    assert exported["prompts"] == prompts
    answers = generate(ours.model, prompts, max_new_tokens=8, end_id=end)
    theirs = [[token for token in answer if token != end] for answer in exported["answers"]]
    assert theirs == answers


def test_example_of_the_model_card_prints_our_answer(found: dict[str, Any], trained: Path) -> None:
    ours = load_checkpoint(find_checkpoint(trained))
    ids = encode(plain_tokenizer(ours.tokenizer), "What is 12 + 30?")
    end = ours.special["<|box_end|>"]
    (answer,) = generate(ours.model, [prefix_ids(ours.special, [], ids)], max_new_tokens=64, end_id=end)
    assert found["card"] == ours.tokenizer.decode(answer) + "\n"


def test_every_way_of_asking_that_knows_the_prefix_gives_our_answers_to_200_chats(
    found: dict[str, Any], trained: Path
) -> None:
    ours, measured = asked(trained), found["asked"]
    texts = [instruction_of([(m["role"], m["content"]) for m in chat["messages"]]) for chat in CHATS]
    ids = [encode(plain_tokenizer(ours.tokenizer), text) for text in texts]
    prompts = [prefix_ids(ours.special, chat["condition"], i) for chat, i in zip(CHATS, ids, strict=True)]
    assert measured["prompts"] == prompts
    expected = generate(ours.model, prompts, max_new_tokens=ASKED_TOKENS, end_id=-1)
    assert measured["ways"].pop("remote code, padded batches") == expected
    for way, answers in measured["ways"].items():
        assert answers == expected[: len(answers)], way
    unmarked = measured["unmarked"]  # why the marks matter
    assert sum(a != b for a, b in zip(unmarked, expected, strict=False)) > len(unmarked) / 4
    assert "trust_remote_code=True" in measured["untrusted pipeline"]
    assert [message for message in measured["warnings"] if "causal" in message] == []


def test_options_are_scored_with_the_prompt_as_prefix(found: dict[str, Any], trained: Path) -> None:
    ours = asked(trained)
    for prompt, loss in zip(found["asked"]["prompts"], found["asked"]["loss"], strict=False):
        rest = torch.arange(20, 25)
        tokens = torch.cat((torch.tensor(prompt), rest))[None]
        with torch.no_grad():
            logits = ours.model.logits(tokens, torch.tensor([len(prompt)]))[0, len(prompt) - 1 : -1]
        assert loss == pytest.approx(F.cross_entropy(logits, rest).item(), abs=1e-4)


def test_tags_that_a_text_spells_are_text_by_every_way_of_writing_a_prompt(found: dict[str, Any]) -> None:
    ours = model_with_added_tokens()
    texts = [pipeline_ids(ours.tokenizer_json, text) for text in SPELLED]
    prompts = [prefix_ids(ours.special, [], ids) for ids in texts]
    measured = found["spelled"]
    pairs = [prefix_ids(ours.special, [], [*ids, *ids]) for ids in texts]
    assert measured.pop("trusted, pairs") == pairs
    read_as_tags, split = measured.pop("plain, text"), measured.pop("plain, split")
    assert len(measured) == 14
    for way, ids in measured.items():
        assert ids == prompts, way
    # What the model card says of the class of transformers, given a text without the chat template.
    assert sum(a != b for a, b in zip(read_as_tags, prompts, strict=True)) > len(prompts) / 2
    assert all(a == b for a, b, text in zip(split, prompts, SPELLED, strict=True) if MARK not in text)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
