"""Verify a dataset: every hash, count and law that the contract promises.

    python -m pipeline.verify out/mix

Trusts nothing but `dataset.json`, and checks that against the rest. Shards are
parsed here byte by byte, not through a reader that might forgive.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from corpus.contract import COMMIT, FINGERPRINTED, FORMAT, SPECIAL_TOKENS, fingerprint
from corpus.outcome import Outcome
from pipeline.dataset.store import Store, StoreError
from pipeline.records.ledger import READ_STAGE
from pipeline.report.summary import console
from pipeline.shards.mds import COLUMNS

SHOWN = 20
"""Problems printed per check."""
_CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was checked."""

    name: str
    checked: str
    """How much was looked at."""
    problems: tuple[str, ...]


def verify(out: str) -> list[Check]:
    """Run every check.

    Parameters
    ----------
    out
        Folder or fsspec URL of a dataset.

    Raises
    ------
    FileNotFoundError
        There is no `dataset.json`.
    """
    store = Store(out)
    commit = json.loads(store.read(COMMIT))
    checks = [_check("dataset.json", f"format {FORMAT}", _commit_problems(commit))]
    if checks[-1].problems:
        return checks
    checks.append(_check("files", f"{len(commit['files']):,} hashes", _file_problems(store, commit)))
    if checks[-1].problems:
        return checks  # what follows reads these files
    sidecars: dict[str, Any] = {}
    checks.append(_check("sidecars", "lengths, strata, index", _sidecar_problems(store, sidecars)))
    if checks[-1].problems:
        return checks
    lengths, strata, index = sidecars["lengths"], sidecars["strata"], sidecars["index"]
    ids: list[NDArray[np.uint8]] = [np.empty((0, 16), np.uint8)]
    shards = f"{len(index['shards']):,} shards, {len(lengths):,} samples"
    checks += [
        _check("fingerprint", "index, lengths, strata, tokenizer", _fingerprint_problems(store, commit)),
        _check("counts", f"{len(commit['counts']):,} sources", _count_problems(commit, lengths, strata)),
        _check("strata", f"{len(strata):,} ranges", _strata_problems(strata, len(lengths))),
        _check("tokenizer", f"{commit['tokenizer']['vocab_size']:,} ids", _tokenizer_problems(store, commit)),
        _check("shards", shards, _shard_problems(store, commit, index, lengths, ids)),
    ]
    row_ids = np.concatenate(ids)
    checks += [
        _check("curated", "row ids and strata in sample order", _curated_problems(store, commit, row_ids, strata)),
        _check("eval", f"{commit['eval']['rows']:,} rows", _eval_problems(store, commit)),
        _check("ledger", "conservation, unique rows, samples", _ledger_problems(store, commit, row_ids)),
    ]
    return checks


def _check(name: str, checked: str, problems: Iterator[str]) -> Check:
    """Collect problems; a file that cannot even be made sense of is one more."""
    found = []
    try:
        for problem in problems:
            found.append(problem)
    except StoreError:
        raise
    except Exception as error:
        found.append(f"cannot be checked further: {type(error).__name__}: {error}")
    return Check(name=name, checked=checked, problems=tuple(found))


def _commit_problems(commit: Any) -> Iterator[str]:
    found = commit.get("format") if isinstance(commit, dict) else type(commit).__name__
    if found != FORMAT:
        yield f"format is {found!r}, expected {FORMAT!r}"
        return
    needed = (
        "fingerprint",
        "samples",
        "tokens",
        "prefix_tokens",
        "response_tokens",
        "max_tokens",
        "tokenizer",
        "shards",
    )
    for name in (*needed, "counts", "eval", "files", "lock_sha256", "build_key", "versions"):
        if name not in commit:
            yield f"lacks {name}"
    for path in commit.get("files", {}):
        if _leaves(path):
            yield f"files: {path!r} leads out of the dataset"
    required = (
        "shards/index.json",
        "strata.json",
        "lengths.npy",
        "tokenizer/tokenizer.json",
        "mix.lock.yaml",
        "README.md",
    )
    for path in (*required, "ledger/files.parquet", "report/index.html"):
        if path not in commit.get("files", {}):
            yield f"files: lacks {path}"


