"""Any number of instruction-response pairs for benchmarks, made fast, with planted exact and near duplicates.

Row i is a pure function of (seed, i). Words follow Zipf's law; a few are numbers. A share of the rows repeats an
earlier row, exactly or with some words of the response changed. If that row is a repetition too, both repeat the same
original.
"""

import random
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.text.hashing import GOLDEN, mix

EXACT = 0.05
"""Share of rows that repeat an earlier row."""
NEAR = 0.05
"""Share of rows that repeat an earlier row with one in `CHANGED` words of the response changed."""
CHANGED = 40
WORDS = 30_000
BLOCK_ROWS = 20_000
LONG = (20, 61, 30, 221)
"""Least words of an instruction, number of its lengths; the same of a response."""
SHORT = (6, 9, 6, 11)
"""Those of pairs of about 30 tokens."""


def vocabulary() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32]]:
    """Bytes of all made-up words, each followed by a blank; their bounds; and a table to draw from by Zipf's law."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, range(26, 0, -1), k=draw.randint(1, 10))) for _ in range(WORDS)]
    words[5::100] = [f"{word}." for word in words[5::100]]
    words[7::100] = [word.capitalize() for word in words[7::100]]
    words += [str(number) for number in range(1000)]
    weights = np.concatenate([1 / (np.arange(WORDS) + 3.0), np.full(1000, 3e-4)])
    table = np.searchsorted(np.cumsum(weights) / weights.sum(), (np.arange(2**18) + 0.5) / 2**18).astype(np.int32)
    content = np.frombuffer("".join(f"{word} " for word in words).encode(), np.uint8)
    return content, np.concatenate([[0], np.cumsum([len(word) + 1 for word in words])]), table


@numba.njit(cache=True)
def _write(
    first: int,
    rows: int,
    seed: int,
    sizes: tuple[int, int, int, int],
    words: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    table: NDArray[np.int32],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> int:
    """Write the texts of some rows to `out` and their bounds to `ends` (2 * rows + 1,); returns the bytes written."""
    at = 0
    ends[0] = 0
    for row in range(rows):
        number = np.uint64(first + row)
        change = np.uint64(0)
        for _ in range(64):  # follow repetitions to the original
            draw = mix(number * GOLDEN + np.uint64(seed))
            share = float(draw >> np.uint64(11)) / 2.0**53
            if number == np.uint64(0) or share >= EXACT + NEAR:
                break
            if share >= EXACT and change == np.uint64(0):
                change = draw | np.uint64(1)
            number = mix(draw) % number
        state = mix(number + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03) + np.uint64(1))
        lengths = (
            sizes[0] + int(state % np.uint64(sizes[1])),
            sizes[2] + int((state >> np.uint64(32)) % np.uint64(sizes[3])),
        )
        for part in range(2):
            for _word in range(lengths[part]):
                state = mix(state + GOLDEN)
                pick = state
                if part == 1 and change != np.uint64(0):
                    other = mix(state ^ change)
                    if other % np.uint64(CHANGED) == np.uint64(0):
                        pick = mix(other)
                chosen = table[pick >> np.uint64(46)]
                size = bounds[chosen + 1] - bounds[chosen]
                out[at : at + size] = words[bounds[chosen] : bounds[chosen + 1]]
                at += size
            at -= 1  # drop the last blank
            ends[2 * row + part + 1] = at
    return at


def write_texts(folder: Path, megabytes: float, *, files: int, seed: int = 0) -> tuple[int, int]:
    """Write `files` files of pairs, alternately JSON lines and Parquet, with about `megabytes` of text in all.

    Returns
    -------
    tuple of int
        Bytes of text (instructions and responses), and number of rows.
    """
    folder.mkdir(parents=True)
    vocabulary_ = vocabulary()
    out, ends = np.empty(BLOCK_ROWS * 4000, np.uint8), np.empty(2 * BLOCK_ROWS + 1, np.int64)
    row, total = 0, 0
    for number in range(files):
        target = megabytes * 1e6 * (number + 1) / files
        with _JsonLines(folder, number) if number % 2 == 0 else _Parquet(folder, number) as file:
            while total < target:
                rows = int(min(BLOCK_ROWS, max(1, (target - total) / 800)))
                size = _write(row, rows, seed, LONG, *vocabulary_, out, ends)
                file.add(out[:size], ends[: 2 * rows + 1])
                row, total = row + rows, total + size
    return total, row


def write_short_pairs(folder: Path, rows: int, *, seed: int = 0) -> int:
    """Write pairs of about 30 tokens, half of them to one file of JSON lines and half to one of Parquet.

    Returns
    -------
    int
        Bytes of text.
    """
    folder.mkdir(parents=True)
    vocabulary_ = vocabulary()
    out, ends = np.empty(BLOCK_ROWS * 400, np.uint8), np.empty(2 * BLOCK_ROWS + 1, np.int64)
    total = 0
    for number, (first, last) in enumerate(((0, rows // 2), (rows // 2, rows))):
        with _JsonLines(folder, number) if number == 0 else _Parquet(folder, number) as file:
            for row in range(first, last, BLOCK_ROWS):
                count = min(BLOCK_ROWS, last - row)
                size = _write(row, count, seed, SHORT, *vocabulary_, out, ends)
                file.add(out[:size], ends[: 2 * count + 1])
                total += size
    return total


class _JsonLines:
    def __init__(self, folder: Path, number: int) -> None:
        self._file = (folder / f"part-{number:03}.jsonl").open("wb")

    def __enter__(self) -> "_JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, content: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        # the words need no escapes
        text, bounds = content.tobytes(), ends.tolist()
        pairs = zip(bounds[:-2:2], bounds[1::2], bounds[2::2], strict=True)
        self._file.writelines(
            b'{"instruction": "%b", "response": "%b"}\n' % (text[a:b], text[b:c]) for a, b, c in pairs
        )


class _Parquet:
    def __init__(self, folder: Path, number: int) -> None:
        self._schema = pa.schema([("instruction", pa.large_string()), ("response", pa.large_string())])
        self._writer = pq.ParquetWriter(folder / f"part-{number:03}.parquet", self._schema, compression="zstd")

    def __enter__(self) -> "_Parquet":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, content: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        buffers: list[Any] = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(content.tobytes())]
        texts = pa.LargeStringArray.from_buffers(len(ends) - 1, buffers[1], buffers[2])
        columns = [texts.take(pa.array(np.arange(part, len(ends) - 1, 2))) for part in (0, 1)]
        self._writer.write_table(pa.table(columns, schema=self._schema))
