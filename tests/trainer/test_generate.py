"""Claims about the command that asks a trained model: once, in a prompt loop, or a file of prompts."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.generate as command
from corpus.contract import END_OF_RESPONSE, prefix_ids
from corpus.terminal import printable
from model.generate import generate
from model.loading import load
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.answers import write_answers
from trainer.generate import main
from trainer.train import main as train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run."""
    folder = tmp_path_factory.mktemp("run")
    manifest = write_manifest(folder, write_dataset(folder / "data"), epochs=None, steps=10)
    assert train([str(manifest)]) == 0
    return folder / "run"


def ask(trained: Path, words: str, conditions: tuple[str, ...] = (), tokens: int = 4) -> str:
    """The model's greedy answer to an instruction of words."""
    loaded = load(trained)
    ids = loaded.tokenizer.encode(words, add_special_tokens=False).ids
    end = loaded.special[END_OF_RESPONSE]
    (answer,) = generate(loaded.model, [prefix_ids(loaded.special, conditions, ids)], max_new_tokens=tokens, end_id=end)
    return str(loaded.tokenizer.decode(answer, skip_special_tokens=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["w20", "--condition", "fast"], "--condition is 'fast'; expected one of synth, noisy, cot, direct"),
        (["  "], "the instruction is empty"),
        (["\udcff"], "the instruction is not UTF-8 text"),
        (["w20", "--system", "\udcff"], "--system is not UTF-8 text"),
        (["w20", "--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["w20", "--chat"], "--chat is for the prompt loop"),
        (["--file", "prompts.jsonl"], "--file needs --out"),
        (["--file", "prompts.jsonl", "--out", "no/such/out.jsonl"], "there is no folder"),
        (["--file", "nothing.jsonl", "--out", "out.jsonl"], "nothing.jsonl: cannot be read"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["no/such/checkpoint", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_device_that_is_not_there_is_refused_before_anything_is_loaded(capsys: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert main(["no/such/checkpoint", "w20", "--device", "cuda"]) == 2
    assert "torch finds no CUDA device here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "is list; expected an object with instruction or messages"),
        ("{", "line 2: Expecting property name"),
        ('{"instruction": ""}', "the prompt is empty"),
        ('{"instruction": 3}', "instruction: expected text"),
        ('{"instruction": "w20", "messages": []}', "expected one of instruction and messages"),
        ('{"instruction": "w20", "condition": ["fast"]}', "unknown condition 'fast'"),
        ('{"instruction": "w20", "condition": "cot"}', "condition: expected a list of names"),
        ('{"instruction": "\\ud800"}', "the prompt is not UTF-8 text"),
        ('{"messages": [{"role": "robot", "content": "w20"}]}', "unknown role 'robot'"),
        ('{"messages": [{"role": "user"}]}', "content: expected text"),
        ('{"messages": "w20"}', "messages: expected a list of objects"),
        ('{"messages": [{"role": "assistant", "content": "w20"}]}', "the last message is of the assistant"),
    ],
)
def test_line_that_is_no_prompt_is_named_before_anything_is_loaded(
    tmp_path: Path, capsys: Any, line: str, message: str
) -> None:
    (tmp_path / "prompts.jsonl").write_text(f'{{"instruction": "w20"}}\n{line}\n')
    arguments = ["--file", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert main(["no/such/checkpoint", *arguments]) == 2
    error = capsys.readouterr().err
    assert "prompts.jsonl, line 2: " in error
    assert message in error


def test_prompt_loop_answers_each_line_alone(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("w20 w21\n\n  w22  \n"))
    capsys.readouterr()
    assert main([str(trained), "--condition", "cot", "--max-new-tokens", "4"]) == 0
    assert capsys.readouterr().out.splitlines() == [ask(trained, words, ("cot",)) for words in ("w20 w21", "w22")]


def test_chat_repeats_earlier_turns_by_the_rule_of_a_build(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("w20\nw21\n"))
    capsys.readouterr()
    assert main([str(trained), "--chat", "--system", "w30", "--max-new-tokens", "4"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == ask(trained, "w30 w20")
    assert second == ask(trained, f"w30 User: w20 Assistant: {first} User: w21")


def test_control_characters_of_an_answer_do_not_reach_the_terminal(capsys: Any) -> None:
    sampling = command.Sampling(max_new_tokens=9, temperature=0, top_p=1, seed=0, guidance=0, precision="fp32")
    command._print("a\x1b]0;title\x07\tb\n\x9bc\r", True, sampling)
    assert capsys.readouterr().out == "a\ufffd]0;title\ufffd\tb\n\ufffdc\ufffd\n"
    assert printable("é\u4e2d") == "é\u4e2d"


def write_prompts(folder: Path, count: int) -> Path:
    rows: list[dict[str, Any]] = [{"instruction": f"w{20 + i} w21", "id": i} for i in range(count)]
    rows[1] = {"messages": [{"role": "system", "content": "w30"}, {"role": "user", "content": "w31"}], "id": 1}
    rows[2]["condition"] = ["direct"]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return folder / "prompts.jsonl"


def test_file_of_prompts_is_answered_in_its_order(trained: Path, tmp_path: Path, capsys: Any) -> None:
    prompts, out = write_prompts(tmp_path, 7), tmp_path / "out.jsonl"
    arguments = [str(trained), "--file", str(prompts), "--out", str(out), "--max-new-tokens", "4", "--batch", "3"]
    assert main([*arguments, "--condition", "cot"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == list(range(7))
    assert rows[0]["answer"] == ask(trained, "w20 w21", ("cot",))
    assert rows[1]["answer"] == ask(trained, "w30 w31", ("cot",))
    assert rows[2]["answer"] == ask(trained, "w22 w21", ("direct",))
    assert all(isinstance(row["is_complete"], bool) for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "prompts.jsonl"]
    assert main(arguments) == 2
    assert "exists; name a new file" in capsys.readouterr().err


class KilledError(Exception):
    pass


@pytest.mark.parametrize("cut", range(0, 700, 41))
def test_killed_file_of_answers_continues_to_the_same_bytes(tmp_path: Path, cut: int) -> None:
    """The partial file is cut at any byte, as a kill may leave it."""
    calls: list[int] = []

    def answer(begin: int, end: int) -> list[dict[str, int | str]]:
        calls.append(begin)
        return [{"row": row, "answer": "é" * (row % 5)} for row in range(begin, end)]

    settings = {"seed": 1}
    assert write_answers(tmp_path / "whole", settings=settings, count=17, batch=3, answer=answer) == 0
    whole = (tmp_path / "whole").read_bytes()
    content = b'{"settings": {"seed": 1}}\n' + whole
    (tmp_path / "out.partial").write_bytes(content[:cut])
    calls.clear()
    done = write_answers(tmp_path / "out", settings=settings, count=17, batch=3, answer=answer)
    assert (tmp_path / "out").read_bytes() == whole
    assert done % 3 == 0
    assert calls == list(range(done, 17, 3))


def test_answers_of_other_settings_are_not_continued(trained: Path, tmp_path: Path, capsys: Any) -> None:
    prompts, out = write_prompts(tmp_path, 7), tmp_path / "out.jsonl"
    arguments = [str(trained), "--file", str(prompts), "--out", str(out), "--max-new-tokens", "4"]

    def killed(begin: int, end: int) -> list[dict[str, Any]]:
        raise KilledError

    with pytest.raises(KilledError):
        write_answers(out, settings={"seed": 0}, count=7, batch=32, answer=killed)
    assert not out.exists()
    assert main([*arguments, "--seed", "3"]) == 2
    assert "out.jsonl.partial: was written with other settings" in capsys.readouterr().err
    (tmp_path / "out.jsonl.partial").unlink()
    assert main([*arguments, "--seed", "3"]) == 0
