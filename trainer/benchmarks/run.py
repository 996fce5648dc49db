"""Ask and score the questions of tasks, in units that ranks share and a journal records.

    questions, shortest first ─ units ─ every rank its share ─▶ Answerer ─ Task.score ─▶ journal ─▶ TaskRun

A unit is answered as a whole and its questions do not depend on the number of ranks, so neither ranks nor interruptions
change what is computed together, and the results are the same.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from corpus.terminal import counted
from trainer.benchmarks.answerer import Answer, Answerer, Request
from trainer.benchmarks.catalog import Found
from trainer.benchmarks.files import TaskDataError, TaskFiles
from trainer.benchmarks.journal import Journal, Outcome
from trainer.benchmarks.task import Question, Task
from trainer.distributed.world import SINGLE, World
from trainer.evaluate import EvaluationInterruptedError

UNIT_ROWS = 4
"""Questions of a unit of work for each row that is decoded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A task with its questions, ready to be asked."""

    found: Found
    shots: int
    """Number of solved examples in a prompt."""
    questions: Sequence[Question]
    available: int
    """Number of questions that the files have."""
    data: Mapping[str, str]
    """File to the sha256 of its bytes."""
    seed: int = 0
    """Seed of sampled answers."""

    @property
    def task(self) -> Task:
        """The task."""
        return self.found.task

    @property
    def deviations(self) -> list[str]:
        """In what the questions differ from those of the task."""
        size, available = self.task.size, counted(self.available, "question")
        return [
            *([f"{counted(self.shots, 'shot')} instead of {self.task.shots}"] if self.shots != self.task.shots else []),
            *([f"{len(self.questions):,} of {available}"] if len(self.questions) != self.available else []),
            *([f"{available} instead of {size:,}"] if size not in (None, self.available) else []),
        ]

    def settings(self) -> dict[str, Any]:
        """Everything about the task that decides its prompts and verdicts."""
        task = self.task
        content = json.dumps([[q.id, q.prompt, q.answer, q.options] for q in self.questions], sort_keys=True)
        return {
            "task": task.name,
            "origin": self.found.origin,
            "definition_sha256": self.found.sha256,
            "protocol": task.protocol,
            "metric": task.metric,
            "mean_over_groups": task.mean_over_groups,
            "conditions": list(task.conditions),
            "context": task.context,
            "max_new_tokens": task.max_new_tokens,
            "answers": task.answers,
            "temperature": task.temperature,
            "seed": self.seed if task.temperature else None,
            "shots": self.shots,
            "questions": len(self.questions),
            "questions_sha256": hashlib.sha256(content.encode()).hexdigest(),
            "data_sha256": dict(sorted(self.data.items())),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """A task that was run."""

    prepared: Prepared
    outcomes: Sequence[Outcome]
    """By question."""


def prepare(
    found: Found,
    *,
    folder: str | Path | None,
    named: Mapping[str, str | Path] | None = None,
    shots: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Prepared:
    """Read the questions of a task.

    Parameters
    ----------
    found
        The task.
    folder
        Folder or fsspec URL in which its files are searched for.
    named
        Split to the file, folder or glob that the user names for it, here or at a URL.
    shots
        Number of solved examples in a prompt; None: the task's own.
    limit
        Largest number of questions: the first ones, in equal parts of all groups if the score is a mean over them.
    seed
        Seed of examples that are drawn, and of answers that are sampled.

    Raises
    ------
    TaskDataError
        The questions cannot be read, or there are none.
    """
    task = found.task
    count = task.shots if shots is None else shots
    files = TaskFiles(task=task.name, folder=folder, named=dict(named or {}), seed=seed)
    questions = task.read(files, count)
    if not questions:
        raise TaskDataError(f"{task.name}: {', '.join(files.hashes) or 'its files'} have no questions")
    return Prepared(
        found=found,
        shots=count,
        questions=questions if limit is None else _first(questions, limit, spread=task.mean_over_groups),
        available=len(questions),
        data=files.hashes,
        seed=seed,
    )


def _first(questions: Sequence[Question], limit: int, *, spread: bool) -> list[Question]:
    """The first questions, in their order; with `spread`, those that are first in their group, then second, …."""
    seen: Counter[str] = Counter()
    places = []
    for index, question in enumerate(questions):
        places.append((seen[question.group], index))
        seen[question.group] += spread
    return [questions[index] for index in sorted(index for _, index in sorted(places)[:limit])]


def run_task(
    prepared: Prepared,
    answerer: Answerer,
    *,
    model: Mapping[str, Any],
    folder: Path,
    unit: int,
    world: World = SINGLE,
    stop: Callable[[], bool] | None = None,
    report: Callable[[int], None] | None = None,
) -> TaskRun:
    """Ask and score the questions of a task; continues where an earlier run with the same settings ended.

    Parameters
    ----------
    prepared
        The task and its questions.
    answerer
        Answers the prompts.
    model
        Whatever identifies the answerer: weights, precision, batch size. Part of the journal's key.
    folder
        Folder of the journals.
    unit
        Number of answers that are made together and recorded at once.
    world
        The ranks that share the work.
    stop
        Whether to interrupt the run; called between units, after each of which ranks then wait for each other.
    report
        Called between units with the number of questions that all ranks have answered, in earlier runs too.

    Returns
    -------
    TaskRun
        The same on every rank.

    Raises
    ------
    EvaluationInterruptedError
        `stop` returned True on some rank; raised on all ranks.
    TaskDataError
        A journal is damaged.
    """
    questions = prepared.questions
    # Similar lengths together, so that little is padded.
    order = sorted(range(len(questions)), key=lambda i: (len(questions[i].prompt), i))
    size = max(1, unit // prepared.task.answers)
    units = [order[i : i + size] for i in range(0, len(order), size)]
    key = settings_key({"model": model, "unit": unit, "millrace": version("millrace"), **prepared.settings()})
    journal = Journal(folder=folder, task=prepared.task.name, key=key, rank=world.rank)
    done = _merged(world.share(journal.read()))
    open_units = [number for number in range(len(units)) if number not in done]
    answered = {}
    known = sum(map(len, done.values()))
    for first in range(0, len(open_units), world.size):
        if report is not None:
            report(known)
        if stop is not None and world.any(stop()):
            raise EvaluationInterruptedError
        for number in open_units[first : first + world.size][world.rank : world.rank + 1]:
            answered[number] = _answer(prepared, units[number], answerer)
            journal.append(number, answered[number])
        known += sum(len(units[number]) for number in open_units[first : first + world.size])
    if report is not None:
        report(known)
    done |= _merged(world.share(answered))
    outcomes = sorted((outcome for unit in done.values() for outcome in unit), key=lambda outcome: outcome.question)
    return TaskRun(prepared=prepared, outcomes=outcomes)


def settings_key(settings: Mapping[str, Any]) -> str:
    """Short hash of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _merged(parts: Sequence[dict[int, list[Outcome]]]) -> dict[int, list[Outcome]]:
    return {number: outcomes for part in parts for number, outcomes in part.items()}


