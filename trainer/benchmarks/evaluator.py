"""Benchmarks as an evaluator of a training run: the tasks of `eval.tasks`, on the averaged weights."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from corpus.config import ConfigError
from trainer.benchmarks.answerer import ModelAnswerer
from trainer.benchmarks.catalog import check_runnable, find_all
from trainer.benchmarks.contamination import BuildFindings, read_findings
from trainer.benchmarks.files import TaskDataError
from trainer.benchmarks.identity import model_identity
from trainer.benchmarks.results import results_of, write_results
from trainer.benchmarks.run import UNIT_ROWS, Prepared, prepare, run_task
from trainer.config import TasksConfig
from trainer.data.dataset import Dataset
from trainer.evaluators import EvaluationContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmarks:
    """Scores of tasks, which also writes their files to a folder for each step."""

    tasks: Sequence[Prepared]
    tokenizer: Tokenizer
    special: Mapping[str, int]
    every: int
    batch: int
    folder: Path
    seed: int
    findings: BuildFindings | None = None
    """What the build of the training data found of the tasks' questions; None: it is not known."""
    name: str = "benchmarks"

    def due(self, step: int, *, finished: bool) -> bool:
        """See `trainer.evaluators.Evaluator.due`."""
        return step > 0 and (step % self.every == 0 or finished)

    def run(self, context: EvaluationContext) -> Mapping[str, float]:
        """See `trainer.evaluators.Evaluator.run`.

        Of each task the score, the share of invalid answers, and of the questions that the build of the training data
        looked for, the share that it found in training records, all of which it dropped.
        """
        world, model = context.world, context.model
        folder = self.folder / f"step-{context.step:08d}"
        with context.optimizer.averaged_weights(), context.autocast():
            identity = model_identity(
                model,
                self.tokenizer,
                self.special,
                precision="bf16" if model.state_dtype.itemsize == 2 else "fp32",
                device=world.device,
                batch=self.batch,
            )
            answerer = ModelAnswerer(model, self.tokenizer, self.special, rows=self.batch)
            runs = [
                run_task(
                    task,
                    answerer,
                    model=identity,
                    folder=folder / "journal",
                    unit=UNIT_ROWS * self.batch,
                    world=world,
                    stop=context.stop,
                )
                for task in self.tasks
            ]
        if not world.is_main:
            return {}
        location = {"location": f"step {context.step:,}", "weights": "averaged"}
        results = results_of(runs, model={**location, **identity}, seed=self.seed, findings=self.findings)
        write_results(results, folder)
        shutil.rmtree(folder / "journal")
        values: dict[str, float] = {}
        for name, score in results.scores.items():
            values |= {name: score.score, f"{name}/invalid": score.invalid / score.n}
            found = (results.contamination or {}).get(name, ())
            if looked_for := sum(entry.looked_for for entry in found):
                values[f"{name}/found_in_training_data"] = sum(entry.found for entry in found) / looked_for
        return values


def benchmarks_of(config: TasksConfig, dataset: Dataset, *, folder: Path, seed: int) -> Benchmarks:
    """Read the questions of the tasks that a manifest names.

    Raises
    ------
    corpus.config.ConfigError
        A task is unknown, executes programs, or cannot be read.
    """
    found = find_all(config.names, config.files)
    if unknown := sorted(set(config.shots) - {entry.task.name for entry in found}):
        raise ConfigError(f"eval.tasks.shots names {unknown[0]!r}, which is none of the tasks")
    for entry in found:
        check_runnable(entry.task, execute=False)
    try:
        tasks = [
            prepare(entry, folder=config.data, shots=config.shots.get(entry.task.name), limit=config.limit, seed=seed)
            for entry in found
        ]
    except TaskDataError as error:
        raise ConfigError(f"eval.tasks: {error}") from None
    try:
        findings = read_findings(dataset.files.origin)
    except TaskDataError as error:
        logger.warning("benchmarks: what the training data has of their questions is not known: %s", error)
        findings = None
    return Benchmarks(
        tasks=tasks,
        tokenizer=dataset.tokenizer(),
        special=dataset.special,
        every=config.every,
        batch=config.batch,
        folder=folder,
        seed=seed,
        findings=findings,
    )
