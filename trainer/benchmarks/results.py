"""Scores with confidence intervals, and the files of a run: results.json, questions.parquet, index.html.

None of them contains times or the number of ranks: equal settings and weights give equal files.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.pages.render import render
from trainer.benchmarks.contamination import BuildFindings, Contamination
from trainer.benchmarks.journal import Outcome
from trainer.benchmarks.parquet import write_parquet
from trainer.benchmarks.run import TaskRun
from trainer.benchmarks.task import PUBLISHED, Question

logger = logging.getLogger(__name__)

FORMAT = "millrace-benchmark/1"
RESAMPLES = 1000
"""Bootstrap samples."""
CONFIDENCE = 0.95
_CHUNK = 2**22
"""Drawn indices held in memory at once."""
_SHOWN = 10
"""Questions of each verdict that the page shows for a task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The scores of a task."""

    metric: str
    score: float
    """Value of the metric, from 0 to 1."""
    low: float
    """Lower bound of the confidence interval: percentile bootstrap over questions, within groups for their mean."""
    high: float
    n: int
    """Number of questions."""
    invalid: int
    """Generations without an answer of the expected form."""
    cut: int
    """Generations that a limit ended; for answers of one token, all that are not the end tag."""
    full: int
    """Prompts that fill the context, which get the empty answer."""
    metrics: Mapping[str, float]
    """All metrics of the task, as means over questions."""
    groups: Mapping[str, Mapping[str, float]]
    """Subject to its `score` and `n`; empty for a task without subjects."""


def score_of(run: TaskRun, *, seed: int) -> Score:
    """Compute the scores of a task.

    Parameters
    ----------
    run
        The task's outcomes.
    seed
        Seed of the bootstrap.
    """
    task, questions, outcomes = run.prepared.task, run.prepared.questions, run.outcomes
    values = np.array([outcome.scores[task.metric] for outcome in outcomes])
    names = [question.group for question in questions]
    members = {name: np.flatnonzero(np.array(names) == name) for name in sorted(set(names)) if name}
    strata = [values[index] for index in members.values()] if task.mean_over_groups else [values]
    low, high = _interval(strata, seed=seed)
    return Score(
        metric=task.metric,
        score=float(np.mean([stratum.mean() for stratum in strata])),
        low=low,
        high=high,
        n=len(outcomes),
        invalid=sum(not outcome.is_valid for outcome in outcomes),
        cut=sum(outcome.is_cut for outcome in outcomes),
        full=sum(outcome.prompt_tokens >= task.context for outcome in outcomes),
        metrics={
            metric: float(np.mean([outcome.scores[metric] for outcome in outcomes])) for metric in outcomes[0].scores
        },
        groups={name: {"score": float(values[index].mean()), "n": len(index)} for name, index in members.items()},
    )


def _interval(strata: Sequence[np.ndarray], *, seed: int) -> tuple[float, float]:
    """Percentile bootstrap of the mean over strata of their means."""
    rng = np.random.default_rng([seed, 0xB007])
    means = np.zeros(RESAMPLES)
    for values in strata:
        step = max(1, _CHUNK // len(values))
        for begin in range(0, RESAMPLES, step):
            size = min(step, RESAMPLES - begin)
            means[begin : begin + size] += values[rng.integers(len(values), size=(size, len(values)))].mean(1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means / len(strata), [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The scores of all tasks of a run, and what they belong to."""

    model: Mapping[str, Any]
    """Where the weights come from, their hash, and how they generate."""
    seed: int
    runs: Sequence[TaskRun]
    scores: Mapping[str, Score]
    """By task."""
    deviations: Mapping[str, Sequence[str]]
    """In what each task's run differs from its protocol."""
    contamination: Mapping[str, Sequence[Contamination]] | None
    """What the build of the training data found of each task's questions; None: the dataset is not known."""
    versions: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the content of results.json."""
        return {
            "format": FORMAT,
            "model": dict(self.model),
            "seed": self.seed,
            "interval": {"method": "percentile bootstrap", "confidence": CONFIDENCE, "resamples": RESAMPLES},
            "versions": dict(self.versions),
            "tasks": {
                run.prepared.task.name: {
                    **asdict(self.scores[run.prepared.task.name]),
                    "deviations": list(self.deviations[run.prepared.task.name]),
                    "contamination": None
                    if self.contamination is None
                    else [asdict(found) for found in self.contamination[run.prepared.task.name]],
                    "settings": run.prepared.settings(),
                }
                for run in self.runs
            },
        }

    def contamination_of(self, task: str) -> str:
        """What the build of the training data found of a task's questions, in words."""
        if self.contamination is None:
            return "not known"
        return "; ".join(map(str, self.contamination[task])) or "not looked for"


