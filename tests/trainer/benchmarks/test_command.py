"""Claims about `python -m trainer.benchmark` on a small model: results, kills, ranks, refusals."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from corpus.contract import END_OF_RESPONSE, SPECIAL_TOKENS, prefix_ids
from model import hf
from model.config import ModelConfig
from model.generate import generate
from model.hrm import HRM
from tests.trainer.benchmarks.fixtures import write_rows
from tests.trainer.processes import CONTEXT
from trainer.benchmark import main
from trainer.benchmarks.answerer import ModelAnswerer, Request
from trainer.benchmarks.identity import model_identity
from trainer.checkpointing.load import load_model

QUESTIONS = 60


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they save on a model of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in the Hugging Face format, and two tasks."""
    folder = tmp_path_factory.mktemp("benchmark")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    shape = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "head_dim": 8, "intermediate_size": 24}
    (folder / "hf").mkdir()
    hf.save(HRM(ModelConfig(vocab_size=len(vocabulary), **shape), seed=5), folder / "hf", max_positions=64)
    tokenizer.save(str(folder / "hf/tokenizer.json"))
    rows = [{"question": f"{i}?" + "x" * (i % 9), "answer": str(i)} for i in range(QUESTIONS)]
    write_rows(folder / "words.jsonl", rows)
    (folder / "words.yaml").write_text("{name: words, file: words.jsonl, type: exact, context: 40, max_new_tokens: 6}")
    row = {"question": "Which?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
    write_rows(folder / "data/arc_c/test.jsonl", [{**row, "question": f"Which, {i}?"} for i in range(20)])
    write_rows(folder / "data/arc_c/validation.jsonl", [row] * 25)
    return folder


def arguments(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        *(str(folder / "hf"), "--out", str(out), "--task-file", str(folder / "words.yaml")),
        *("--tasks", "arc_c", "--data", str(folder / "data"), "--batch", "2", "--device", "cpu", *more),
    ]


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, bytes]:
    """The files of an uninterrupted run of one rank."""
    assert main(arguments(folder, folder / "whole")) == 0
    return files_in(folder / "whole")


def files_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_answers_are_those_of_one_prompt_at_a_time_and_cut_at_the_context(folder: Path) -> None:
    model, tokenizer, special = load_model(folder / "hf")
    prompts = [f"{i}?" + "y" * (i % 9) for i in range(30)] + ["z" * 40, "z" * 36]
    requests = [Request(prompt=p, conditions=["cot", "synth"], context=40, max_new_tokens=9) for p in prompts]
    answers = ModelAnswerer(model, tokenizer, special, rows=4).answer(requests)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = prefix_ids(special, ["synth", "cot"], [special_free(tokenizer, c) for c in prompt])
        assert answer.prompt_tokens == len(ids) == len(prompt) + 4
        room = max(0, min(9, 40 - len(ids)))
        (alone,) = generate(model, [ids], max_new_tokens=room, end_id=special[END_OF_RESPONSE])
        assert answer.text == tokenizer.decode(alone, skip_special_tokens=False)
        assert (answer.new_tokens, answer.is_cut) == (len(alone), len(alone) == room)
    assert [(a.text, a.new_tokens) for a in answers[-2:]] == [("", 0), ("", 0)]


def test_sampled_answers_depend_on_the_seed_and_not_on_what_is_asked_beside_them(folder: Path) -> None:
    model, tokenizer, special = load_model(folder / "hf")

    def request(prompt: str, seed: int) -> Request:
        return Request(
            prompt=prompt, conditions=["cot"], context=40, max_new_tokens=6, answers=5, temperature=0.6, seed=seed
        )

    answerer = ModelAnswerer(model, tokenizer, special, rows=2)
    first, second = request("1?", 1), request("22?", 2)
    both = answerer.answer([first, second])
    assert both == answerer.answer([first]) + answerer.answer([second])
    assert len({answer.text for answer in both[:5]}) > 1
    assert both[:5] != answerer.answer([request("1?", 3)])
    assert all(answer.new_tokens <= 6 for answer in both)