def _leaves(path: str) -> bool:
    return path.startswith("/") or "\\" in path or ".." in path.split("/") or ":" in path


def _file_problems(store: Store, commit: dict[str, Any]) -> Iterator[str]:
    for path, facts in sorted(commit["files"].items()):
        digest, size = hashlib.sha256(), 0
        try:
            with store.open(path) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            yield f"{path}: {'is missing' if isinstance(error, FileNotFoundError) else error}"
            continue
        if size != facts["bytes"]:
            yield f"{path}: has {size:,} bytes, expected {facts['bytes']:,}"
        elif digest.hexdigest() != facts["sha256"]:
            yield f"{path}: its content has changed (sha256 differs)"
    for path in sorted(set(store.sizes()) - set(commit["files"]) - {COMMIT}):
        yield f"{path}: is no part of the dataset"


def _sidecar_problems(store: Store, sidecars: dict[str, Any]) -> Iterator[str]:
    """Load them into `sidecars`."""
    with store.open("lengths.npy") as file:
        lengths = np.lib.format.read_array(file, allow_pickle=False)
    if lengths.dtype != np.uint16 or lengths.ndim != 2 or lengths.shape[1] != 2:
        yield f"lengths.npy is {lengths.dtype} {lengths.shape}, expected uint16 (n, 2)"
    sidecars["lengths"] = lengths
    sidecars["strata"] = json.loads(store.read("strata.json"))["strata"]
    sidecars["index"] = json.loads(store.read("shards/index.json"))


def _fingerprint_problems(store: Store, commit: dict[str, Any]) -> Iterator[str]:
    with ExitStack() as stack:
        found = fingerprint(stack.enter_context(store.open(name)) for name in FINGERPRINTED)
    if found != commit["fingerprint"]:
        yield f"is {found}, dataset.json says {commit['fingerprint']}"
    if commit["files"]["mix.lock.yaml"]["sha256"] != commit["lock_sha256"]:
        yield "lock_sha256 is not the hash of mix.lock.yaml"


def _count_problems(commit: dict[str, Any], lengths: NDArray[np.uint16], strata: list[dict[str, Any]]) -> Iterator[str]:
    prefix, response = lengths.sum(axis=0, dtype=np.int64).tolist()
    longest = int(lengths.sum(axis=1, dtype=np.int64).max(initial=0))
    facts = {
        "samples": len(lengths),
        "tokens": prefix + response,
        "prefix_tokens": prefix,
        "response_tokens": response,
        "max_tokens": longest,
    }
    for name, found in facts.items():
        if commit[name] != found:
            yield f"{name}: dataset.json says {commit[name]:,}, lengths.npy {found:,}"
    for name, count in commit["counts"].items():
        mine = [lengths[s["begin"] : s["end"]].sum(dtype=np.int64) for s in strata if s["source"] == name]
        if count["tokens"] != sum(mine):
            yield f"source {name}: dataset.json says {count['tokens']:,} tokens, its strata have {sum(mine):,}"


def _strata_problems(strata: list[dict[str, Any]], samples: int) -> Iterator[str]:
    end = 0
    for stratum in strata:
        where = f"source {stratum['source']}, task {stratum['task']}"
        if stratum["begin"] != end or stratum["end"] <= stratum["begin"]:
            covers = f"[{stratum['begin']:,}, {stratum['end']:,})"
            yield f"{where}: covers {covers}, expected to begin at {end:,} and not be empty"
        end = stratum["end"]
    if end != samples:
        yield f"the ranges end at {end:,}, but there are {samples:,} samples"
    names = [(stratum["source"], stratum["task"]) for stratum in strata]
    if len(set(names)) != len(names):
        yield "two ranges have the same source and task"