def results_of(
    runs: Sequence[TaskRun],
    *,
    model: Mapping[str, Any],
    seed: int,
    deviations: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    findings: BuildFindings | None = None,
) -> Results:
    """Compute the scores of tasks.

    Parameters
    ----------
    runs
        The tasks.
    model
        Where the weights come from, their hash, and how they generate.
    seed
        Seed of the bootstrap.
    deviations
        In what the generation differs from the published protocol.
    versions
        Library to the version that was used.
    findings
        What the build of the training data found; its fingerprint is recorded with the model.
    """
    if findings is not None:
        model = {**model, "dataset_fingerprint": findings.fingerprint}
    return Results(
        model=model,
        seed=seed,
        runs=runs,
        scores={run.prepared.task.name: score_of(run, seed=seed) for run in runs},
        deviations={
            run.prepared.task.name: [
                *run.prepared.deviations,
                *(deviations if run.prepared.task.protocol == PUBLISHED else ()),
            ]
            for run in runs
        },
        versions=versions or {},
        contamination=None
        if findings is None
        else {run.prepared.task.name: findings.of(run.prepared.data) for run in runs},
    )


def write_results(results: Results, folder: Path) -> list[Path]:
    """Write the files of a run and return their paths; each appears when it is complete.

    Without pyarrow the questions are written as questions.jsonl.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers, page = folder / "results.json", folder / "index.html"
    _write(numbers, json.dumps(results.as_json(), indent=2, ensure_ascii=False) + "\n")
    questions = _write_questions(results, folder)
    _write(page, html(results))
    return [numbers, questions, page]


def _write_questions(results: Results, folder: Path) -> Path:
    rows = [row for run in results.runs for row in question_rows(run)]
    path = folder / "questions.parquet"
    partial = path.with_name(f".{path.name}.partial")
    try:
        write_parquet(partial, {name: [row[name] for row in rows] for name in rows[0]})
    except ModuleNotFoundError:
        logger.info("pyarrow is not installed: the questions are in questions.jsonl instead of questions.parquet")
        path = folder / "questions.jsonl"
        _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path
    os.replace(partial, path)
    return path


def question_rows(run: TaskRun) -> list[dict[str, Any]]:
    """Return a row for each question: prompt, generation, extracted answer, verdict."""
    task = run.prepared.task
    return [
        {
            "task": task.name,
            "group": question.group,
            "id": question.id,
            "prompt": question.prompt,
            "reference": _reference(question),
            "generation": outcome.generation,
            "extracted": outcome.extracted,
            "score": outcome.scores[task.metric],
            "is_valid": outcome.is_valid,
            "is_cut": outcome.is_cut,
            "prompt_tokens": outcome.prompt_tokens,
            "new_tokens": outcome.new_tokens,
        }
        for question, outcome in zip(run.prepared.questions, run.outcomes, strict=True)
    ]


def html(results: Results) -> str:
    """Return the page of a run: scores, and the first questions of each verdict."""
    examples = {run.prepared.task.name: _examples(run) for run in results.runs}
    return render(__package__, "page.html.jinja", results=results, examples=examples, content=results.as_json())


def _examples(run: TaskRun) -> dict[str, list[tuple[Question, Outcome, str]]]:
    shown: dict[str, list[tuple[Question, Outcome, str]]] = {
        "right": [],
        "partly right": [],
        "wrong": [],
        "invalid": [],
    }
    for question, outcome in zip(run.prepared.questions, run.outcomes, strict=True):
        value = outcome.scores[run.prepared.task.metric]
        kind = "invalid" if not outcome.is_valid else {1.0: "right", 0.0: "wrong"}.get(value, "partly right")
        if len(shown[kind]) < _SHOWN:
            shown[kind].append((question, outcome, _reference(question)))
    return {kind: entries for kind, entries in shown.items() if entries}


def _reference(question: Question) -> str:
    answer = question.answer
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(partial, path)
