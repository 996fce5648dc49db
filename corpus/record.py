"""What a record is: one instruction–response pair, and the identity it keeps for life."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from corpus.outcome import FileOutcome, Outcome

SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
        ("condition", pa.list_(pa.string())),
        ("meta", pa.string()),
    ]
)
"""Arrow schema of records. `task` is the stratum inside the source, `meta` a JSON object or null."""


def row_id(source: str, file: str, row: int, part: int) -> str:
    """Identity of one pair: 32 hexadecimal digits (128 bits) that no later stage replaces.

    Parameters
    ----------
    source
        The manifest's name for the source.
    file
        Path of the file relative to the source, with forward slashes.
    row
        Number of the row in its file, from 0; unreadable rows are counted too.
    part
        Which of the row's pairs, from 0; 0 also for a row without a pair.
    """
    key = f"{source}\0{file}\0{row}\0{part}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Pair:
    """One instruction–response pair as its adapter made it, before cleaning."""

    row: int
    """Input row it comes from, from 0."""
    part: int
    """Which of that row's pairs, from 0."""
    task: str
    instruction: str
    response: str
    condition: tuple[str, ...] = ()
    meta: str | None = None
    """JSON object of the source's other fields, or None."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input row that yields no pair."""

    row: int
    reason: Outcome
    position: str
    """Where in the file: "line 12", "byte 4,096", "row group 3, row 7"."""
    detail: str
    """What was found and what was expected, in one sentence."""


@dataclass(frozen=True, slots=True)
class FileEnd:
    """What became of an input file; the last thing that reading it yields."""

    outcome: FileOutcome
    rows: int
    """Input rows seen, readable or not."""
    position: str = ""
    """Where reading stopped, when it stopped early."""
    detail: str = ""
    """What was found and what was expected; empty when there is nothing to say."""
