"""Every command refuses every kind of wrong input with one line and the exit code that `corpus.cli` documents."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from corpus.cli import EXIT_CODES, FAILED, MISUSED, Main
from model import command
from tests.captured import run_captured

REPOSITORY = Path(__file__).parents[1]
COMMANDS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]["millrace.commands"]
TRAIN = REPOSITORY / "manifests/train.yaml"

PLACES = {
    "missing": "nowhere",
    "a file": "file.txt",
    "a foreign folder": "foreign",
    "an empty folder": "empty",
    "nothing in a store": "memory://nowhere/place",
    "no such store": "nostore://place/folder",
    "nothing": "",
}
"""Kinds of places without a dataset, a checkpoint, a run or a manifest."""
READERS: dict[str, list[str]] = {
    "verify": ["PLACE"],
    "explain": ["PLACE", "abc"],
    "audit": ["PLACE"],
    "contamination": ["PLACE", "--eval", "held", "--scores", "scores.jsonl"],
    "inspect": ["PLACE"],
    "generate": ["PLACE", "How much is 2 + 2?"],
    "checkpoints": ["PLACE"],
    "diagnose": ["PLACE", "foreign"],
    "report": ["PLACE"],
    "export": ["PLACE", "exported"],
    "train": [str(TRAIN), "data=PLACE", "out=run"],
    "benchmark": ["PLACE", "--tasks", "gsm8k", "--file", "gsm8k.test=questions.jsonl"],
}
"""Commands with a place that they read."""
MISUSES: dict[str, list[list[str]]] = {
    "build": [
        *([place] for place in PLACES.values()),
        ["list.yaml"],
        ["mix.yaml"],
        ["mix.yaml", "--executor", "threads"],
        ["mix.yaml", "--memory", "plenty"],
        ["mix.yaml", "--workers", "0"],
        ["mix.yaml", "sede=1"],
        ["mix.yaml", "seed"],
    ],
    "train": [
        *([place] for place in PLACES.values()),
        ["list.yaml"],
        [str(TRAIN), "sede=1"],
        [str(TRAIN), "seed"],
        [str(TRAIN), "device=tpu"],
        [str(TRAIN), "data="],
        [str(TRAIN), "data=nostore://place/folder"],
        [str(TRAIN), "--ranks", "2"],
    ],
    "verify": [["foreign", "--depth", "3"]],
    "explain": [["foreign"], ["foreign", "--near", "0"], ["foreign", "abc", "--row", "3"]],
    "audit": [["foreign", "--sample", "none"]],
    "contamination": [["foreign", "--eval", "held"], ["foreign", "--eval", "a", "--scores", "b", "--n", "0"]],
    "inspect": [["foreign", "--sample", "-1"], ["foreign", "--dropped"]],
    "generate": [
        ["foreign", "hello", "--condition", "polite"],
        ["foreign", " "],
        ["foreign", "hello", "--device", "cuda"],
        ["foreign", "hello", "--device", "tpu"],
        ["foreign", "--file", "nowhere.jsonl", "--out", "answers.jsonl"],
        ["foreign", "hello", "--temperature", "-1"],
    ],
    "benchmark": [
        ["foreign"],
        ["foreign", "--tasks", "gsm9k"],
        ["foreign", "--tasks", "gsm8k", "--device", "cuda"],
        ["foreign", "--task-file", "nowhere.yaml"],
        ["foreign", "--tasks", "gsm8k", "--shots", "gsm8k=many"],
    ],
    "diagnose": [["foreign"], ["foreign", "foreign", "--device", "cuda"], ["foreign", "foreign", "--weights", "best"]],
    "checkpoints": [[], ["a", "b"]],
    "report": [["foreign"] * 9, ["foreign", "--format", "pdf"]],
    "export": [["foreign", "empty"], ["foreign", "new", "--license", "Do What You Like"]],
    "flops": [["--size", "huge"], ["--k", "0"], ["--length", "-1"]],
}
"""Command lines of each command that cannot be used."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the files that the command lines name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/notes.txt").write_text("notes\n")
    (tmp_path / "file.txt").write_text("notes: [\n")
    (tmp_path / "list.yaml").write_text("[a, list]\n")
    (tmp_path / "mix.yaml").write_text("{name: mix, sources: [{name: rows, path: nowhere.jsonl}]}\n")
    (tmp_path / "scores.jsonl").write_text('{"item": "a", "score": 1}\n' * 2)
    (tmp_path / "questions.jsonl").write_text('{"question": "How much is 2 + 2?", "answer": "It is 4. #### 4"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def main_of(name: str) -> Main:
    module, function = COMMANDS[name].split(":")
    main: Main = getattr(import_module(module), function)
    return main


def check(folder: Path, name: str, arguments: list[str], code: int) -> None:
    before = sorted(folder.rglob("*"))
    found, text = run_captured(main_of(name), *arguments)
    assert found == code, text
    assert len(re.findall("^(?:error|Error): ", text, re.M)) == 1, text
    assert "Traceback" not in text
    new = {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path not in before}
    assert new <= {"run"}, "a command that is refused writes nothing but the folder of a run"


def test_every_command_has_cases() -> None:
    assert {*READERS, *MISUSES} == {*COMMANDS}
    assert set(COMMANDS) - set(MISUSES) == set()


CASES = [(name, kind) for name in READERS for kind in PLACES]
CASES.remove(("train", "no such store"))  # a key of the manifest that cannot be used
CASES.remove(("train", "nothing"))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_place_without_what_a_command_reads_is_a_failure(folder: Path, name: str, kind: str) -> None:
    check(folder, name, [argument.replace("PLACE", PLACES[kind]) for argument in READERS[name]], FAILED)


@pytest.mark.parametrize(
    ("name", "arguments"), [(name, arguments) for name, lines in MISUSES.items() for arguments in lines]
)
def test_a_command_line_that_cannot_be_used_is_a_misuse(folder: Path, name: str, arguments: list[str]) -> None:
    check(folder, name, arguments, MISUSED)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_with_the_exit_codes(name: str) -> None:
    code, text = run_captured(main_of(name), "--help")
    assert code == 0
    assert f"\n  {EXIT_CODES}" in text
    assert command.EXIT_CODES == EXIT_CODES
