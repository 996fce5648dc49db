"""Reading takes bounded memory, whatever the size of a file, a row or a compressed block."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

MIB = 1 << 20

# Reads one file in a new process and prints: pairs, rejected rows by reason, end, growth of peak memory in MiB.
READ = """
import json, resource, sys
from collections import Counter
from pathlib import Path
from corpus.discover import discover
from corpus.formats.base import Limits
from corpus.pairs import read_columns
from corpus.record import PairColumns
from corpus.source import SourceSpec
from corpus.text_lines import TextLines
import corpus.formats.json_file, corpus.formats.csv_file, corpus.formats.jsonl, corpus.formats.yaml_list

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

TextLines(b'{"instruction": "a"}\\n', 100).read(0, ["instruction"])
spec = SourceSpec(name="s", path=sys.argv[1])
before = peak()
(file,) = discover(spec, Path("/"))
counts = Counter()
for row in read_columns(spec, file, limits=Limits(max_row_bytes=8 << 20)):
    if isinstance(row, PairColumns):
        counts["Pair"] += len(row.responses)
    else:
        counts[getattr(row, "reason", type(row).__name__)] += 1
print(json.dumps([counts, str(row.outcome), row.detail, peak() - before]))
"""

ROW = json.dumps({"instruction": "How much is one and one? " * 40, "response": "Two. " * 40}).encode()
ROWS_BYTES = 1 << 28


def read(path: Path) -> tuple[dict[str, int], str, str, float]:
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    counts, outcome, detail, grown = json.loads(done.stdout)
    return counts, outcome, detail, grown


def compress(path: Path, *parts: tuple[bytes, int]) -> None:
    """Write each content repeatedly, as frames of a zstd file; the repeated frame is compressed once."""
    with path.open("wb") as file:
        for content, times in parts:
            repeat = max(1, min(times, MIB // max(len(content), 1)))
            frame = zstandard.ZstdCompressor().compress(content * repeat)
            for _ in range(times // repeat):
                file.write(frame)
            file.write(zstandard.ZstdCompressor().compress(content * (times % repeat)) if times % repeat else b"")


@pytest.mark.slow  # reads 256 MiB
def test_file_of_many_lines_takes_little_memory(tmp_path: Path) -> None:
    count = ROWS_BYTES // (len(ROW) + 1)
    compress(tmp_path / "rows.jsonl.zst", (ROW + b"\n", count))
    counts, outcome, _, grown = read(tmp_path / "rows.jsonl.zst")
    assert counts == {"Pair": count, "FileEnd": 1}
    assert outcome == "read"
    assert grown < 100


def test_line_of_two_gibibytes_is_rejected_alone(tmp_path: Path) -> None:
    huge = (b'{"instruction": "', 1), (b"a" * MIB, 2048), (b'", "response": "b"}\n', 1)
    compress(tmp_path / "rows.jsonl.zst", (ROW + b"\n", 3), *huge, (ROW + b"\n", 4))
    counts, outcome, _, grown = read(tmp_path / "rows.jsonl.zst")
    assert counts == {"Pair": 7, "too_large": 1, "FileEnd": 1}
    assert outcome == "read"
    assert grown < 100


def _wrap(path: Path, before: bytes, between: bytes, after: bytes, mebibytes: int) -> int:
    count = mebibytes * MIB // (len(ROW) + len(between))
    compress(path, (before, 1), (ROW + between, count), (ROW + after, 1))
    return count + 1


@pytest.mark.parametrize(
    ("name", "before", "between", "after"),
    [("rows.json.zst", b"[", b",\n", b"]"), ("rows.json.zst", b'{"data": [', b", ", b'], "license": "none"}')],
    ids=["array", "object"],
)
def test_json_value_of_many_rows_takes_little_memory(
    name: str, before: bytes, between: bytes, after: bytes, tmp_path: Path
) -> None:
    count = _wrap(tmp_path / name, before, between, after, 150)
    counts, outcome, _, grown = read(tmp_path / name)
    assert counts == {"Pair": count, "FileEnd": 1}
    assert outcome == "read"
    assert grown < 100


def test_array_item_above_the_limit_is_skipped_in_chunks(tmp_path: Path) -> None:
    huge = (b'{"instruction": "', 1), (b"a" * MIB, 300), (b'", "response": "b"},', 1)
    compress(tmp_path / "rows.json.zst", (b"[" + ROW + b",", 1), *huge, (ROW + b"]", 1))
    counts, outcome, _, grown = read(tmp_path / "rows.json.zst")
    assert counts == {"Pair": 2, "too_large": 1, "FileEnd": 1}
    assert outcome == "read"
    assert grown < 200


def _gzip_bomb() -> bytes:
    return gzip.compress(b"\0" * (300 * MIB), compresslevel=1, mtime=0)


def _zstd_bomb() -> bytes:
    return zstandard.ZstdCompressor().compress(b"\0" * (300 * MIB))


@pytest.mark.parametrize(("suffix", "bomb"), [(".gz", _gzip_bomb), (".zst", _zstd_bomb)])
def test_decompression_bomb_is_one_rejected_row(suffix: str, bomb: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(bomb())
    counts, outcome, _, grown = read(path)
    assert counts == {"too_large": 1, "FileEnd": 1}
    assert outcome == "read"
    assert grown < 200
