"""Held-out evaluation: loss and exact match, by task family.

    eval/*.jsonl ─ tokenizer ─▶ Question ─ packed like training rows ─▶ logits ─▶ loss, exact match

Greedy generation returns exactly the reference if each token of the reference is the most likely one after the tokens
before it. So one forward pass over the references yields both numbers, without generating.

Batches are distributed over the ranks in rounds. Every rank takes part in every round, because sharded weights are
gathered by all ranks together; a rank without a batch in the last round computes one again and ignores the result.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from corpus.contract import END_OF_RESPONSE, EvalRecord, parse_eval_record, prefix_ids
from corpus.schema import SchemaError, lines
from model.batch import IGNORE, PackedBatch
from model.hrm import HRM
from trainer.data.dataset import Dataset
from trainer.data.fetch import DatasetError
from trainer.data.text import plain_tokenizer
from trainer.distributed.world import SINGLE, World

_log = logging.getLogger(__name__)

BATCH_TOKENS = 8192
"""Tokens of one forward pass, unless a single row has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A held-out question and its reference answer, as token ids."""

    family: str
    prefix: list[int]
    response: list[int]
    """Reference answer, including the end tag."""

    @property
    def length(self) -> int:
        """Positions of both: all tokens but the last one, which is only a target."""
        return len(self.prefix) + len(self.response) - 1


def read_questions(dataset: Dataset, tokenizer: Tokenizer, *, rows_per_family: int) -> list[Question]:
    """Read the first questions of each family of a dataset's eval files.

    A family is a task of an eval source, named after the source, or source/task if the source has several tasks.
    Prompts without a reference are skipped.

    Raises
    ------
    trainer.data.fetch.DatasetError
        A line is not a question.
    """
    families: dict[tuple[str, str], list[tuple[Sequence[str], str, str]]] = defaultdict(list)
    for path in dataset.eval_files:
        for record in _records(path):
            rows = families[record.source, record.task]
            if record.response is not None and len(rows) < rows_per_family:
                rows.append((record.condition, record.instruction, record.response))
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


class EvaluationInterruptedError(Exception):
    """The evaluation was interrupted by a request to stop."""


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
    """Compute loss and exact match on a dataset's held-out questions; returns the same values on every rank.

    Parameters
    ----------
    model
        Has the weights to evaluate; may be called under `torch.autocast`.
    dataset, tokenizer
        The dataset that has the eval files, and its tokenizer.
    rows_per_family
        Largest number of questions of each family.
    row_tokens
        Tokens of a packed row; a longer question gets a row of its own length. One that is longer than both a row and
        the dataset's longest sample is not scored, which a warning says: its attention could take any amount of memory.
    world
        The ranks that evaluate together.
    stop
        Whether to interrupt the evaluation; called between batches.

    Returns
    -------
    dict
        `loss` in nats per response token, `exact_match` as a share of the questions, and `exact_match/FAMILY` for each
        family. Empty for a dataset without questions.

    Raises
    ------
    trainer.data.fetch.DatasetError
        An eval file contains something else than questions.
    EvaluationInterruptedError
        `stop` returned True on some rank; raised on all ranks.
    """
    questions = read_questions(dataset, tokenizer, rows_per_family=rows_per_family)
    limit = max(row_tokens, dataset.max_tokens)
    too_long = Counter(question.family for question in questions if question.length > limit)
    if too_long:
        _log.warning(
            "%d of %d held-out questions are not scored, because they are longer than a row and the longest sample "
            "(%d tokens): %s",
            *(too_long.total(), len(questions), limit),
            ", ".join(f"{family} {count}" for family, count in sorted(too_long.items())),
        )
        questions = [question for question in questions if question.length <= limit]
    if not questions:
        return {}
    counts = Counter(question.family for question in questions)
    batches = list(_batches(sorted(questions, key=lambda question: question.length), row_tokens))
    correct: Counter[str] = Counter()
    nll = 0.0
    for first in range(0, len(batches), world.size):
        if world.any(stop()):
            raise EvaluationInterruptedError
        number = first + world.rank
        rows = batches[min(number, len(batches) - 1)]
        batch = pack_questions(rows, row_tokens).to(model.z_L_init.device)
        logits, labels = model.labelled_logits(batch, k=model.config.applications)
        if number >= len(batches):
            continue
        nll += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        packed = [question for row in rows for question in row]
        hits = (logits.argmax(-1) == labels).cpu().split([len(question.response) for question in packed])
        correct.update(question.family for question, hit in zip(packed, hits, strict=True) if hit.all())
    total = torch.tensor(
        [nll, *(correct[family] for family in counts)], dtype=torch.float64, device=model.z_L_init.device
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


def _records(path: Path) -> Iterator[EvalRecord]:
    with path.open("rb") as file:
        try:
            for number, line in lines(file):
                yield parse_eval_record(line, f"{path}, line {number}")
        except SchemaError as error:
            raise DatasetError(f"{path}: {error}; build the dataset again") from None


def _batches(questions: Sequence[Question], row_tokens: int) -> Iterator[list[list[Question]]]:
    """Pack questions into rows, in order, and rows into batches."""
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
    """Make a batch of rows of questions with their references; at least `row_tokens` wide."""
    width = max(row_tokens, max(sum(question.length for question in row) for row in rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORE)
    positions = torch.zeros_like(tokens)
    segments = []
    for r, row in enumerate(rows):
        begin = 0
        for question in row:
            answer, end = begin + len(question.prefix), begin + question.length
            tokens[r, begin:end] = torch.tensor(question.prefix + question.response[:-1])
            labels[r, answer - 1 : end] = torch.tensor(question.response)
            positions[r, begin:end] = torch.arange(question.length)
            segments.append((r, begin, len(question.prefix), question.length))
            begin = end
    return PackedBatch(
        tokens=tokens, labels=labels, position_ids=positions, segments=torch.tensor(segments, dtype=torch.int32)
    )