def _tokenizer_problems(store: Store, commit: dict[str, Any]) -> Iterator[str]:
    facts = commit["tokenizer"]
    if facts["file"] not in commit["files"] or commit["files"][facts["file"]]["sha256"] != facts["sha256"]:
        yield "its sha256 is not that of its file"
        return
    content = json.loads(store.read(facts["file"]))
    ids = {**content["model"]["vocab"], **{token["content"]: token["id"] for token in content["added_tokens"]}}
    if max(ids.values()) + 1 != facts["vocab_size"]:
        yield f"vocab_size is {facts['vocab_size']:,}, but the largest id is {max(ids.values()):,}"
    for token in SPECIAL_TOKENS:
        if facts["special"].get(token) != ids.get(token):
            yield f"{token}: dataset.json says id {facts['special'].get(token)}, the tokenizer {ids.get(token)}"


def _shard_problems(
    store: Store,
    commit: dict[str, Any],
    index: dict[str, Any],
    lengths: NDArray[np.uint16],
    ids: list[NDArray[np.uint8]],
) -> Iterator[str]:
    """Row ids of each sound shard, uint8 (n, 16), are added to `ids`."""
    first = 0
    if len(index["shards"]) != commit["shards"]:
        yield f"dataset.json says {commit['shards']:,} shards, index.json lists {len(index['shards']):,}"
    for number, entry in enumerate(index["shards"]):
        name = entry["raw_data"]["basename"]
        encodings = dict(zip(entry["column_names"], entry["column_encodings"], strict=False))
        if _leaves(name) or "/" in name:
            yield f"shard {number}: its name {name!r} leads out of the folder"
        elif f"shards/{name}" not in commit["files"]:
            yield f"shard {number}: {name} is not listed in dataset.json"
        elif encodings != COLUMNS:
            yield f"{name}: has columns {encodings}, expected {COLUMNS} (others may run code when read)"
        elif entry["compression"] is not None or entry["zip_data"] is not None or entry["format"] != "mds":
            yield f"{name}: is not a plain uncompressed MDS shard"
        else:
            content = store.read(f"shards/{name}")
            if entry["raw_data"]["bytes"] != len(content):
                yield f"{name}: index.json says {entry['raw_data']['bytes']:,} bytes, found {len(content):,}"
            if entry["raw_data"]["hashes"].get("xxh64") != xxhash.xxh64(content).hexdigest():
                yield f"{name}: its xxh64 is not that of index.json"
            try:
                ids.append(_parse_shard(content, lengths[first : first + entry["samples"]], commit["tokenizer"]))
            except ValueError as error:
                yield f"{name}: {error}"
        first += entry["samples"]
    if first != len(lengths):
        yield f"the shards hold {first:,} samples, lengths.npy {len(lengths):,}"


def _parse_shard(content: bytes, lengths: NDArray[np.uint16], tokenizer: dict[str, Any]) -> NDArray[np.uint8]:
    """Row ids of a shard whose every sample is as `lengths` and the template say; ValueError if not."""
    data = np.frombuffer(content, np.uint8)
    count = int(np.frombuffer(content, "<u4", 1)[0])
    if count != len(lengths):
        raise ValueError(f"holds {count:,} samples, expected {len(lengths):,}")
    offsets = np.frombuffer(content, "<u4", count + 1, 4).astype(np.int64)
    if offsets[-1] != len(content) or (np.diff(offsets) <= 27).any():
        raise ValueError("its offsets do not fit its size")
    begin = offsets[:-1]
    prefix = data[begin + 8] + 256 * data[begin + 9].astype(np.int64)
    wide = data[begin + 26] & 1
    sizes = data[begin + 27] + 256 * np.where(wide, data[begin + 27 + wide], 0).astype(np.int64)
    total = lengths.sum(axis=1, dtype=np.int64)
    bad = np.flatnonzero((prefix != lengths[:, 0]) | (sizes != total) | (np.diff(offsets) != 28 + wide + 2 * total))
    if len(bad):
        raise ValueError(f"sample {bad[0]} is not as long as lengths.npy says")
    tokens = begin + 28 + wide

    def token_at(place: NDArray[np.int64]) -> NDArray[np.int64]:
        at = tokens + 2 * place
        found: NDArray[np.int64] = data[at] + 256 * data[at + 1].astype(np.int64)
        return found

    special = tokenizer["special"]
    start, end = token_at(np.zeros_like(total)), token_at(prefix - 1)
    bad = np.flatnonzero((start != special["<|im_start|>"]) | (end != special["<|im_end|>"]))
    if len(bad):
        raise ValueError(f"the prefix of sample {bad[0]} does not begin and end with its tags")
    ids: NDArray[np.uint8] = data[begin[:, None] + np.arange(10, 26)]
    return ids


