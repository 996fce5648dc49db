"""Claims about tasks that a user adds: YAML files, Python files, entry points."""

import importlib.metadata
from pathlib import Path

import pytest

from corpus.config import ConfigError
from tests.trainer.benchmarks.fixtures import Oracle, write_rows
from trainer.benchmarks.catalog import find, find_all, from_file
from trainer.benchmarks.results import score_of
from trainer.benchmarks.run import prepare, run_task
from trainer.benchmarks.task import Task
from trainer.benchmarks.tasks.gsm8k import TASK


def test_a_yaml_file_declares_a_task_of_multiple_choice(tmp_path: Path) -> None:
    (tmp_path / "capitals.csv").write_text(
        "country,first,second,right,continent\n"
        "France,Paris,Lyon,Paris,Europe\nItaly,Milan,Rome,B,Europe\nPeru,Lima,Cusco,0,America\n"
    )
    write_rows(tmp_path / "solved.jsonl", [{"country": "Spain", "first": "Madrid", "second": "Vigo", "right": "A"}])
    path = tmp_path / "capitals.yaml"
    path.write_text(
        "{name: capitals, file: capitals.csv, type: choice, question: country, options: [first, second], "
        "answer: right, group: continent, shots: 1, shots_file: solved.jsonl}"
    )
    prepared = prepare(from_file(path), folder=None)
    assert [(q.answer, q.group) for q in prepared.questions] == [("A", "Europe"), ("B", "Europe"), ("A", "America")]
    assert prepared.questions[1].prompt == ("Spain\nA. Madrid\nB. Vigo\nAnswer: A\n\nItaly\nA. Milan\nB. Rome\nAnswer:")
    assert set(prepared.data) == {"capitals.csv", "solved.jsonl"}
    oracle = Oracle(prepared.questions, lambda question: "A")
    run = run_task(prepared, oracle, model={}, folder=tmp_path / "journal", unit=2)
    score = score_of(run, seed=0)
    assert score.score == pytest.approx(2 / 3)
    assert score.groups == {"America": {"score": 1.0, "n": 1}, "Europe": {"score": 0.5, "n": 2}}


def test_a_yaml_file_declares_a_task_of_exact_match(tmp_path: Path) -> None:
    rows = [{"q": "Colour of grass?", "a": "green"}, {"q": "Big cat?", "a": ["Lion", "tiger"]}]
    write_rows(tmp_path / "words.jsonl", rows)
    path = tmp_path / "words.yaml"
    text = "name: words, file: words.jsonl, type: exact, question: q, answer: a, conditions: [cot, synth]"
    for ignore_case, expected in (("true", 1.0), ("false", 0.5)):
        path.write_text(f"{{{text}, ignore_case: {ignore_case}}}")
        prepared = prepare(from_file(path), folder=None)
        assert prepared.task.conditions == ("synth", "cot")
        replies = {"Colour of grass?": " green\n", "Big cat?": "lion"}
        oracle = Oracle(prepared.questions, lambda question, replies=replies: replies[question.prompt])
        run = run_task(prepared, oracle, model={}, folder=tmp_path / "journal", unit=2)
        assert score_of(run, seed=0).score == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: t, file: f.csv, type: choice}", "options belong to type: choice"),
        ("{name: t, file: f.csv, type: exact, options: x}", "options belong to type: choice"),
        ("{name: t, file: f.csv, type: exact, shots: 2}", "name their file as shots_file"),
        ("{name: t, file: f.csv, type: exact, conditions: [quick]}", "unknown condition 'quick'"),
        ("{name: t, file: f.csv, type: exact, anwser: x}", "did you mean 'answer'"),
        ("{name: ../t, file: f.csv, type: exact}", "name"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        from_file(path)


PYTHON = """
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import Question, Task, Verdict


def read(files: TaskFiles, shots: int) -> list[Question]:
    rows = files.rows("test", ["palindromes/*.jsonl"])
    return [Question(id=row["word"], text=f"Reverse {row['word']}.", answer=row["word"][::-1]) for row in rows]


def score(question: Question, generation: str) -> Verdict:
    found = generation.strip()
    shared = sum(a == b for a, b in zip(found, question.answer)) / len(question.answer)
    return Verdict(extracted=found, scores={"exact": float(found == question.answer), "letters": shared})


TASK = Task(name="reverse", metric="letters", conditions=("direct",), read=read, score=score)
"""


def test_a_python_file_defines_a_task(tmp_path: Path) -> None:
    (tmp_path / "my_task.py").write_text(PYTHON)
    write_rows(tmp_path / "data/palindromes/words.jsonl", [{"word": "abcd"}, {"word": "xy"}])
    found = from_file(tmp_path / "my_task.py")
    prepared = prepare(found, folder=tmp_path / "data")
    oracle = Oracle(prepared.questions, lambda question: {"dcba": "dcxx", "yx": "yx"}[question.answer])
    score = score_of(run_task(prepared, oracle, model={}, folder=tmp_path / "journal", unit=8), seed=0)
    assert (score.metric, score.score, score.metrics) == ("letters", 0.75, {"exact": 0.5, "letters": 0.75})
    assert found.sha256 in str(prepared.settings())


def test_a_python_file_without_a_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    for text, message in (("x = 1", "does not define 'TASK'"), ("TASK = 1", "TASK is a int; expected a .*Task")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            from_file(path)


def test_an_installed_package_adds_a_task_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("theirs", "trainer.benchmarks.tasks.gsm8k:TASK", "millrace.tasks")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == "millrace.tasks" else [])
    assert isinstance(find("theirs").task, Task)
    assert find("theirs").task is TASK
    with pytest.raises(ConfigError, match=r"unknown task 'their'.*theirs"):
        find("their")


def test_a_task_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'gsm8k' is given twice"):
        find_all(["gsm8k", "gsm8k"], [])
