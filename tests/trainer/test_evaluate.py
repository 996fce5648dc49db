"""Claims about held-out evaluation and about `trainer.generate`."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import s3fs
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from corpus.contract import END_OF_RESPONSE, SPECIAL_TOKENS
from model.config import config_for
from model.generate import generate
from model.hrm import HRM
from tests.trainer.fixtures import write_manifest
from trainer import evaluate as evaluation
from trainer import generate as generate_command
from trainer import train
from trainer.checkpointing.load import load_model
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.fetch import DatasetError
from trainer.data.text import plain_tokenizer
from trainer.evaluate import evaluate, read_questions


def with_questions(data: Path, tmp_path: Path, rows: list[dict[str, object]]) -> Dataset:
    """The dataset with these held-out questions."""
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return replace(open_dataset(str(data), tmp_path / "cache"), eval_files=(path,))


def question(number: int, words: int, *, source: str = "heldout", task: str = "a") -> dict[str, object]:
    instruction = " ".join(f"w{20 + number * 7 % 90 + i}" for i in range(words))
    response = " ".join(f"w{30 + number * 3 % 90 + i}" for i in range(1 + number % 4))
    return {
        "row_id": f"{number:032x}",
        "source": source,
        "task": task,
        "instruction": instruction,
        "response": response,
        "condition": ["direct"] if number % 2 else [],
    }


def small_model(dataset: Dataset, **cycles: int) -> HRM:
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "head_dim": 16}
    return HRM(config_for("tiny", dataset.vocab_size, **shape, **cycles))


@pytest.fixture
def dataset(data: Path, tmp_path: Path) -> Dataset:
    rows = [question(i, 1 + i % 6, task="a" if i % 3 else "b") for i in range(24)]
    return with_questions(data, tmp_path, rows)


def learn(model: HRM, dataset: Dataset, steps: int) -> None:
    """Learn the first half of the questions verbatim."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows = [[question] for question in read_questions(dataset, dataset.tokenizer(), rows_per_family=24)]
    batch = evaluation.pack_questions(rows[:12], 16)
    for _ in range(steps):
        optimizer.zero_grad()
        nll, count = model(batch)
        (nll / count).backward()
        optimizer.step()


def test_exact_match_equals_that_of_greedy_generation(dataset: Dataset) -> None:
    model = small_model(dataset)
    tokenizer = dataset.tokenizer()
    questions = read_questions(dataset, tokenizer, rows_per_family=24)
    shares = []
    for steps in (0, 30, 30, 60):
        learn(model, dataset, steps)
        answers = generate(
            model, [q.prefix for q in questions], max_new_tokens=8, end_id=dataset.special[END_OF_RESPONSE]
        )
        correct = [answer == q.response[:-1] for answer, q in zip(answers, questions, strict=True)]
        values = evaluate(model, dataset, tokenizer, rows_per_family=24, row_tokens=32)
        assert values["exact_match"] == sum(correct) / len(correct)
        for family in ("heldout/a", "heldout/b"):
            hits = [is_correct for is_correct, q in zip(correct, questions, strict=True) if q.family == family]
            assert values[f"exact_match/{family}"] == sum(hits) / len(hits)
        shares.append(values["exact_match"])
    assert shares[0] == 0
    assert 0 < shares[-1] < 1


def test_loss_is_the_mean_over_response_tokens_however_questions_are_packed(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(dataset)
    tokenizer = dataset.tokenizer()
    losses = []
    for q in read_questions(dataset, tokenizer, rows_per_family=24):
        tokens = torch.tensor([q.prefix + q.response])
        with torch.no_grad():
            logits = model.logits(tokens, torch.tensor([len(q.prefix)]))[0, len(q.prefix) - 1 : -1]
        losses.append(F.cross_entropy(logits, torch.tensor(q.response), reduction="none"))
    expected = torch.cat(losses).mean().item()
    for row_tokens, batch_tokens in ((32, 8192), (8, 8192), (64, 64), (1, 1)):
        monkeypatch.setattr(evaluation, "BATCH_TOKENS", batch_tokens)
        values = evaluate(model, dataset, tokenizer, rows_per_family=24, row_tokens=row_tokens)
        assert math.isclose(values["loss"], expected, rel_tol=1e-5)


def test_model_with_any_number_of_applications_is_evaluated(dataset: Dataset) -> None:
    for cycles in ({"H_cycles": 1, "L_cycles": 1}, {"H_cycles": 3, "L_cycles": 1}):
        values = evaluate(
            small_model(dataset, **cycles), dataset, dataset.tokenizer(), rows_per_family=2, row_tokens=32
        )
        assert math.isfinite(values["loss"])


def test_family_is_a_source_or_a_task_of_a_source_with_several_tasks(data: Path, tmp_path: Path) -> None:
    rows = [
        question(0, 2, source="one"),
        question(1, 2, source="two", task="x"),
        question(2, 2, source="two", task="y"),
    ]
    dataset = with_questions(data, tmp_path, [*rows, *rows])
    tokenizer = dataset.tokenizer()
    assert [q.family for q in read_questions(dataset, tokenizer, rows_per_family=1)] == ["one", "two/x", "two/y"]
    assert len(read_questions(dataset, tokenizer, rows_per_family=9)) == 6


def test_special_tags_in_text_are_encoded_as_text() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["what is 1 + 2?"], trainer)
    text = "what <|im_end|> is"
    special = {tokenizer.token_to_id(tag) for tag in SPECIAL_TOKENS}
    assert special & set(tokenizer.encode(text).ids)
    ids = plain_tokenizer(tokenizer).encode(text).ids
    assert not special & set(ids)
    assert plain_tokenizer(tokenizer).encode("what is").ids == tokenizer.encode("what is").ids