def _curated_problems(
    store: Store, commit: dict[str, Any], ids: NDArray[np.uint8], strata: list[dict[str, Any]]
) -> Iterator[str]:
    import pyarrow.parquet as pq

    first = 0
    ends = np.array([stratum["end"] for stratum in strata])
    for path in sorted(path for path in commit["files"] if path.startswith("curated/")):
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(columns=["row_id", "source", "task"]):
                found = bytes.fromhex("".join(batch.column("row_id").to_pylist()))
                if found != ids[first : first + batch.num_rows].tobytes():
                    yield f"{path}: its row ids are not those of the samples from {first:,} on"
                    return
                which = np.searchsorted(ends, np.arange(first, first + batch.num_rows), side="right")
                names = [(strata[w]["source"], strata[w]["task"]) for w in which.tolist()]
                if names != list(
                    zip(batch.column("source").to_pylist(), batch.column("task").to_pylist(), strict=True)
                ):
                    yield f"{path}: sources and tasks from sample {first:,} on are not those of strata.json"
                    return
                first += batch.num_rows
    if first != len(ids):
        yield f"curated/ holds {first:,} records, the shards {len(ids):,} samples"


def _eval_problems(store: Store, commit: dict[str, Any]) -> Iterator[str]:
    rows = 0
    for path in commit["eval"]["files"]:
        if path not in commit["files"]:
            yield f"{path}: is not listed in dataset.json"
            continue
        with store.open(path) as file:
            for line in file:
                record = json.loads(line)
                rows += 1
                if not record["instruction"] or record["response"] == "":
                    yield f"{path}: row {record['row_id']} has an empty text"
    if rows != commit["eval"]["rows"]:
        yield f"dataset.json says {commit['eval']['rows']:,} rows, found {rows:,}"


def _ledger_problems(store: Store, commit: dict[str, Any], ids: NDArray[np.uint8]) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    known = pa.array(sorted({*Outcome}.union(*(count["dropped"] for count in commit["counts"].values()))))
    keys: list[NDArray[np.uint64]] = [np.empty((0, 2), np.uint64)]
    tally: Counter[tuple[str, str, str, bool]] = Counter()  # source, outcome, stage, whether it is a row's first part
    sampled = 0
    for path in sorted(path for path in commit["files"] if path.startswith("ledger/rows-")):
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches():
                lines = pa.Table.from_batches([batch])
                lines = lines.append_column("first", pc.equal(lines.column("part"), 0))
                if not pc.all(pc.is_in(lines.column("outcome"), value_set=known), min_count=0).as_py():
                    yield f"{path}: has an outcome that dataset.json does not list"
                keys.append(_halves(lines))
                names = ["source", "outcome", "stage", "first"]
                for group in lines.group_by(names).aggregate([([], "count_all")]).to_pylist():
                    source, outcome, stage, first = (group[name] for name in names)
                    tally[source, outcome, stage, first] += group["count_all"]
                samples = lines.filter(pc.is_valid(lines.column("sample")))
                places = samples.column("sample").to_numpy()
                if len(places) and (places.min() < 0 or places.max() >= len(ids)):
                    yield f"{path}: names samples that do not exist"
                elif (ids[places].view(">u8") != _halves(samples)).any():
                    yield f"{path}: names samples that are not those rows"
                if not pc.all(pc.equal(samples.column("outcome"), Outcome.KEPT.value), min_count=0).as_py():
                    yield f"{path}: a row that was dropped has a sample"
                sampled += len(places)
    halves = np.concatenate(keys)
    halves = halves[np.lexsort((halves[:, 1], halves[:, 0]))]
    repeated = int((halves[1:] == halves[:-1]).all(axis=1).sum())
    if repeated:
        yield f"{repeated:,} row ids stand in it more than once"
    if sampled != len(ids):
        yield f"it names {sampled:,} samples, the shards hold {len(ids):,}"
    yield from _conservation_problems(commit, tally, _entered(store))


