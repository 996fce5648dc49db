"""Which input files a build's summary lists."""

import pytest

from corpus.outcome import FileOutcome, Outcome
from pipeline.records.ledger import FileLine, Loss


@pytest.mark.parametrize(
    ("outcome", "lost", "is_notable"),
    [
        (FileOutcome.READ, {}, False),
        (FileOutcome.READ, {Outcome.INVALID_SYNTAX: 10}, False),
        (FileOutcome.READ, {Outcome.INVALID_SYNTAX: 11}, True),
        (FileOutcome.READ, {Outcome.INVALID_UNICODE: 1}, True),
        (FileOutcome.READ, {"unread": 1}, True),
        (FileOutcome.TRUNCATED, {}, True),
        (FileOutcome.EMPTY, None, True),
        (FileOutcome.READ, None, False),
    ],
)
def test_file_is_listed_unless_a_few_rows_of_it_could_not_be_parsed(
    outcome: FileOutcome, lost: dict[str, int] | None, is_notable: bool
) -> None:
    line = FileLine(
        **dict.fromkeys(("source", "file", "url"), "x"),
        **dict.fromkeys(("sha256", "format", "compression", "encoding", "adapter", "position", "detail")),
        **dict.fromkeys(("bytes", "rows", "pairs", "bytes_rows", "bytes_structure"), 0),
        bytes_read=None if lost is None else 1000,
        bytes_lost=None if lost is None else tuple(Loss(reason=str(key), bytes=size) for key, size in lost.items()),
        outcome=outcome.value,
    )
    assert line.is_notable == is_notable