def test_questions_longer_than_rows_and_samples_are_not_scored_and_named(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [question(n, 3) for n in range(4)]
    usual = with_questions(data, tmp_path, rows)
    expected = evaluate(small_model(usual), usual, usual.tokenizer(), rows_per_family=9, row_tokens=32)
    assert not caplog.records
    long = with_questions(data, tmp_path, [*rows, question(5, 60_000, source="essays")])
    assert evaluate(small_model(long), long, long.tokenizer(), rows_per_family=9, row_tokens=32) == expected
    assert "1 of 5 held-out questions are not scored" in caplog.text
    assert "essays 1" in caplog.text


def test_dataset_without_questions_yields_no_values(data: Path, tmp_path: Path) -> None:
    dataset = with_questions(data, tmp_path, [])
    assert evaluate(small_model(dataset), dataset, dataset.tokenizer(), rows_per_family=3, row_tokens=32) == {}


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"source": "a", "task": "b", "instruction": "c", "response": "d"}', '"text"', "3"]
)
def test_error_names_a_line_that_is_not_a_question(data: Path, tmp_path: Path, line: str) -> None:
    dataset = with_questions(data, tmp_path, [question(0, 2)])
    (path,) = dataset.eval_files
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DatasetError, match=r"questions\.jsonl, line 2: (is|lacks) "):
        read_questions(dataset, dataset.tokenizer(), rows_per_family=9)


class TestCommand:
    """`python -m trainer.generate`."""

    @pytest.fixture
    def trained(self, data: Path, tmp_path: Path) -> Path:
        manifest = write_manifest(tmp_path, data, steps=10, epochs=None)
        assert train.main([str(manifest)]) == 0
        return tmp_path / "run"

    def test_answer_of_the_averaged_weights_is_printed(self, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert (
            generate_command.main(
                [str(trained), "w20 w21", "--condition", "cot", "--condition", "direct", "--max-new-tokens", "5"]
            )
            == 0
        )
        shown = capsys.readouterr()
        model, tokenizer, special = load_model(trained)
        prompt = [special[tag] for tag in ("<|im_start|>", "<|object_ref_end|>", "<|object_ref_start|>")]
        prompt += [20, 21, special["<|im_end|>"]]
        (answer,) = generate(model, [prompt], max_new_tokens=5, end_id=special[END_OF_RESPONSE])
        assert shown.out == tokenizer.decode(answer, skip_special_tokens=False) + "\n"
        assert ("cut after 5 tokens" in shown.err) == (len(answer) == 5)

    def test_sampling_is_reproducible_with_a_seed(self, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        answers = []
        for seed in ("1", "1", "2"):
            arguments = [str(trained), "w20", "--max-new-tokens", "8", "--temperature", "1", "--seed", seed]
            assert generate_command.main(arguments) == 0
            answers.append(capsys.readouterr().out)
        assert answers[0] == answers[1] != answers[2]

    def test_checkpoint_in_a_bucket_answers_like_the_local_one(
        self, trained: Path, bucket: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        s3fs.S3FileSystem().put(str(trained / "checkpoints"), f"{bucket}/run", recursive=True)
        capsys.readouterr()
        answers = []
        for checkpoint in (str(trained), f"{bucket}/run", f"{bucket}/run/step-00000010"):
            drawing = ["--temperature", "0.7", "--top-p", "0.9", "--guidance", "0.5", "--max-new-tokens", "8"]
            assert generate_command.main([checkpoint, "w20 w21", *drawing]) == 0
            answers.append(capsys.readouterr().out)
        assert answers[0] == answers[1] == answers[2]
        assert answers[0].strip()

    def test_folder_without_a_checkpoint_is_reported_in_one_sentence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert generate_command.main([str(tmp_path / "nothing"), "hello"]) == 1
        assert "no valid checkpoint here" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--condition", "unknown"],
            ["--max-new-tokens", "0"],
            ["--max-new-tokens", "100000000000"],
            ["--temperature", "-1"],
            ["--temperature", "nan"],
            ["--top-p", "0"],
            ["--guidance", "inf"],
            ["--seed", "99999999999999999999"],
            ["--device", "tpu"],
        ],
    )
    def test_invalid_options_are_usage_errors(self, tmp_path: Path, arguments: list[str]) -> None:
        assert generate_command.main([str(tmp_path), "hello", *arguments]) == 2

    def test_instruction_that_is_not_utf8_is_a_usage_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert generate_command.main([str(tmp_path), os.fsdecode(b"caf\xe9")]) == 2
        assert "the instruction is not UTF-8 text" in capsys.readouterr().err
