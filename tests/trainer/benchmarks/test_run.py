"""Claims about running tasks: scores of stand-ins that know the answers, interruptions, shared work."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.benchmarks.fixtures import Oracle, arithmetic, write_rows
from trainer.benchmarks.answerer import Answer, Request
from trainer.benchmarks.catalog import find
from trainer.benchmarks.files import TaskDataError
from trainer.benchmarks.results import results_of, score_of, write_results
from trainer.benchmarks.run import Prepared, TaskRun, prepare, run_task
from trainer.benchmarks.task import Question
from trainer.evaluate import EvaluationInterruptedError

MODEL = {"weights_xxh3_128": "0" * 32}


def mmlu(folder: Path, *, questions: int) -> Prepared:
    """Three subjects, of which the second has twice as many questions."""
    for subject, count in (("anatomy", questions), ("botany", 2 * questions), ("chess", questions)):
        for split, n in (("dev", 5), ("test", count)):
            path = folder / f"mmlu/{split}/{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{subject} {split} {i}?,a,b,c,d,{'ABCD'[i % 4]}\n" for i in range(n))
            path.write_text("question,A,B,C,D,answer\n" + lines)
    return prepare(find("mmlu"), folder=folder)


def run(prepared: Prepared, reply: Callable[[Question], str], folder: Path, unit: int = 7) -> TaskRun:
    return run_task(prepared, Oracle(prepared.questions, reply), model=MODEL, folder=folder, unit=unit)


def test_an_oracle_scores_100_percent_its_opposite_0_and_guessing_chance(tmp_path: Path) -> None:
    sums, choices = arithmetic(tmp_path, 60), mmlu(tmp_path, questions=400)
    rng = random.Random(0)
    replies: dict[str, tuple[Callable[[Question], str], Callable[[Question], str]]] = {
        "right": (lambda q: rf"\boxed{{{q.answer}}}", lambda q: f" {q.answer.lower()}"),
        "wrong": (lambda q: r"\boxed{-1}", lambda q: "ABCD"[("ABCD".index(q.answer) + 1) % 4]),
        "invalid": (lambda q: "no idea", lambda q: "?"),
        "guess": (lambda q: "", lambda q: rng.choice("ABCD")),
    }
    scores = {
        kind: [
            score_of(run(prepared, reply, tmp_path / f"journal-{kind}", unit=64), seed=0)
            for prepared, reply in zip((sums, choices), both, strict=True)
        ]
        for kind, both in replies.items()
    }
    assert [s.score for s in scores["right"]] == [1, 1]
    assert [s.score for s in scores["wrong"]] == [0, 0]
    assert [s.score for s in scores["invalid"]] == [0, 0.25]
    assert [s.invalid / s.n for s in scores["invalid"]] == [1, 1]
    chance = scores["guess"][1]
    assert chance.low < 0.25 < chance.high
    assert 0 < chance.high - chance.low < 0.06
    assert chance.invalid == 0


class Sampler:
    """Gives the answers of a list, over and over; needs the seed that the question has whatever is asked beside it."""

    def __init__(self, replies: list[str]):
        self.replies = replies
        self.seeds: dict[str, int] = {}

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        answers = []
        for request in requests:
            assert (request.temperature, request.answers) == (0.6, 256)
            assert self.seeds.setdefault(request.prompt, request.seed) == request.seed
            texts = [self.replies[i % len(self.replies)] for i in range(request.answers)]
            answers += [Answer(text=text, prompt_tokens=1, new_tokens=1, is_cut=False) for text in texts]
        return answers


@pytest.mark.parametrize(
    ("replies", "score", "mean", "extracted"),
    [
        ([r"\boxed{7}", r"\boxed{7}", r"\boxed{8}", "no"], 1, 0.5, "7"),
        ([r"\boxed{8}", r"\boxed{7}", r"so \boxed{8}", "no"], 0, 0.25, "8"),
        (["no", "none", r"\boxed{7}", "?"], 1, 0.25, "7"),  # invalid answers have no vote
        ([r"\boxed{8}", r"\boxed{7}"], 0, 0.5, "8"),  # a tie: the first
        (["no"], 0, 0, ""),
    ],
)
def test_aime_counts_the_majority_of_256_sampled_answers(
    tmp_path: Path, replies: list[str], score: float, mean: float, extracted: str
) -> None:
    rows = [{"problem": "What?", "answer": 7}, {"problem": "And?", "answer": "07"}, {"problem": "So?", "answer": 7}]
    write_rows(tmp_path / "aime_2025/test.jsonl", rows)
    prepared, sampler = prepare(find("aime"), folder=tmp_path), Sampler(replies)
    for folder, unit in (("one", 1), ("two", 600)):
        result = run_task(prepared, sampler, model=MODEL, folder=tmp_path / folder, unit=unit)
        assert [outcome.extracted for outcome in result.outcomes] == [extracted] * 3
        found = score_of(result, seed=0)
        assert (found.score, found.metrics) == (score, {"accuracy": score, "mean_accuracy": mean})
    assert len(set(sampler.seeds.values())) == 3


def test_mmlu_is_the_mean_over_subjects_not_over_questions(tmp_path: Path) -> None:
    prepared = mmlu(tmp_path, questions=8)
    score = score_of(run(prepared, lambda q: q.answer if q.group == "botany" else "?", tmp_path / "journal"), seed=0)
    assert score.score == pytest.approx((0.25 + 1 + 0.25) / 3)
    assert score.metrics["accuracy"] == pytest.approx((8 * 0.25 + 16 + 8 * 0.25) / 32)
    assert score.groups["botany"] == {"score": 1.0, "n": 16}


def test_intervals_depend_on_the_seed_only_and_cover_the_spread_of_the_mean(tmp_path: Path) -> None:
    prepared = arithmetic(tmp_path, 400)
    result = run(prepared, lambda q: q.answer if len(q.text) % 2 else "", tmp_path / "journal", unit=400)
    score = score_of(result, seed=1)
    assert score == score_of(result, seed=1)
    assert score != score_of(result, seed=2)
    error = np.sqrt(score.score * (1 - score.score) / 400)
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * error, rel=0.15)


def files_of(result: TaskRun, folder: Path) -> dict[str, bytes]:
    results = results_of([result], model={"location": "m", **MODEL}, seed=0)
    return {path.name: path.read_bytes() for path in write_results(results, folder)}


def test_a_run_killed_at_any_moment_gives_the_same_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A kill leaves some first bytes of the journal, because it is only appended to."""
    folder = tmp_path_factory.mktemp("run")
    prepared = arithmetic(folder, 40)
    reply = lambda q: str(q.answer)[-2:]  # noqa: E731
    expected = files_of(run(prepared, reply, folder / "whole"), folder / "out")
    (journal,) = (folder / "whole").iterdir()
    content = journal.read_bytes()
    units = content.count(b"\n")
    assert units == 6

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, len(content)))
    def check(kept: int) -> None:
        shutil.rmtree(folder / "cut", ignore_errors=True)
        (folder / "cut").mkdir()
        (folder / "cut" / journal.name).write_bytes(content[:kept])
        oracle = Oracle(prepared.questions, reply)
        resumed = run_task(prepared, oracle, model=MODEL, folder=folder / "cut", unit=7)
        assert oracle.calls == units - content[:kept].count(b"\n")
        assert files_of(resumed, folder / "out") == expected
        assert (folder / "cut" / journal.name).read_bytes() == content

    check()


