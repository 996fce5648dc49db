"""How well a model answers held-out questions: loss, and the share of answers it gives exactly, by task family.

    eval/*.jsonl ─ tokenizer ─▶ Question ─ packed like training rows ─▶ logits ─▶ loss, exact match

Greedy generation gives exactly the reference when each token of the reference is the most likely one after those
before it. So one forward pass over the references gives both numbers, and no token has to be generated.

Batches are dealt over the ranks in rounds. Every rank takes part in every round, since sharded weights are gathered by
all ranks together; a rank for which a round has no batch repeats the last one and does not count it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from corpus.contract import END_OF_RESPONSE, prefix_ids
from model.batch import IGNORE, PackedBatch
from model.hrm import HRM
from trainer.data.dataset import Dataset
from trainer.data.fetch import DatasetError
from trainer.data.text import plain_tokenizer
from trainer.distributed.world import SINGLE, World

BATCH_TOKENS = 8192
"""Tokens of one forward pass; a single row may have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A held-out question and its reference answer, as token ids."""

    family: str
    prefix: list[int]
    response: list[int]
    """The reference, end tag included."""

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.prefix) + len(self.response)


def read_questions(dataset: Dataset, tokenizer: Tokenizer, *, rows_per_family: int) -> list[Question]:
    """The first questions of each family of a dataset's eval files.

    A family is a task of an eval source; it is named by the source, or source/task where a source has several. Prompts
    without a reference are left out.

    Raises
    ------
    trainer.data.fetch.DatasetError
        A line is not a question.
    """
    families: dict[tuple[str, str], list[tuple[list[str], str, str]]] = defaultdict(list)
    for path in dataset.eval_files:
        for number, row in enumerate(_lines(path), 1):
            try:
                rows = families[str(row["source"]), str(row["task"])]
                if row["response"] is not None and len(rows) < rows_per_family:
                    rows.append((list(row["condition"]), str(row["instruction"]), str(row["response"])))
            except (KeyError, TypeError) as error:
                raise DatasetError(
                    f"{path}, line {number}: is not a question ({error!r}); expected source, task, instruction, "
                    f"response and condition: build the dataset again"
                ) from None
    tasks = Counter(source for source, _ in families)
    plain = plain_tokenizer(tokenizer)
    questions = []
    for (source, task), rows in families.items():
        for condition, instruction, response in rows:
            instruction_ids = plain.encode(instruction, add_special_tokens=False).ids
            response_ids = plain.encode(response, add_special_tokens=False).ids
            questions.append(
                Question(
                    family=source if tasks[source] == 1 else f"{source}/{task}",
                    prefix=prefix_ids(dataset.special, condition, instruction_ids),
                    response=[*response_ids, dataset.special[END_OF_RESPONSE]],
                )
            )
    return questions


class InterruptedEvaluationError(Exception):
    """The evaluation was given up because the run is to stop."""


@torch.no_grad()
def evaluate(
    model: HRM,
    dataset: Dataset,
    tokenizer: Tokenizer,
    *,
    rows_per_family: int,
    row_tokens: int,
    world: World = SINGLE,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Loss and exact match on a dataset's held-out questions; the same on every rank.

    Parameters
    ----------
    model
        The model, with the weights to evaluate; `torch.autocast` around the call is honoured.
    dataset
        Its eval files are read.
    tokenizer
        The dataset's.
    rows_per_family
        At most so many questions of each family.
    row_tokens
        Tokens of a packed row; a longer question has a row of its own length.
    world
        The ranks that evaluate together.
    stop
        Asked between batches whether to give up.

    Returns
    -------
    dict
        `loss`: nats per response token. `exact_match`: share of the questions. `exact_match/FAMILY`: the same for each
        family. Empty for a dataset without questions.

    Raises
    ------
    trainer.data.fetch.DatasetError
        An eval file holds something else than questions.
    InterruptedEvaluationError
        `stop` said so on some rank; raised on all of them.
    """
    questions = read_questions(dataset, tokenizer, rows_per_family=rows_per_family)
    if not questions:
        return {}
    counts = Counter(question.family for question in questions)
    batches = list(_batches(sorted(questions, key=lambda question: question.length), row_tokens))
    right: Counter[str] = Counter()
    nll = 0.0
    for first in range(0, len(batches), world.size):
        if world.any(stop()):
            raise InterruptedEvaluationError
        number = first + world.rank
        rows = batches[min(number, len(batches) - 1)]
        batch = pack_questions(rows, row_tokens).to(model.z_L_init.device)
        logits, labels = model.labelled_logits(batch, k=model.config.applications)
        if number >= len(batches):
            continue
        nll += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        asked = [question for row in rows for question in row]
        hits = (logits.argmax(-1) == labels).cpu().split([len(question.response) for question in asked])
        right.update(question.family for question, hit in zip(asked, hits, strict=True) if hit.all())
    total = torch.tensor(
        [nll, *(right[family] for family in counts)], dtype=torch.float64, device=model.z_L_init.device
    )
    world.sum(total)
    nll, *hits_of_families = total.tolist()
    return {
        "loss": nll / sum(len(question.response) for question in questions),
        "exact_match": sum(hits_of_families) / len(questions),
        **{
            f"exact_match/{family}": hits / count
            for (family, count), hits in zip(counts.items(), hits_of_families, strict=True)
        },
    }


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DatasetError(f"{path}, line {number}: is not JSON ({error}); build the dataset again") from None


def _batches(questions: Sequence[Question], row_tokens: int) -> Iterator[list[list[Question]]]:
    """Questions as rows, filled one after the other, and rows as batches."""
    rows: list[list[Question]] = []
    room = 0
    for question in questions:
        if question.length > room:
            if len(rows) * row_tokens >= BATCH_TOKENS:
                yield rows
                rows = []
            rows.append([])
            room = row_tokens
        rows[-1].append(question)
        room -= question.length
    yield rows


def pack_questions(rows: Sequence[Sequence[Question]], row_tokens: int) -> PackedBatch:
    """Rows of questions with their references as a batch, as wide as the longest row and `row_tokens` at least."""
    width = max(row_tokens, max(sum(question.length for question in row) for row in rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORE)
    positions = torch.zeros_like(tokens)
    segments = []
    for r, row in enumerate(rows):
        begin = 0
        for question in row:
            answer, end = begin + len(question.prefix), begin + question.length
            tokens[r, begin:end] = torch.tensor(question.prefix + question.response)
            labels[r, answer - 1 : end - 1] = tokens[r, answer:end]
            positions[r, begin:end] = torch.arange(question.length)
            segments.append((r, begin, len(question.prefix), question.length))
            begin = end
    return PackedBatch(
        tokens=tokens, labels=labels, position_ids=positions, segments=torch.tensor(segments, dtype=torch.int32)
    )
