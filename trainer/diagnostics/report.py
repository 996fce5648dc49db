"""Diagnostics of a model on held-out questions: measured once, then shown as numbers, tables or a page."""

from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from corpus.contract import DatasetError
from model.batch import PackedBatch
from model.hrm import HRM
from trainer.data.dataset import Dataset
from trainer.diagnostics.depth import ApplicationDepth, effective_depth
from trainer.diagnostics.gradients import GradientStatistics, gradient_statistics
from trainer.evaluate import pack_questions, read_questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The measurements, and what they were made on."""

    architecture: str
    questions: int
    targets: int
    """Number of labelled positions; the measurements are means over them."""
    depth: list[ApplicationDepth]
    gradients: list[GradientStatistics]

    def values(self) -> dict[str, float]:
        """Return all numbers under flat names: depth/APPLICATION/…, gradient/K/…, truncated/K/PART/…."""
        return dict(self._values())

    def _values(self) -> Iterator[tuple[str, float]]:
        for application in self.depth:
            name = f"depth/{application.number}"
            for what, change in (("neighbour", application.from_previous), ("replaced", application.from_replaced)):
                if change is not None:
                    yield f"{name}/{what}_change", change.norm
                    yield f"{name}/{what}_cosine", change.cosine
            yield f"{name}/lens_kl", application.lens_kl
            yield f"{name}/lens_agreement", application.lens_agreement
        for at in self.gradients:
            for what in ("norm", "mean", "median", "log_spread", "tail"):
                yield f"gradient/{at.k}/{what}", getattr(at, what)
            for part, similarity in at.similarity.items():
                if similarity is not None:
                    yield f"truncated/{at.k}/{part}/cosine", similarity.cosine
                    yield f"truncated/{at.k}/{part}/norm_ratio", similarity.norm_ratio


def question_batch(dataset: Dataset, tokenizer: Tokenizer, *, rows_per_family: int) -> PackedBatch:
    """Pack the first held-out questions of each family with their references, one per row.

    Raises
    ------
    corpus.contract.DatasetError
        The dataset has no held-out questions.
    """
    questions = read_questions(dataset, tokenizer, rows_per_family=rows_per_family)
    if not questions:
        raise DatasetError(
            f"{dataset.files.url('dataset.json')}: has no held-out questions to measure on: build the dataset with a "
            f"source of role: eval"
        )
    return pack_questions([[question] for question in questions], row_tokens=1)


def diagnose(model: HRM, batch: PackedBatch) -> Report:
    """Measure a model; its weights and gradients do not change.

    Parameters
    ----------
    model
        Any architecture.
    batch
        From `question_batch`, or any batch with labels; it is moved to the model's device.
    """
    batch = batch.to(model.z_L_init.device)
    return Report(
        architecture=model.config.architecture,
        questions=len(batch.segments),
        targets=int((batch.labels >= 0).sum()),
        depth=effective_depth(model, batch),
        gradients=gradient_statistics(model, batch),
    )
