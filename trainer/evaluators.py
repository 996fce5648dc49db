"""What a run measures at step boundaries besides its steps: the protocol, and the two evaluators of the trainer."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from corpus.contract import END_OF_RESPONSE
from model.generate import generate
from model.hrm import HRM
from trainer import samples
from trainer.data.dataset import Dataset
from trainer.diagnostics.page import write_page
from trainer.diagnostics.report import diagnose, question_batch
from trainer.distributed.world import World
from trainer.evaluate import Question, evaluate, read_questions
from trainer.optim import AdamAtan2


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationContext:
    """The run as an evaluator sees it at a step boundary."""

    step: int
    model: HRM
    """In evaluation mode, with the weights of the last step."""
    optimizer: AdamAtan2
    """Its `averaged_weights()` swaps in the moving average of the weights."""
    world: World
    autocast: Callable[[], AbstractContextManager[object]]
    """Precision of training, as a context manager."""
    stop: Callable[[], bool]
    """Whether this rank was asked to stop."""


class Evaluator(Protocol):
    """A measurement of the model at step boundaries, and before the first step."""

    @property
    def name(self) -> str:
        """Kind of its records in the metrics."""

    def due(self, step: int, *, finished: bool) -> bool:
        """Whether to run after a step, 0 before the first one; the same on every rank."""

    def run(self, context: EvaluationContext) -> Mapping[str, float]:
        """Measure; called on every rank, the values of rank 0 are recorded.

        Weights, gradients and training mode must be left as they were; random generators are restored by the loop.

        Raises
        ------
        trainer.evaluate.EvaluationInterruptedError
            Some rank was asked to stop; raised on all ranks. The evaluation is repeated at the next start.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Loss and exact match of the averaged weights on held-out questions, see `trainer.evaluate`.

    Also writes answers to a few of the questions, see `trainer.samples`.
    """

    dataset: Dataset
    tokenizer: Tokenizer
    every: int
    rows_per_family: int
    row_tokens: int
    out: Path | None = None
    """Folder of the run, for the answers; None: none are generated, as rank 0 alone lacks sharded weights."""
    name: str = "eval"

    def due(self, step: int, *, finished: bool) -> bool:
        """See `Evaluator.due`."""
        return step % self.every == 0 or finished

    def run(self, context: EvaluationContext) -> Mapping[str, float]:
        """See `Evaluator.run`."""
        with context.optimizer.averaged_weights(), context.autocast():
            values = evaluate(
                context.model,
                self.dataset,
                self.tokenizer,
                rows_per_family=self.rows_per_family,
                row_tokens=self.row_tokens,
                world=context.world,
                stop=context.stop,
            )
            if self.out is not None and context.world.is_main:
                samples.write(self.out, context.step, self._answers(context.model))
        return values

    def _answers(self, model: HRM) -> list[samples.Sample]:
        """Answer the first questions of each family, or of families evenly spread where there are many."""
        found = read_questions(self.dataset, self.tokenizer, rows_per_family=2)
        found = [question for question in found if len(question.prefix) <= self.row_tokens]
        count = min(len(found), samples.MAX_SAMPLES)
        questions = [found[number * len(found) // count] for number in range(count)]
        answers = generate(
            model,
            [question.prefix for question in questions],
            max_new_tokens=min(max((len(q.response) for q in questions), default=0), samples.MAX_NEW_TOKENS),
            end_id=self.dataset.special[END_OF_RESPONSE],
        )
        return [self._sample(*answered) for answered in zip(questions, answers, strict=True)]

    def _sample(self, question: Question, answer: list[int]) -> samples.Sample:
        return samples.Sample(
            family=question.family,
            instruction=self.tokenizer.decode(question.prefix),
            reference=self.tokenizer.decode(question.response),
            answer=self.tokenizer.decode(answer),
            is_right=answer == question.response[:-1],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Diagnostics of the last weights in float32, on rank 0, see `trainer.diagnostics`; also writes an HTML page."""

    dataset: Dataset
    tokenizer: Tokenizer
    every: int
    rows_per_family: int
    folder: Path
    """Folder of the pages."""
    name: str = "diagnosis"

    def due(self, step: int, *, finished: bool) -> bool:
        """See `Evaluator.due`."""
        return step > 0 and step % self.every == 0

    def run(self, context: EvaluationContext) -> Mapping[str, float]:
        """See `Evaluator.run`."""
        if not context.world.is_main:
            return {}
        batch = question_batch(self.dataset, self.tokenizer, rows_per_family=self.rows_per_family)
        report = diagnose(context.model, batch)
        write_page(report, self.folder / f"step-{context.step:08d}.html", title=f"Step {context.step:,}")
        return report.values()
