"""What the work inside each stage of a build takes at least, on one core.

    python -m tests.benchmarks.bounds             # 24 MB of text

For each piece of work: MB of text per second of CPU, the best of three. A stage can be no faster than its slowest
piece, and a core that does all pieces of a stage one after the other takes the sum of their times, which the last
column adds up. What a stage takes beyond that (`tests.benchmarks.scale`) is the start of processes, files, fsync, and
steps that wait for each other.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from xxhash import xxh3_128_digest

from corpus.columns import ColumnCounter
from corpus.discover import discover
from corpus.markup import Markup
from corpus.pairs import read_pairs
from corpus.record import Pair
from corpus.source import SourceSpec
from pipeline.decontaminate.index import Index
from pipeline.decontaminate.probes import build_index
from pipeline.decontaminate.scan import scan
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.word_hashes import words_of
from pipeline.dedup.near.signatures import band_keys
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.vocabulary import count_sample, vocabulary
from pipeline.ingest.batches import batches
from pipeline.ingest.clean import clean
from pipeline.ingest.spec import CleanSpec
from pipeline.records.runs import stable_order
from pipeline.records.schema import IPC
from pipeline.rules.apply import apply_rules
from pipeline.rules.spec import RulesSpec
from pipeline.shards.encode import GUARD_BYTES
from pipeline.shards.tokenizer import engine, load_encoder, train
from pipeline.text.folding import fold_pairs
from tests.benchmarks.texts import write_texts

MEGABYTES = 24
VOCABULARY = 16_384
BUILD = 10**9
"""Size of the build of which both engines encode `GUARD_BYTES`."""


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work, the least of three times after a first one."""
    work()
    taken = []
    for _ in range(3):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def _index(texts: pl.DataFrame) -> Index:
    items = texts.head(100).with_columns(source=pl.lit("held"), task=pl.lit("held"), meta=pl.lit(None, pl.String))
    items = items.with_columns(row_id=pl.Series([f"{number:016}".encode() for number in range(len(items))]))
    index, _ = build_index(items, DecontaminateSpec())
    return index


def _parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _ipc(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=IPC) as file:
        file.write_table(table)


def pieces(folder: Path) -> tuple[dict[str, dict[str, Callable[[], object]]], int]:
    """Return the work of each stage, and the size of the text in bytes."""
    write_texts(folder / "data", MEGABYTES, files=1)
    spec = SourceSpec(name="made-up", path=str(folder / "data"))
    (file,) = discover(spec, folder)
    path = Path(file.url)
    pairs = [item for item in read_pairs(spec, file) if isinstance(item, Pair)]
    size = sum(len(pair.instruction) + len(pair.response) for pair in pairs)
    frame = pl.DataFrame(
        {"instruction": [pair.instruction for pair in pairs], "response": [pair.response for pair in pairs]}
    )
    table = frame.to_arrow().cast(pa.schema([(name, pa.large_string()) for name in frame.columns])).combine_chunks()
    texts = table.column("instruction").combine_chunks(), table.column("response").combine_chunks()
    judged = clean(frame, CleanSpec()).with_columns(stage=pl.lit(""))
    words, index = words_of(frame["instruction"], frame["response"]), _index(frame)
    near, known = NearDedupSpec(), vocabulary(np.empty(0, np.uint64))
    keys = band_keys(*texts, known, near).ravel()
    tokenizer = train(iter(frame["response"].head(2000)), VOCABULARY).to_str()
    encoder = load_encoder(tokenizer, engine())
    lists = [column.to_pylist() for column in texts]
    shuffled = pa.array(np.random.default_rng(0).permutation(len(pairs)))
    guarded = lists[1][: len(lists[1]) * GUARD_BYTES // BUILD]
    guarded_ids = encoder.encode(guarded)
    content = path.read_bytes()
    return {
        "hash": {"sha256 of the file": lambda: hashlib.sha256(content).hexdigest()},
        "ingest": {
            "rows to pairs, one by one": lambda: sum(1 for _ in read_pairs(spec, file, columns=ColumnCounter())),
            "batches of columns": lambda: sum(1 for _ in batches(spec, file, None, Markup(), ColumnCounter())),
            "clean": lambda: clean(frame, CleanSpec()),
            "rules": lambda: apply_rules(judged, RulesSpec()),
            "fold and hash": lambda: [sum(map(len, map(xxh3_128_digest, some))) for some in fold_pairs(*texts)],
            "write records, lz4": lambda: _ipc(table, folder / "records.arrow"),
        },
        "near-bands": {
            "read and tokenize words": lambda: count_sample(*texts),
            "signatures, with that": lambda: band_keys(*texts, known, near),
            "sort the bands": lambda: stable_order(keys),
        },
        "decontaminate": {
            "words": lambda: words_of(frame["instruction"], frame["response"]),
            "search": lambda: scan(words, index),
        },
        "scatter": {
            "take rows": lambda: table.take(shuffled),
            "write rows, lz4": lambda: _ipc(table, folder / "rows.arrow"),
        },
        "encode": {
            "tokenize": lambda: [encoder.encode(some) for some in lists],
            "guard: the reference": lambda: encoder.mismatch(guarded, *guarded_ids),
            "curated texts, zstd": lambda: _parquet(table, folder / "curated.parquet"),
        },
    }, size


def main() -> None:
    """Entry point."""
    pa.set_cpu_count(1)
    screen = Console(width=120, highlight=False)
    table = Table(title="MB of text per second of CPU, one core", title_justify="left")
    for name in ("stage", "work", "MB/s", "all of the stage"):
        table.add_column(name, justify="left" if name in ("stage", "work") else "right")
    with tempfile.TemporaryDirectory() as folder:
        stages, size = pieces(Path(folder))
        for stage, works in stages.items():
            taken = {name: seconds(work) for name, work in works.items()}
            # Neither what another piece contains, nor what is done for the rows of other files.
            others = {"rows to pairs, one by one", "read and tokenize words"}
            total = sum(spent for name, spent in taken.items() if name not in others)
            for place, (name, spent) in enumerate(taken.items()):
                first = (stage, f"{size / 1e6 / total:,.0f}") if place == 0 else ("", "")
                table.add_row(first[0], name, f"{size / 1e6 / spent:,.0f}", first[1])
    screen.print(table)


if __name__ == "__main__":
    main()