def _answer(prepared: Prepared, indices: Sequence[int], answerer: Answerer) -> list[Outcome]:
    task = prepared.task
    answers = answerer.answer(
        [
            Request(
                prompt=prepared.questions[index].prompt,
                conditions=task.conditions,
                context=task.context,
                max_new_tokens=task.max_new_tokens,
                answers=task.answers,
                temperature=task.temperature,
                seed=_seed(prepared, index),
            )
            for index in indices
        ]
    )
    return [
        _outcome(task, index, prepared.questions[index], answers[place * task.answers : (place + 1) * task.answers])
        for place, index in enumerate(indices)
    ]


def _seed(prepared: Prepared, index: int) -> int:
    """Seed of the answers to one question, which depends on no other question."""
    name = f"{prepared.seed} {prepared.task.name} {prepared.questions[index].id}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


def _outcome(task: Task, index: int, question: Question, answers: Sequence[Answer]) -> Outcome:
    """The verdict of an answer, or of several: that of the first one with the extracted answer of the majority."""
    verdicts = [task.score(question, answer.text) for answer in answers]
    counts = Counter(verdict.extracted for verdict in verdicts if verdict.is_valid)
    chosen = 0
    if counts:
        ((extracted, _),) = counts.most_common(1)
        chosen = next(i for i, v in enumerate(verdicts) if v.is_valid and v.extracted == extracted)
    answer, verdict = answers[chosen], verdicts[chosen]
    scores = dict(verdict.scores)
    if task.answers > 1:
        scores[f"mean_{task.metric}"] = sum(v.scores[task.metric] for v in verdicts) / len(verdicts)
    return Outcome(
        question=index,
        generation=answer.text,
        prompt_tokens=answer.prompt_tokens,
        new_tokens=answer.new_tokens,
        is_cut=answer.is_cut,
        extracted=verdict.extracted,
        scores=scores,
        is_valid=verdict.is_valid,
    )
