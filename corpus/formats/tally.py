"""Byte accounting of a text file: each byte read belongs to a row, to a named loss, or to the file's structure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corpus.formats.base import BrokenFileError
from corpus.formats.encoding import describe_encoding, is_utf8
from corpus.outcome import Outcome
from corpus.terminal import counted

NOT_UTF8_SAMPLE_BYTES = 64 << 10
"""Bytes of rows that are not UTF-8 that are kept to recognise their encoding."""

SKIPPED = "skipped"
"""Loss of the members of a tar that belong to no sample, such as hidden ones."""
UNREAD = "unread"
"""Loss of what follows the position at which a file cannot be read further."""


def describe_losses(losses: Sequence[Mapping[str, Any]] | None) -> str:
    """Return the bytes lost of a file, for people: lines `reason` and `bytes` of ledger/files.parquet."""
    return ", ".join(f"{counted(loss['bytes'], 'byte')} {loss['reason'].replace('_', ' ')}" for loss in losses or ())


def describe_not_utf8(rows: int, sample: bytes) -> str:
    """Return a remark about the rows of a file that are not UTF-8."""
    return f"{counted(rows, 'row is', 'rows are')} not UTF-8; {describe_encoding(sample)}"


class Tally:
    """Count of a file's bytes, booked by its reader in the file's order.

    After the last row `read == rows + structure + lost.total()`. Bytes are those of the decompressed content, as UTF-8
    where the source states another encoding.

    Parameters
    ----------
    chunks
        The content, which the reader takes from `chunks()`.
    """

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self._notes: Counter[str] = Counter()
        self.not_utf8 = 0
        """Rows that are not UTF-8."""
        self.not_utf8_sample = b""
        """Their first bytes."""
        self.read = 0
        """Bytes taken from the stream."""
        self.rows = 0
        """Bytes of rows that were yielded, without separators."""
        self.structure = 0
        """Headers, separators, brackets, blank lines and byte-order marks."""
        self.lost: Counter[str] = Counter()
        """Bytes of rows that could not be read, or not delimited, by reason."""
        self.begin = 0
        """Begin of the bytes that were booked last."""
        self.booked = 0
        """Number of bytes booked so far: the position in the content."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, counted."""
        for chunk in self._chunks:
            self.read += len(chunk)
            yield chunk

    def row(self, size: int) -> None:
        """Book the next bytes as a row."""
        self.begin = self.booked
        self.booked += size
        self.rows += size

    def lose(self, size: int, reason: Outcome | str, content: bytes = b"") -> None:
        """Book the next bytes as lost; `content` helps to recognise an encoding that is not UTF-8."""
        self.begin = self.booked
        self.booked += size
        self.lost[str(reason)] += size
        if reason == Outcome.INVALID_UNICODE and not is_utf8(content):
            self.not_utf8 += 1
            self.not_utf8_sample += content[: NOT_UTF8_SAMPLE_BYTES - len(self.not_utf8_sample)]

    def skip(self, size: int) -> None:
        """Book the next bytes as structure."""
        self.begin = self.booked
        self.booked += size
        self.structure += size

    def note(self, remark: str) -> None:
        """Add a remark about the file for the ledger; equal ones are counted."""
        self._notes[remark] += 1

    @property
    def notes(self) -> list[str]:
        """Remarks about the file: what was taken for structure, and its likely encoding if it is not UTF-8."""
        notes = [remark if count == 1 else f"{remark} ({count:,} times)" for remark, count in self._notes.items()]
        if self.not_utf8:
            notes.append(describe_not_utf8(self.not_utf8, self.not_utf8_sample))
        return notes

    def finish(self) -> None:
        """Book the rest of the content as unread, after the reader found the file to be broken."""
        try:
            for _ in self.chunks():
                pass
        except BrokenFileError:
            pass  # it is the one that the reader met, or follows it
        if self.read > self.booked:
            self.lose(self.read - self.booked, UNREAD)
