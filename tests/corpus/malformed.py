"""Malformed input files, and the expected outcome of each.

A build over a folder of these must end without a traceback, with every file
and row accounted for.
"""

import bz2
import gzip
import io
import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from corpus.outcome import FileOutcome, Outcome
from tests.corpus import write as w


@dataclass(frozen=True)
class Case:
    """One malformed file."""

    name: str
    """File name, unique among the cases."""
    content: bytes | Callable[[Path], None]
    """What to write, or how."""
    outcome: FileOutcome
    pairs: int = 0
    rejected: Mapping[Outcome, int] = field(default_factory=dict)
    """Rows that yield no pair, by reason. Other rows yield one pair each."""
    says: str = ""
    """Text that the file's detail, or the first rejected row's, must contain."""

    def write(self, path: Path) -> None:
        """Write the file at `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)


GOOD = w.pairs(3)
LINES = w.jsonl(GOOD)
MANY = w.jsonl([{"instruction": f"{n}: {random.Random(n).random()}", "response": "yes"} for n in range(5_000)])


def _row(case: str, bad: bytes, reason: Outcome, says: str = "") -> Case:
    """A JSONL file in which one row, between good ones, is bad."""
    first, rest = LINES.split(b"\n", 1)
    return Case(f"{case}.jsonl", first + b"\n" + bad + b"\n" + rest, FileOutcome.READ, 3, {reason: 1}, says)


def _cut(name: str, content: bytes, pairs: int, says: str = "") -> Case:
    return Case(name, content, FileOutcome.TRUNCATED if pairs else FileOutcome.UNREADABLE, pairs, {}, says)


def _pair(response: str) -> bytes:
    return b'{"instruction": "x", "response": ' + response.encode() + b"}"


def _parquet_with_a_damaged_row_group() -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(w.pairs(20))
    pq.write_table(table, sink, row_group_size=10, compression="none", use_dictionary=False)
    content = bytearray(sink.getvalue())
    begin = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(0).data_page_offset
    content[begin : begin + 60] = b"\xff" * 60
    return bytes(content)


def _parquet_with_bad_text() -> bytes:
    texts = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0\6\0\0\0"), pa.py_buffer(b"ok\xff\xfeok")]
    )
    sink = io.BytesIO()
    pq.write_table(pa.table({"instruction": ["a", "b", "c"], "response": texts}), sink)
    return sink.getvalue()


def _arrow_with_wild_offsets() -> bytes:
    texts = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\xff\xff\xff\x6f\2\0\0\0"), pa.py_buffer(b"okok")]
    )
    batch = pa.record_batch({"instruction": pa.array(["a", "b"]), "response": texts})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _long_row() -> bytes:
    line = b'{"instruction": "' + b"a" * (65 << 20) + b'", "response": "b"}\n'
    return gzip.compress(LINES + line + LINES, compresslevel=1, mtime=0)


_COMPRESSED = {".gz": gzip.compress(MANY, mtime=0), ".zst": zstandard.ZstdCompressor().compress(MANY)}
_ARRAY = w.json_array(GOOD)
_TAR = w.tar_of_texts(GOOD)
_BOMB = "\n".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(9))

MALFORMED: list[Case] = [
    # Compression
    _cut("half.jsonl.gz", _COMPRESSED[".gz"][: len(_COMPRESSED[".gz"]) // 2], -1, "gzip stream ends early"),
    _cut("half.jsonl.zst", _COMPRESSED[".zst"][: len(_COMPRESSED[".zst"]) // 2], -1, "zstd stream ends early"),
    _cut("only-a-header.jsonl.gz", _COMPRESSED[".gz"][:10], 0, "gzip stream ends early"),
    _cut("wrong-checksum.jsonl.gz", w.COMPRESSIONS[".gz"](LINES)[:-8] + b"\1" * 8, 3, "damaged"),
    _cut("noise-behind.jsonl.gz", w.COMPRESSIONS[".gz"](LINES) + b"noise", 3, "damaged"),
    _cut("noise.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 64, 0, "damaged"),
    Case("not-compressed.jsonl.gz", LINES, FileOutcome.READ, 3),
    Case("other.jsonl.bz2", bz2.compress(LINES), FileOutcome.UNREADABLE, says="bzip2"),
    Case("nothing.jsonl.gz", gzip.compress(b"", mtime=0), FileOutcome.EMPTY),
    # JSON Lines
    Case("empty.jsonl", b"", FileOutcome.EMPTY),
    Case("blank-lines.jsonl", b"\n  \n\r\n", FileOutcome.EMPTY),
    Case("bom-and-crlf.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"), FileOutcome.READ, 3),
    Case("next-line-character.jsonl", _pair('"a\u0085b\u2028c"') + b"\n", FileOutcome.READ, 1),
    Case("nul-escape.jsonl", _pair('"a\\u0000b"') + b"\n", FileOutcome.READ, 1),
    Case("utf-16.jsonl", LINES.decode().encode("utf-16"), FileOutcome.READ, 3),
    Case(
        "utf-16-no-mark.jsonl", LINES.decode().encode("utf-16-be"), FileOutcome.UNREADABLE, says="encoding: utf-16-be"
    ),
    _row("invalid-utf-8", b'{"instruction": "x", "response": "\xff\xfe"}', Outcome.INVALID_UNICODE, "not UTF-8"),
    _row("lone-surrogate", _pair('"\\ud800"'), Outcome.INVALID_UNICODE, "U+D800"),
    _row("raw-nul", b'{"instruction": "x", "response": "a\0b"}', Outcome.INVALID_SYNTAX, "control character"),
    _row("only-nuls", b"\0" * 100, Outcome.INVALID_SYNTAX),
    _row("cut-row", b'{"instruction": "x", "respo', Outcome.INVALID_SYNTAX, "unterminated string"),
    _row("two-values", b"{} {}", Outcome.INVALID_SYNTAX, "extra data"),
    _row("python-literal", b"{'instruction': 'x', 'response': None}", Outcome.INVALID_SYNTAX),
    _row("duplicate-key", b'{"instruction": "x", "response": "a", "response": "b"}', Outcome.DUPLICATE_KEY, "response"),
    _row("deep", _pair("[" * 100 + "]" * 100), Outcome.TOO_DEEP, "64"),
    _row("bottomless", _pair("[" * 100_000 + "]" * 100_000), Outcome.TOO_DEEP),
    _row("huge-integer", _pair("1" * 5_000), Outcome.INVALID_SYNTAX, "digits"),
    _row("huge-float", _pair("1e999"), Outcome.INVALID_SYNTAX, "1e999"),
    _row("not-a-number", _pair("NaN"), Outcome.MISSING_FIELD, "null"),
    _row("a-list", b'["instruction", "response"]', Outcome.NOT_A_RECORD, "a list"),
    _row("a-number", b"17", Outcome.NOT_A_RECORD, "a number"),
    _row("null", b"null", Outcome.NOT_A_RECORD, "null"),
    _row("missing-field", b'{"instruction": "x"}', Outcome.MISSING_FIELD, "'instruction'"),
    _row("null-field", _pair("null"), Outcome.MISSING_FIELD, "response is null"),
    _row("object-for-text", _pair('{"a": 1}'), Outcome.WRONG_TYPE, "an object"),
    Case("long-row.jsonl.gz", lambda path: w.write(path, _long_row()), FileOutcome.READ, 6, {Outcome.TOO_LARGE: 1}),
    Case("prose.jsonl", b"Dear all,\nthis is a letter.\n", FileOutcome.READ, 0, {Outcome.INVALID_SYNTAX: 2}),
    Case(
        "unknown-columns.jsonl",
        b'{"left": "x", "right": "y"}\n',
        FileOutcome.READ,
        0,
        {Outcome.MISSING_FIELD: 1},
        "'left', 'right'",
    ),
    # JSON arrays and objects
    _cut("half.json", _ARRAY[: len(_ARRAY) // 2], 1, "cut off"),
    _cut("bracket-only.json", b"[", 0, "ends"),
    Case("empty-list.json", b"[]", FileOutcome.EMPTY),
    _cut("behind-the-end.json", _ARRAY + b'{"a": 1}', 3, "after the end"),
    Case(
        "broken-item.json",
        b"[" + _pair('"a"') + b', {"instruction": tru, "response": [{"a": "}"}]}, ' + _pair('"c"') + b"]",
        FileOutcome.READ,
        2,
        {Outcome.INVALID_SYNTAX: 1},
        "expecting value",
    ),
    Case(
        "stray-quote.json",
        b"[" + _pair('"a"') + b", " + _pair('"b"c"') + b", " + _pair('"d"') + b"]",
        FileOutcome.READ,
        2,
        {Outcome.INVALID_SYNTAX: 1},
    ),
    Case("no-comma.json", b"[" + _pair('"a"') + b"\n" + _pair('"b"') + b"]", FileOutcome.READ, 2),
    Case(
        "bad-unicode-item.json",
        b"[" + _pair('"a"') + b', {"instruction": "x", "response": "\xff"}, ' + _pair('"\\udfff"') + b"]",
        FileOutcome.READ,
        1,
        {Outcome.INVALID_UNICODE: 2},
    ),
    Case(
        "mixed-items.json",
        b"[" + _pair('"a"') + b', 1, "x", null, [1], NaN, ' + _pair("[" * 99 + "]" * 99) + b"]",
        FileOutcome.READ,
        1,
        {Outcome.NOT_A_RECORD: 5, Outcome.TOO_DEEP: 1},
    ),
    Case(
        "deep-field.json",
        b'{"about": ' + b"[" * 900 + b"]" * 900 + b', "data": [' + _pair('"a"') + b"]}",
        FileOutcome.READ,
        1,
    ),
    _cut("field-twice.json", b'{"data": [{"q": 1}],\n "data": [{"q": 2}]}', 0, "occurs twice"),
    _cut("half-object.json", b'{"data": [' + _pair('"a"') + b",\n" + _pair('"b"')[:20], 1, "cut off"),
    # CSV
    Case(
        "ragged.csv",
        b"instruction,response\na,b\nc\nd,e,f\n",
        FileOutcome.READ,
        1,
        {Outcome.WRONG_COLUMNS: 2},
        "expected 2",
    ),
    Case("open-quote.csv", b'instruction,response\na,b\nc,"d\n', FileOutcome.READ, 1, {Outcome.INVALID_SYNTAX: 1}),
    Case(
        "column-twice.csv",
        b"response,response\na,b\n",
        FileOutcome.READ,
        0,
        {Outcome.MISSING_FIELD: 1},
        "more than once",
    ),
    Case("header-only.csv", b"instruction,response\n", FileOutcome.EMPTY),
    Case(
        "bad-bytes.csv",
        b"instruction,response\na,\xff\nb,\0\nc,d\n",
        FileOutcome.READ,
        1,
        {Outcome.INVALID_UNICODE: 1, Outcome.INVALID_SYNTAX: 1},
    ),
    # YAML
    Case(
        "bad-items.yaml",
        b"- instruction: a\n  response: b\n- instruction: [\n- instruction: c\n  response: d\n"
        b"- !!python/object/apply:os.getcwd []\n- instruction: a\n  instruction: b\n",
        FileOutcome.READ,
        2,
        {Outcome.INVALID_SYNTAX: 2, Outcome.DUPLICATE_KEY: 1},
    ),
    Case(
        "aliases.yaml",
        f"- instruction: a\n{_BOMB}\n  response: b\n".encode(),
        FileOutcome.READ,
        0,
        {Outcome.INVALID_SYNTAX: 1},
        "anchor",
    ),
    Case(
        "deep.yaml",
        b"- instruction: a\n  response: " + b"[" * 50_000 + b"\n",
        FileOutcome.READ,
        0,
        {Outcome.TOO_DEEP: 1},
    ),
    Case(
        "mapping.yaml", b"instruction: a\nresponse: b: c\n", FileOutcome.UNREADABLE, says="not allowed in this context"
    ),
    Case(
        "documents.yaml",
        b"instruction: a\nresponse: b\n---\ninstruction: *c\n---\n- 1\n---\ninstruction: d\nresponse: e\n",
        FileOutcome.READ,
        2,
        {Outcome.INVALID_SYNTAX: 1, Outcome.NOT_A_RECORD: 1},
    ),
    # Parquet and Arrow
    _cut("half.parquet", w.parquet(w.pairs(50))[:500], 0, "footer"),
    _cut("noise.parquet", b"no parquet at all", 0, "Parquet"),
    _cut("damaged.parquet", _parquet_with_a_damaged_row_group(), 10),
    Case("bad-text.parquet", _parquet_with_bad_text(), FileOutcome.READ, 2, {Outcome.INVALID_UNICODE: 1}),
    _cut("half-file.arrow", w.arrow_file(w.pairs(50))[:-300], 0),
    _cut("half-stream.arrow", w.arrow_stream(w.pairs(20))[:-300], 14),
    _cut("wild-offsets.arrow", _arrow_with_wild_offsets(), 0),
    # WebDataset
    # A member takes 1,024 bytes here, of which 512 are its header.
    _cut("cut-member.tar", _TAR[: 3 * 1024 + 514], 1, "unexpected end"),
    _cut("cut-sample.tar", _TAR[: 2 * 1024 + 514], 1, "unexpected end"),
    _cut("cut-header.tar", _TAR[: 4 * 1024 + 100], 2, "without the mark"),
    _cut("no-end-mark.tar", _TAR[: 4 * 1024], 2, "without the mark"),
    Case(
        "outside.tar",
        w.tar([("../../outside.instruction.txt", b"a"), ("../../outside.response.txt", b"b")]),
        FileOutcome.READ,
        1,
    ),
    Case(
        "bad-members.tar",
        w.tar(
            [
                ("a.instruction.txt", b"a"),
                ("a.response.txt", b"\xff"),
                ("b.json", b'{"instruction": "a", "response": "b"'),
                ("c.instruction.txt", b"a"),
                ("c.instruction.txt", b"b"),
                ("d.instruction.txt", b"a"),
                ("d.response.pickle", b"cos\nsystem\n(S'true'\ntR."),
                ("e.json", b'{"instruction": "a", "response": "b"}'),
            ]
        ),
        FileOutcome.READ,
        1,
        {
            Outcome.INVALID_UNICODE: 1,
            Outcome.INVALID_SYNTAX: 1,
            Outcome.DUPLICATE_KEY: 1,
            Outcome.MISSING_FIELD: 1,
        },
    ),
    # Schemas
    Case(
        "conversations.jsonl",
        b"".join(
            json.dumps({"messages": turns}).encode() + b"\n"
            for turns in (
                [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                [{"role": "user", "content": "a"}],
                [{"role": "narrator", "content": "a"}],
                ["a", "b"],
                [{"role": "user"}, {"role": "assistant", "content": "b"}],
                "a",
            )
        ),
        FileOutcome.READ,
        1,
        {Outcome.NO_PAIR: 1, Outcome.WRONG_TYPE: 3, Outcome.MISSING_FIELD: 1},
    ),
    # Not data, or not a file
    Case("LICENSE", b"Do as you like.", FileOutcome.SKIPPED_NOT_DATA, says="by its name"),
    Case("labels.txt", b"positive\nnegative\n", FileOutcome.SKIPPED_NOT_DATA, says="labels"),
    Case("noise.bin", bytes(range(256)) * 20, FileOutcome.SKIPPED_NOT_DATA, says="binary"),
    Case("dangling.jsonl", lambda path: path.symlink_to("nowhere"), FileOutcome.UNREADABLE, says="No such file"),
    Case("pipe.jsonl", lambda path: os.mkfifo(path), FileOutcome.UNREADABLE, says="pipe"),
]
"""Cases whose `pairs` is -1 end after an unknown positive number of rows."""
