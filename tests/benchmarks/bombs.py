"""Builds of inputs that are small and ask for much: seconds, peak memory of all processes, and what becomes of them.

    python -m tests.benchmarks.bombs                # all, with a million near duplicates and two million equal rows
    python -m tests.benchmarks.bombs --share 0.05   # a twentieth of them
    python -m tests.benchmarks.bombs cluster equal  # some

Each is a mix of its own with a hundred ordinary rows, which every build must keep, built with `--memory 2GB`.
"""

import argparse
import gzip
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.build import Built, build
from tests.benchmarks.scale import Peaks

MEMORY = 2_000_000_000
ORDINARY = 100
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "one", "lazy", "dog", "while", "five", "other", "dogs")
WORDS += ("look", "at", "it", "and", "then", "a", "cat", "sleeps", "on")
LEVELS = 9
"""Of YAML aliases, each of which repeats the one below ten times: a billion values."""


def ordinary(path: Path) -> None:
    """Write rows that nothing drops."""
    with path.open("w") as file:
        for number in range(ORDINARY):
            words = " ".join(f"w{number * 7 + n}" for n in range(20))
            file.write(json.dumps({"instruction": f"Repeat: {words}", "response": words}) + "\n")


def equal(path: Path, share: float) -> None:
    """Two million equal rows."""
    line = json.dumps({"instruction": "What is one and one, as a number?", "response": "It is 2, of course."}) + "\n"
    with path.with_suffix(".jsonl").open("w") as file:
        for _ in range(int(2000 * share)):
            file.write(line * 1000)


def cluster(path: Path, share: float) -> None:
    """A million rows that differ in commas only, all near duplicates of each other."""
    ways = itertools.product(*[(word, f"{word},") for word in WORDS])
    with path.with_suffix(".jsonl").open("w") as file:
        for way in itertools.islice(ways, int(1_000_000 * share)):
            file.write(
                json.dumps({"instruction": f"Say this. {' '.join(way)} it.", "response": "I have said it."}) + "\n"
            )


def long_row(path: Path, share: float) -> None:
    """A row of 63 MB, just below the largest that is read."""
    text = "many words " * (63_000_000 // 11)
    path.with_suffix(".jsonl").write_text(json.dumps({"instruction": "Say it.", "response": text}) + "\n")


def long_line(path: Path, share: float) -> None:
    """A line of 300 MB."""
    with path.with_suffix(".jsonl").open("wb") as file:
        file.write(b'{"instruction": "')
        for _ in range(300):
            file.write(b"x" * 1_000_000)
        file.write(b'", "response": "y"}\n')


def zeros(path: Path, share: float) -> None:
    """A gzip of 10 GB of zeros, in members; of 100 MB for a share."""
    member = gzip.compress(b"\0" * 100_000_000, mtime=0)
    path.with_suffix(".jsonl.gz").write_bytes(member * (100 if share == 1 else 1))


def aliases(path: Path, share: float) -> None:
    """YAML of a few lines that expands to a billion values."""
    lines = ["- a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, LEVELS)]
    path.with_suffix(".yaml").write_text("\n".join([*lines, "  instruction: a", "  response: b"]) + "\n")


def dictionary(path: Path, share: float) -> None:
    """Parquet of a few kB whose rows share one value of 5 MB: 10 GB in all."""
    rows = max(100, int(2000 * share))
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["many words " * 450_000]))
    pq.write_table(
        pa.table({"instruction": pa.array(["Say it."] * rows), "response": text}), path.with_suffix(".parquet")
    )


def metadata(path: Path, share: float) -> None:
    """Parquet whose footer is 64 MB: 10,000 columns, and metadata of long values."""
    columns = {f"column {n}": pa.array(["x"]) for n in range(2_000)}
    table = pa.table({"instruction": ["What?"], "response": ["That."], **columns})
    table = table.replace_schema_metadata({f"key {n}": "v" * 1_000_000 for n in range(max(8, int(64 * share)))})
    pq.write_table(table, path.with_suffix(".parquet"))


BOMBS: dict[str, Callable[[Path, float], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (equal, cluster, long_row, long_line, zeros, aliases, dictionary, metadata)
}


def write_mix(folder: Path, names: list[str], share: float) -> Path:
    """Write a mix of ordinary rows and some bombs, each a source; return the manifest's path."""
    ordinary(folder / "ordinary.jsonl")
    sources = [{"name": "ordinary", "path": "ordinary.jsonl"}]
    for name in names:
        place = folder / name
        place.mkdir()
        BOMBS[name](place / "bomb", share)
        sources.append({"name": name, "path": name})
    guard = {"max_share": 1.0, "allow_empty": names}
    mix = {"name": "bombs", "sources": sources, "guard": guard, "tokenizer": {"vocab_size": 400}}
    (folder / "mix.yaml").write_text(yaml.safe_dump(mix))
    return folder / "mix.yaml"


def outcomes(built: Built, name: str) -> Iterator[str]:
    """Yield what became of a source's rows and files, as phrases."""
    counts = built.dataset.counts[name]
    yield f"{counts.rows:,} rows, {counts.kept:,} kept"
    for reason, number in counts.dropped.items():
        yield f"{reason} {number:,}"
    for fault in built.faults:
        if fault.source == name:
            yield f"{fault.outcome}: {fault.detail}"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *BOMBS], default=[])
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each")
    options = parser.parse_args()
    table = Table(title=f"bombs, --memory {MEMORY / 1e9:.0f}GB, share {options.share}", title_justify="left")
    for column in ("bomb", "input", "seconds", "peak memory", "outcome"):
        table.add_column(column)
    for name in options.names or BOMBS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            manifest = write_mix(folder, [name], options.share)
            size = sum(path.stat().st_size for path in (folder / name).iterdir())
            began = time.monotonic()
            with Peaks(folder / "out") as peaks:
                built = build(manifest, out=folder / "out", workers=1, memory=MEMORY)
            assert built.dataset.counts["ordinary"].kept == ORDINARY
            seconds, memory = f"{time.monotonic() - began:,.1f}", f"{peaks.memory / 1e6:,.0f} MB"
            table.add_row(name, f"{size / 1e6:,.1f} MB", seconds, memory, "; ".join(outcomes(built, name)))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