def _halves(lines: Any) -> NDArray[np.uint64]:
    """Row ids of ledger lines as uint64 (n, 2)."""
    content = bytes.fromhex("".join(lines.column("row_id").to_pylist()))
    return np.frombuffer(content, ">u8").astype(np.uint64).reshape(-1, 2)


def _conservation_problems(
    commit: dict[str, Any],
    tally: "Counter[tuple[str, str, str, bool]]",
    entered: dict[str, tuple[int, int]],
) -> Iterator[str]:
    """Per source: pairs + rows without a pair = kept + dropped, in the ledger, the files table and dataset.json."""
    for name in sorted({source for source, *_ in tally} | set(commit["counts"])):
        count = commit["counts"].get(name)
        if count is None:
            yield f"source {name}: is in the ledger, but not in dataset.json"
            continue
        outcomes: Counter[str] = Counter()
        without = first = 0
        for (source, outcome, stage, is_first), number in tally.items():
            if source == name:
                outcomes[outcome] += number
                without += number if stage == READ_STAGE else 0
                first += number if is_first else 0
        rows, pairs = entered.get(name, (0, 0))
        if (rows, pairs) != (count["rows"], count["pairs"]):
            yield f"source {name}: rows and pairs in ledger/files.parquet are not those of dataset.json"
        if first != rows:
            yield f"source {name}: {rows:,} rows were read, the ledger tells of {first:,}"
        if pairs + without != outcomes.total():
            yield (
                f"source {name}: {pairs:,} pairs and {without:,} rows without a pair came in, "
                f"{outcomes.total():,} were kept or dropped"
            )
        dropped = {reason: number for reason, number in outcomes.items() if reason != Outcome.KEPT}
        if outcomes[Outcome.KEPT] != count["kept"] or dropped != count["dropped"]:
            yield f"source {name}: kept and dropped in the ledger are not those of dataset.json"


def _entered(store: Store) -> dict[str, tuple[int, int]]:
    """Rows and pairs of each source by ledger/files.parquet."""
    import pyarrow.parquet as pq

    totals: dict[str, tuple[int, int]] = {}
    with store.open("ledger/files.parquet") as file:
        for line in pq.read_table(file, columns=["source", "rows", "pairs"], use_threads=False).to_pylist():
            rows, pairs = totals.get(line["source"], (0, 0))
            totals[line["source"]] = (rows + line["rows"], pairs + line["pairs"])
    return totals


def _show(checks: Sequence[Check], out: str) -> None:
    screen = console()
    table = Table(title=escape(out), title_justify="left")
    for name in ("check", "looked at", "result"):
        table.add_column(name)
    for check in checks:
        table.add_row(check.name, escape(check.checked), f"{len(check.problems):,} wrong" if check.problems else "ok")
    screen.print(table)
    for check in checks:
        for problem in check.problems[:SHOWN]:
            screen.print(f"{check.name}: {escape(problem)}", soft_wrap=True)
        if len(check.problems) > SHOWN:
            screen.print(f"{check.name}: and {len(check.problems) - SHOWN:,} more")
    if any(check.problems for check in checks):
        screen.print("something is wrong: delete the dataset and the work folder it was built in, and build it again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 sound, 1 something is wrong, 2 there is no dataset."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.verify",
        description="Check every hash, count and law of a dataset.",
        epilog="example: python -m pipeline.verify out/mix",
    )
    parser.add_argument("out", help="folder or fsspec URL of the dataset")
    options = parser.parse_args(arguments)
    try:
        checks = verify(options.out)
    except FileNotFoundError:
        print(f"error: {options.out}: has no {COMMIT}, so it is no finished dataset; build it first", file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"error: {options.out}: {error}", file=sys.stderr)
        return 2
    _show(checks, options.out)
    return 1 if any(check.problems for check in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