def special_free(tokenizer: Tokenizer, character: str) -> int:
    token = tokenizer.token_to_id(character)
    assert token is not None
    return int(token)


def test_results_name_the_model_and_cover_all_questions(expected: dict[str, bytes]) -> None:
    assert set(expected) == {"results.json", "questions.parquet", "index.html"}
    content = json.loads(expected["results.json"])
    assert set(content["tasks"]) == {"arc_c", "words"}
    assert [content["tasks"][name]["n"] for name in ("arc_c", "words")] == [20, QUESTIONS]
    assert content["tasks"]["arc_c"]["settings"]["shots"] == 25
    assert content["tasks"]["arc_c"]["deviations"] == [
        "20 questions instead of 1,172",
        "precision fp32 instead of bf16",
    ]
    assert content["model"]["precision"] == "fp32"


def test_equal_weights_have_equal_hashes_wherever_they_are_loaded_from(folder: Path, tmp_path: Path) -> None:
    model, tokenizer, special = load_model(folder / "hf")
    hf.save(model, tmp_path, max_positions=99)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def identity(loaded: tuple[HRM, Tokenizer, dict[str, int]]) -> dict[str, object]:
        return model_identity(*loaded, precision="fp32", device=torch.device("cpu"), batch=2)

    first = identity(load_model(tmp_path))
    assert first == identity((model, tokenizer, special))
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    assert first["weights_xxh3_128"] != identity((model, tokenizer, special))["weights_xxh3_128"]


def start(command: list[str], log: Path, **environment: str) -> BaseProcess:
    process = CONTEXT.Process(target=_run, args=(command, str(log), environment))
    process.start()
    return process


def _run(command: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(main(command))


def finish(processes: list[BaseProcess], log: Path) -> None:
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes), log.read_text()


@pytest.mark.slow  # starts six processes
def test_killed_at_five_moments_it_gives_the_files_of_an_uninterrupted_run(
    folder: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    journal, log = tmp_path / "out/journal", tmp_path / "log.txt"
    for lines in (0, 1, 3, 5, 8):
        process = start(arguments(folder, tmp_path / "out"), log)
        while process.is_alive() and sum(p.read_bytes().count(b"\n") for p in journal.glob("*")) < lines:
            time.sleep(0.002)
        process.kill()
        process.join()
        assert lines == 0 or process.exitcode == -9
    finish([start(arguments(folder, tmp_path / "out"), log)], log)
    assert files_in(tmp_path / "out") == expected


@pytest.mark.slow  # starts two processes
def test_two_ranks_give_the_files_of_one(folder: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    log = tmp_path / "log.txt"
    command = arguments(folder, tmp_path / "out")
    finish([start(command, log, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in (0, 1)], log)
    assert files_in(tmp_path / "out") == expected
    by_rank = [path.read_bytes().count(b"\n") for path in sorted((tmp_path / "out/journal").glob("words-*"))]
    assert len(by_rank) == 2
    assert sum(by_rank) == -(-QUESTIONS // 8)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (
            ["--tasks", "humaneval"],
            2,
            "runs it with --execute",
        ),
        (["--tasks", "gsm9k"], 2, "unknown task 'gsm9k'; did you mean 'gsm8k'"),
        (["--tasks", "gsm8k"], 1, "gsm8k: found no file of the split 'test'"),
        (["--tasks", "gsm8k", "--file", "arc=x"], 2, "expected TASK.SPLIT=PATH with a task of this run"),
        (["--tasks", "gsm8k", "--shots", "gsm8k=few"], 2, "expected TASK=N with a task of this run"),
        ([], 2, "no task: name some by --tasks or --task-file"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_model_is_loaded(
    more: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["no/such/model", "--data", str(tmp_path), *more]) == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_help_imports_neither_torch_nor_numpy() -> None:
    program = (
        "import sys; from trainer.benchmark import main; main(['--help']); "
        "sys.exit(len({'torch', 'numpy', 'pyarrow', 'polars'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