def test_other_weights_settings_or_questions_do_not_continue_a_journal(tmp_path: Path) -> None:
    prepared = arithmetic(tmp_path, 14)
    run(prepared, lambda q: "1", tmp_path / "journal")
    for changed, model in (
        (prepared, {"weights_xxh3_128": "1" * 32}),
        (arithmetic(tmp_path, 15), MODEL),
        (prepare(find("gsm8k"), folder=tmp_path, limit=13), MODEL),
    ):
        oracle = Oracle(changed.questions, lambda q: "1")
        run_task(changed, oracle, model=model, folder=tmp_path / "journal", unit=7)
        assert oracle.calls == -(-len(changed.questions) // 7)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    prepared = arithmetic(tmp_path, 14)
    run(prepared, lambda q: "1", tmp_path / "journal")
    (journal,) = (tmp_path / "journal").iterdir()
    journal.write_bytes(b"{}\n" + journal.read_bytes())
    with pytest.raises(TaskDataError, match=r"gsm8k-\w+-0\.jsonl, line 1: is damaged"):
        run(prepared, lambda q: "1", tmp_path / "journal")


def test_a_request_to_stop_ends_a_run_between_units_and_it_continues(tmp_path: Path) -> None:
    prepared = arithmetic(tmp_path, 21)
    oracle = Oracle(prepared.questions, lambda q: q.answer)
    with pytest.raises(EvaluationInterruptedError):
        run_task(prepared, oracle, model=MODEL, folder=tmp_path / "j", unit=7, stop=lambda: oracle.calls == 2)
    result = run_task(prepared, oracle, model=MODEL, folder=tmp_path / "j", unit=7)
    assert oracle.calls == 3
    assert score_of(result, seed=0).score == 1


def test_polars_opens_the_questions_and_the_json_names_data_settings_and_deviations(tmp_path: Path) -> None:
    import polars as pl

    prepared = arithmetic(tmp_path, 10)
    result = run(prepared, lambda q: rf"\boxed{{{q.answer}}}" if len(q.text) % 2 else "<b>&none</b>", tmp_path / "j")
    files_of(result, tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out/questions.parquet")
    assert table.height == 10
    assert table["prompt"].to_list() == [q.prompt for q in prepared.questions]
    assert table.filter(pl.col("score") == 1)["extracted"].to_list() == [
        q.answer for q in prepared.questions if len(q.text) % 2
    ]
    content = json.loads((tmp_path / "out/results.json").read_text())
    task = content["tasks"]["gsm8k"]
    assert content["model"]["weights_xxh3_128"] == "0" * 32
    assert task["settings"]["conditions"] == ["synth", "cot"]
    assert task["settings"]["protocol"] == "hrm-text-2026-05"
    assert list(task["settings"]["data_sha256"]) == ["gsm8k/test.jsonl"]
    assert task["deviations"] == ["10 questions instead of 1,319"]
    page = (tmp_path / "out/index.html").read_text()
    assert "&lt;b&gt;&amp;none&lt;/b&gt;" in page
    assert "<b>&none" not in page


def test_a_limit_takes_as_many_questions_of_each_subject(tmp_path: Path) -> None:
    mmlu(tmp_path, questions=8)
    ids = [question.id for question in prepare(find("mmlu"), folder=tmp_path, limit=5).questions]
    assert ids == ["anatomy/0", "anatomy/1", "botany/0", "botany/1", "chess/0"]


def test_limits_and_other_shots_are_deviations(tmp_path: Path) -> None:
    row = {"question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
    write_rows(tmp_path / "arc_c/test.jsonl", [row] * 1172)
    prepared = prepare(find("arc_c"), folder=tmp_path, shots=0, limit=3)
    assert prepared.deviations == ["0 shots instead of 25", "3 of 1,172 questions"]
