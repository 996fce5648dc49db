"""Verify finds every planted fault, and none in a sound dataset."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from corpus.contract import FINGERPRINTED, fingerprint
from pipeline.verify import main, verify

pytestmark = pytest.mark.slow  # builds datasets


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def reseal(out: Path) -> None:
    """Make hashes and fingerprint fit again, as a forger would, so that only counts and invariants differ."""
    commit = load(out / "dataset.json")
    for path, facts in commit["files"].items():
        content = (out / path).read_bytes()
        facts.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    commit["fingerprint"] = fingerprint(io.BytesIO((out / name).read_bytes()) for name in FINGERPRINTED)
    commit["tokenizer"]["sha256"] = commit["files"]["tokenizer/tokenizer.json"]["sha256"]
    commit["lock_sha256"] = commit["files"]["mix.lock.yaml"]["sha256"]
    (out / "dataset.json").write_text(json.dumps(commit))


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    content = load(path)
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def change_parquet(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def with_more_bytes(table: pa.Table, name: str) -> pa.Table:
    """One byte more in a column."""
    return table.set_column(table.column_names.index(name), name, pc.add(table.column(name), 1))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def exchange_samples(lines: pa.Table) -> pa.Table:
    """Exchange the samples of two lines."""
    numbers = lines.column("sample").to_pylist()
    first, second = [place for place, number in enumerate(numbers) if number is not None][:2]
    numbers[first], numbers[second] = numbers[second], numbers[first]
    return lines.set_column(lines.column_names.index("sample"), "sample", pa.array(numbers, pa.int64()))


def longer_prefix(out: Path) -> None:
    lengths = np.load(out / "lengths.npy")
    lengths[3] += np.array([1, -1]).astype(np.uint16)
    np.save(out / "lengths.npy", lengths)


BROKEN: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "a flipped bit in a shard",
        lambda o: flip(o / "shards/shard.00001.mds", 2000),
        "files: shards/shard.00001.mds: its content",
    ),
    ("a cut file", lambda o: (o / "lengths.npy").write_bytes(b"x"), "files: lengths.npy: has 1 bytes"),
    ("a missing file", lambda o: (o / "eval/held.jsonl").unlink(), "files: eval/held.jsonl: is missing"),
    ("a stray file", lambda o: (o / "shards/more.mds").write_bytes(b"x"), "files: shards/more.mds: is not part"),
    (
        "another format",
        lambda o: change_json(o / "dataset.json", lambda c: c.update(format="other/9")),
        "has format 'other/9'",
    ),
    (
        "the earlier order of tags",
        lambda o: change_json(o / "dataset.json", lambda c: c.update(format="millrace-dataset/1")),
        "condition tags in another order (direct first)",
    ),
    (
        "a path out of the dataset",
        lambda o: change_json(
            o / "dataset.json", lambda c: c["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}})
        ),
        "'../x' leads out",
    ),
    (
        "another fingerprint",
        lambda o: change_json(o / "dataset.json", lambda c: c.update(fingerprint="0")),
        "fingerprint: is",
    ),
    ("a wrong count", lambda o: change_json(o / "dataset.json", lambda c: c.update(tokens=7)), "tokens is 7, expected"),
]

FORGED: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "a shard's name out of the folder",
        lambda o: change_json(
            o / "shards/index.json", lambda c: c["shards"][0]["raw_data"].update(basename="../../x.mds")
        ),
        "shards.0.raw_data: the name '../../x.mds' leads out",
    ),
    (
        "a pickle column",
        lambda o: change_json(
            o / "shards/index.json", lambda c: c["shards"][0].update(column_encodings=["uint16", "bytes", "pkl"])
        ),
        "others may run code",
    ),
    (
        "a wrong shard hash",
        lambda o: change_json(
            o / "shards/index.json", lambda c: c["shards"][0]["raw_data"]["hashes"].update(xxh64="0" * 16)
        ),
        "its xxh64 is not that",
    ),
    ("a prefix length", longer_prefix, "sample 3 does not have the length"),
    (
        "a gap between strata",
        lambda o: change_json(o / "strata.json", lambda c: c["strata"][1].update(begin=1)),
        "strata.json: source",
    ),
    (
        "a stratum's name",
        lambda o: change_json(o / "strata.json", lambda c: c["strata"][0].update(task="other")),
        "curated: curated/part-00000.parquet: sources and tasks",
    ),
    (
        "records in another order",
        lambda o: change_parquet(o / "curated/part-00000.parquet", lambda t: t.take(pa.array(range(len(t))[::-1]))),
        "curated: curated/part-00000.parquet: its row ids",
    ),
    (
        "a lost ledger line",
        lambda o: change_parquet(o / "ledger/rows-00000.parquet", lambda t: t.slice(1)),
        "ledger: source first:",
    ),
    (
        "bytes of a file in no row",
        lambda o: change_parquet(o / "ledger/files.parquet", lambda t: with_more_bytes(t, "bytes_rows")),
        "bytes were read, but",
    ),
    (
        "bytes of a file that were not read",
        lambda o: change_parquet(o / "ledger/files.parquet", lambda t: with_more_bytes(t, "bytes")),
        "bytes, of which",
    ),
    (
        "a doubled ledger line",
        lambda o: change_parquet(o / "ledger/rows-00000.parquet", lambda t: pa.concat_tables([t, t.slice(0, 1)])),
        "ledger: 1 row ids are in it more than once",
    ),
    (
        "samples of two rows, exchanged",
        lambda o: change_parquet(o / "ledger/rows-00000.parquet", exchange_samples),
        "ledger: the rows that it names for samples 0 to ",
    ),
    (
        "a record too many",
        lambda o: change_parquet(
            o / "curated/part-00000.parquet", lambda t: pa.concat_tables([t, t.slice(0, len(t) // 2)])
        ),
        "curated: curated/part-00000.parquet: ",
    ),
    (
        "a count in the ledger's place",
        lambda o: change_json(o / "dataset.json", lambda c: c["counts"]["second"]["dropped"].update(exact_duplicate=1)),
        "ledger: source second: kept and dropped",
    ),
    (
        "an id of a tag",
        lambda o: change_json(o / "dataset.json", lambda c: c["tokenizer"]["special"].update({"<|box_end|>": 77})),
        "tokenizer: <|box_end|>",
    ),
    ("a lost eval row", lambda o: (o / "eval/held.jsonl").write_bytes(b""), "eval: dataset.json has 20 rows, found 0"),
]


@pytest.mark.parametrize(("name", "damage", "message"), BROKEN, ids=[case[0] for case in BROKEN])
def test_damage_is_found(
    dataset: Path, tmp_path: Path, name: str, damage: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(dataset, tmp_path / "out", ignore=shutil.ignore_patterns(".*")))
    damage(out)
    assert main([str(out)]) == 1
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(("name", "damage", "message"), FORGED, ids=[case[0] for case in FORGED])
def test_broken_invariant_is_found_even_where_all_hashes_fit(
    dataset: Path, tmp_path: Path, name: str, damage: Any, message: str
) -> None:
    out = Path(shutil.copytree(dataset, tmp_path / "out", ignore=shutil.ignore_patterns(".*")))
    damage(out)
    reseal(out)
    found = [f"{check.name}: {problem}" for check in verify(str(out)) for problem in check.problems]
    assert any(message in problem for problem in found), found


def test_sound_dataset_passes_and_a_missing_one_is_an_error(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dataset)]) == 0
    assert main([str(tmp_path)]) == 1
    assert "no dataset.json" in capsys.readouterr().err


def test_part_of_a_ledger_without_any_sample_is_sound(dataset: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(dataset, tmp_path / "out", ignore=shutil.ignore_patterns(".*")))
    (path,) = (out / "ledger").glob("rows-*.parquet")
    lines = pq.read_table(path)
    second = path.with_name("rows-00001.parquet")
    pq.write_table(lines.filter(lines["sample"].is_valid()), path)
    pq.write_table(lines.filter(lines["sample"].is_null()), second)
    change_json(
        out / "dataset.json",
        lambda commit: commit["files"].update({"ledger/rows-00001.parquet": {"bytes": 0, "sha256": "0" * 64}}),
    )
    reseal(out)
    assert pq.read_metadata(second).num_rows
    assert [problem for check in verify(str(out)) for problem in check.problems] == []


def test_ledger_of_an_earlier_version_is_one_line_that_says_so(dataset: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(dataset, tmp_path / "out", ignore=shutil.ignore_patterns(".*")))
    newer = ["bytes_read", "bytes_rows", "bytes_structure", "bytes_lost"]
    change_parquet(out / "ledger/files.parquet", lambda table: table.drop_columns(newer))
    reseal(out)
    (problem,) = [problem for check in verify(str(out)) for problem in check.problems]
    assert "ledger/files.parquet: has no column bytes_read, bytes_rows, bytes_structure, bytes_lost; " in problem
    assert problem.endswith("another version of Millrace built the dataset: build it again")
