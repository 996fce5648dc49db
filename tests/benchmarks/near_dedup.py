"""Speed of near-duplicate removal: our signatures compared with datatrove's and rensa's, then the whole stage.

    pip install -e '.[bench]'                                                    # for the lines of others
    OMP_NUM_THREADS=1 python -m tests.benchmarks.near_dedup                      # made-up prose
    OMP_NUM_THREADS=1 python -m tests.benchmarks.near_dedup --manifest mix.yaml  # records of your sources

Signatures: all implementations get the same texts and parameters (5-word shingles, 14 bands of 8 hashes) and run in
one thread. datatrove simplifies a text, splits it into English words, hashes the shingles and takes minima. rensa does
not split texts; its bulk function gets the sets of 5-word shingles, lower-cased and split at white space, and is timed
with and without making them. Slow implementations get the first of the texts only. The whole stage: all steps of a
build's near-duplicate removal, one after the other in this process, over records that were read before. Rates are per
second of CPU time, so per core, and independent of the machine's load; the fastest of three runs counts.
"""

import argparse
import io
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from pipeline.dedup.near.duplicates import drop_near_duplicates
from pipeline.dedup.near.signatures import U32, permutations, shingles, take_minima
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.tokens import U8, Vocabulary, scratch, tokenize
from pipeline.dedup.near.vocabulary import bare_vocabulary
from pipeline.engine.executor import Task
from pipeline.engine.progress import Display, StageProgress
from pipeline.text.columns import Texts, texts_of
from pipeline.text.hashing import U64
from pipeline.text.options import KERNEL
from tests.benchmarks import planted
from tests.benchmarks.dedup_quality import drawn
from tests.in_process import InProcess, as_ingested

RUNS = 3
SLOW_BYTES = 1_000_000
"""Text that slow implementations get."""


class Timed(InProcess):
    """Records the CPU time of each stage."""

    def __init__(self, work: Path) -> None:
        super().__init__(work, Display(io.StringIO()))
        self.seconds: dict[str, float] = {}

    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, Any]]:
        """See `Executor.complete`."""
        begin = time.process_time()
        yield from list(super().complete(tasks, progress))
        self.seconds[tasks[0].step.stage] = time.process_time() - begin


def fastest(run: Callable[[], object], runs: int = RUNS) -> float:
    """CPU seconds of the fastest of some runs."""
    spent = []
    for _ in range(runs):
        begin = time.process_time()
        run()
        spent.append(time.process_time() - begin)
    return min(spent)


def signatures(texts: pa.Array, spec: NearDedupSpec) -> U32:
    """MinHash signatures of single texts, uint32 (n, bands * rows)."""
    columns = texts_of(texts)
    found = np.full((len(texts), spec.bands * spec.rows), 2**32 - 1, np.uint32)
    hashes, flags, _ = scratch(columns, columns)
    _write_signatures(
        columns, bare_vocabulary(), spec.shingle, *permutations(spec.bands * spec.rows), hashes, flags, found
    )
    return found


@numba.njit(**KERNEL)
def _write_signatures(
    texts: Texts, vocabulary: Vocabulary, size: int, multipliers: U32, summands: U32, hashes: U64, flags: U8, found: U32
) -> None:
    for text in range(len(found)):
        count, _ = tokenize(texts, text, vocabulary, hashes, flags)
        count = shingles(hashes, flags, count, size, np.uint64(0))
        take_minima(found[text], hashes, count, multipliers, summands)


