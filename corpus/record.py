"""Records: instruction–response pairs, their schema and their identity."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
    """Return the identity of a pair, which no later stage changes: 32 hexadecimal digits (128 bits).

    Parameters
    ----------
    source
        Name of the source in the manifest.
    file
        Path of the file relative to the source, with forward slashes.
    row
        Number of the row in its file, from 0; unreadable rows are counted too.
    part
        Number of the pair among the answers of the row, from 0; 0 for a row without a pair.
    """
    (found,) = row_ids(source, file, [(row, part)])
    return found.hex()


def row_ids(source: str, file: str, places: Iterable[tuple[int, int]]) -> list[bytes]:
    """Return the 16 bytes of the `row_id` of each (row, part) of a file."""
    of_file = hashlib.blake2b(f"{source}\0{file}\0".encode("utf-8", "surrogateescape"), digest_size=16)
    found = []
    for place in places:
        digest = of_file.copy()
        digest.update(b"%d\0%d" % place)
        found.append(digest.digest())
    return found


class Pair(NamedTuple):
    """An instruction–response pair from an adapter, before cleaning."""

    row: int
    """Number of its input row, from 0."""
    part: int
    """Number of the pair among those of the row, from 0."""
    task: str
    instruction: str
    response: str
    condition: tuple[str, ...] = ()
    meta: str | None = None
    """The source's other fields as a JSON object."""


class PairColumns(NamedTuple):
    """Pairs of rows that follow each other, one of each row, as columns: what else a `Pair` has is equal in all."""

    row: int
    """Number of the first pair's row."""
    task: str
    instructions: pa.Array
    """large_string (n,)."""
    responses: pa.Array
    """large_string (n,)."""
    condition: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input row that yields no pair."""

    row: int
    reason: Outcome
    position: str
    """Place in the file: "line 12", "byte 4,096", "row group 3, row 7"."""
    detail: str
    """What was found and what was expected, in one sentence."""
    part: int = 0
    """Number of the excluded answer among the row's answers, from 0, in one sequence with those of its pairs."""


@dataclass(frozen=True, slots=True)
class FileEnd:
    """What happened to an input file; yielded last when it is read."""

    outcome: FileOutcome
    rows: int
    """Input rows found, readable or not."""
    position: str = ""
    """Where reading stopped, if before the end."""
    detail: str = ""
    """What was found and what was expected, or a remark about a file read to its end."""
    bytes_read: int | None = None
    """Bytes of the decompressed content, which are those of rows, of structure (header, separators, blank lines) and of
    losses; None where rows are no ranges of bytes (Parquet, Arrow, tar)."""
    bytes_rows: int | None = None
    bytes_structure: int | None = None
    bytes_lost: Mapping[str, int] | None = None
    """Reason, an `Outcome` or a reader's own, to the bytes of rows that could not be read or delimited."""
    not_utf8: int = 0
    """Rows that are not UTF-8, of a range of a file."""
    not_utf8_sample: str = ""
    """Their first bytes, as the characters of Latin-1."""