def datatroves(spec: NearDedupSpec) -> Callable[[Sequence[str]], object]:
    """A function that makes datatrove's signatures of texts; its words come from spaCy."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    step = MinhashDedupSignature(
        tempfile.gettempdir(), MinhashConfig(n_grams=spec.shingle, num_buckets=spec.bands, hashes_per_bucket=spec.rows)
    )

    def run(texts: Sequence[str]) -> None:
        for text in texts:
            found = step.get_shingles(text)
            if found.size:
                step.get_signature(found)

    return run


def shingle_sets(texts: Sequence[str], size: int) -> list[list[str]]:
    """Sets of the 5-word shingles of each text, as rensa takes them."""
    sets = []
    for text in texts:
        words = text.lower().split()
        sets.append(list({" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}))
    return sets


def measure_signatures(texts: Sequence[str], spec: NearDedupSpec) -> list[tuple[str, int, float]]:
    """Name, bytes of text and seconds of each implementation."""
    column = pa.array(texts, pa.large_string())
    size = sum(len(text.encode()) for text in texts)
    signatures(column[:10], spec)
    measured = [("ours", size, fastest(lambda: signatures(column, spec)))]
    few, small = [], 0
    for text in texts:
        if small >= SLOW_BYTES:
            break
        few.append(text)
        small += len(text.encode())
    try:
        from rensa import RMinHash

        count = spec.bands * spec.rows
        sets = shingle_sets(few, spec.shingle)
        alone = fastest(lambda: RMinHash.digest_matrix_from_token_sets(sets, count, 1))
        making = fastest(lambda: shingle_sets(few, spec.shingle))
        measured.append(("rensa, without making the shingles", small, alone))
        measured.append(("rensa, with making the shingles in Python", small, alone + making))
    except ImportError:
        measured.append(("rensa is not installed", 0, 0.0))
    try:
        run = datatroves(spec)
        run(few[:10])
        measured.append(("datatrove", small, fastest(lambda: run(few), 1)))
    except ImportError:
        measured.append(("datatrove is not installed", 0, 0.0))
    return measured


def measure_stage(table: pl.DataFrame, spec: NearDedupSpec, files: int) -> tuple[Mapping[str, float], int]:
    """CPU seconds of each kind of step, and the number of records dropped."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scope = as_ingested(work, [("rows", table[number::files]) for number in range(files)])
        with Timed(work) as executor:
            after = drop_near_duplicates(scope, spec, executor)
        return executor.seconds, sum(after.lost_rows.values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.near_dedup",
        description=(__doc__ or "").split("\n")[0],
        epilog="example: OMP_NUM_THREADS=1 python -m tests.benchmarks.near_dedup --megabytes 20",
    )
    parser.add_argument("--manifest", type=Path, help="take the records of this mix")
    parser.add_argument("--megabytes", type=float, default=50.0, help="of text (50)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    screen, spec, draw = Console(width=120), NearDedupSpec(), random.Random(options.seed)
    records = (
        iter(drawn(options.manifest, options.seed)) if options.manifest else iter(lambda: planted.made_up(draw), None)
    )
    pairs, size = [], 0
    for pair in records:
        if size >= options.megabytes * 1e6:
            break
        if draw.random() < 0.05 and pairs:
            pair = planted.space_and_case(draw.choice(pairs), draw)
        pairs.append(pair)
        size += sum(len(text.encode()) for text in pair)

    measured = measure_signatures([f"{a}\n{b}" for a, b in pairs], spec)
    table = Table(title=f"MinHash signatures: {spec.shingle}-word shingles, {spec.bands} x {spec.rows} hashes")
    for name in ("", "text", "MB/s and core", "ours is faster by"):
        table.add_column(name, justify="right" if name else "left")
    ours = measured[0][1] / measured[0][2]
    for name, taken, seconds in measured:
        rate = taken / seconds if seconds else 0.0
        shown = (f"{taken / 1e6:.1f} MB", f"{rate / 1e6:.2f}", f"{ours / rate:,.1f}") if rate else ("", "", "")
        table.add_row(name, *shown)
    screen.print(table)

    rows = pl.DataFrame(pairs, {"instruction": pl.String, "response": pl.String}, orient="row")
    measure_stage(rows[:1000], spec, 2)  # compiles the kernels
    seconds, dropped = measure_stage(rows, spec, 4)
    table = Table(title=f"the whole stage: {len(rows):,} records, {size / 1e6:.0f} MB of text, {dropped:,} dropped")
    for name in ("", "CPU seconds", "MB/s and core"):
        table.add_column(name, justify="right" if name else "left")
    for name, spent in {**seconds, "all": sum(seconds.values())}.items():
        table.add_row(name, f"{spent:.2f}", f"{size / 1e6 / spent:,.1f}" if spent else "")
    screen.print(table)


if __name__ == "__main__":
    main()
