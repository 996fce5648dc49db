"""A finished dataset can be looked at with polars and on the command line, on disk and on S3."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import corpus
from corpus.config import ConfigError
from corpus.contract import SPECIAL_TOKENS, DatasetError, DatasetInfo
from corpus.dataset import NoDatasetError, open_dataset
from corpus.inspect import main, show
from corpus.look import scan
from corpus.record import SCHEMA, row_id
from corpus.terminal import make_console

LEDGER = pa.schema(
    [
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("part", pa.int32()),
        ("outcome", pa.string()),
        ("stage", pa.string()),
        ("twin", pa.string()),
        ("score", pa.float64()),
        ("detail", pa.string()),
        ("sample", pa.int64()),
    ]
)
FILES = pa.schema([(name, pa.string()) for name in ("source", "file", "outcome", "position", "detail")])


def record(number: int, source: str) -> dict[str, Any]:
    return {
        "row_id": row_id(source, "f.jsonl", number, 0),
        "source": source,
        "task": "f",
        "instruction": f"What is {number} plus one?",
        "response": f"It is {number + 1}.\x1b[2J",
        "condition": ["cot"],
        "meta": None,
    }


def story(number: int, source: str, outcome: str, detail: str | None = None) -> dict[str, Any]:
    line = dict.fromkeys(LEDGER.names)
    return line | {"source": source, "row": number, "outcome": outcome, "detail": detail}


def test_inspect_of_a_damaged_dataset_is_a_message(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "curated/part-00001.parquet").unlink()
    assert main([str(dataset)]) == 1
    (dataset / "dataset.json").write_text("{")
    assert main([str(dataset)]) == 1
    assert main(["nope://nowhere/mix"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 3


def test_inspect_of_a_dataset_with_the_earlier_order_of_tags_says_why_it_is_refused(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(dataset, format="millrace-dataset/1")
    assert main([str(dataset)]) == 1
    assert "condition tags in another order (direct first); build the dataset again" in capsys.readouterr().err


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two sources with 10 and 5 records; 3 rows were dropped."""
    out = tmp_path / "mix"
    records = [record(n, "sums") for n in range(10)] + [record(n, "other") for n in range(5)]
    ledger = [story(n, r["source"], "kept") for n, r in enumerate(records)]
    ledger += [story(90 + n, "sums", "invalid_syntax", "character 7: expecting value") for n in range(3)]
    files = [dict(zip(FILES.names, ("sums", "half.jsonl.gz", "truncated", "line 9", "cut off"), strict=True))]
    files += [dict(zip(FILES.names, (name, "f.jsonl", "read", "", ""), strict=True)) for name in ("sums", "other")]
    tables = {
        "curated/part-00000.parquet": (records[:8], SCHEMA),
        "curated/part-00001.parquet": (records[8:], SCHEMA),
        "ledger/rows-00000.parquet": (ledger, LEDGER),
        "ledger/files.parquet": (files, FILES),
    }
    for name, (rows, schema) in tables.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), out / name)
    np.save(out / "lengths.npy", np.array([[n, 2] for n in range(15)], dtype=np.uint16))
    spans = [("sums", "f", 0, 10), ("other", "f", 10, 15)]
    write_strata(out, spans)
    tokens = {"sums": 65, "other": 70}
    counts = {
        source: {"role": "train", "rows": rows, "pairs": kept, "kept": kept, "dropped": dropped}
        | {"tokens": tokens[source]}
        for source, rows, kept, dropped in (("sums", 13, 10, {"invalid_syntax": 3}), ("other", 5, 5, {}))
    }
    special = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    paths = [*tables, "lengths.npy", "strata.json"]
    dataset = DatasetInfo.model_validate(
        {
            "name": "mix",
            "fingerprint": "",
            "samples": 15,
            "tokens": 135,
            "prefix_tokens": 105,
            "response_tokens": 30,
            "max_tokens": 16,
            "tokenizer": {"file": "tokenizer/tokenizer.json", "sha256": "0" * 64, "vocab_size": 16, "special": special},
            "shards": 1,
            "counts": counts,
            "eval": {"files": (), "rows": 0},
            "files": {path: {"bytes": 2**20, "sha256": "0" * 64} for path in paths},
            "lock_sha256": "0" * 64,
            "build_key": "",
            "versions": {},
        }
    )
    (out / "dataset.json").write_text(dataset.model_dump_json())
    return out


def write_strata(out: Path, spans: list[tuple[str, str, int, int]], max_per_epoch: int | None = None) -> None:
    common = {"max_per_epoch": max_per_epoch, "repeat": 1}
    names = ("source", "task", "begin", "end")
    strata = [dict(zip(names, span, strict=True)) | common for span in spans]
    (out / "strata.json").write_text(json.dumps({"strata": strata}))


def change(out: Path, **fields: Any) -> None:
    path = out / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def shown(out: str, **options: Any) -> str:
    text = io.StringIO()
    defaults: dict[str, Any] = {"source": None, "search": None, "sample": 2, "seed": 0}
    show(make_console(file=text, width=160), out, **(defaults | options))
    return text.getvalue()


def test_scan_gives_lazy_frames_of_records_ledger_and_files(dataset: Path) -> None:
    look = corpus.scan(dataset)
    assert look.records.collect().get_column("row_id").to_list()[9] == row_id("sums", "f.jsonl", 9, 0)
    assert look.ledger.group_by("outcome").len().sort("len").collect().rows() == [("invalid_syntax", 3), ("kept", 15)]
    assert look.files.filter(pl.col("outcome") == "truncated").collect().height == 1


def test_dataset_without_a_kept_record_can_be_scanned(dataset: Path) -> None:
    files = json.loads((dataset / "dataset.json").read_text())["files"]
    change(dataset, files={name: facts for name, facts in files.items() if not name.startswith("curated")})
    assert scan(dataset).records.collect().columns == SCHEMA.names


def test_dataset_is_read_as_typed_values(dataset: Path) -> None:
    opened = open_dataset(dataset)
    assert opened.info.counts["sums"].dropped == {"invalid_syntax": 3}
    assert [(stratum.source, stratum.samples) for stratum in opened.strata] == [("sums", 10), ("other", 5)]
    assert opened.lengths.shape == (15, 2)
    rows = [len(table) for _, table in opened.batches(opened.info.curated)]
    assert rows == [8, 7]


def test_files_that_are_missing_unlisted_or_of_another_shape_are_errors_that_name_them(dataset: Path) -> None:
    opened = open_dataset(dataset)
    with pytest.raises(DatasetError, match=r"dataset\.json: does not list secret\.txt"):
        opened.read("secret.txt")
    np.save(dataset / "lengths.npy", np.ones((15, 2), np.int32))
    with pytest.raises(DatasetError, match=r"lengths\.npy: is int32 \[15, 2\], expected uint16 \[15, 2\]"):
        _ = opened.lengths
    (dataset / "lengths.npy").unlink()
    with pytest.raises(DatasetError, match=r"lengths\.npy: is missing"):
        _ = opened.lengths


def test_folder_that_is_not_a_dataset_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDatasetError, match=r"has no dataset\.json, so it is not a finished dataset"):
        scan(tmp_path)
    with pytest.raises(NoDatasetError):
        scan(tmp_path / "nowhere")


def test_inspect_shows_what_a_person_asks_first(dataset: Path) -> None:
    text = shown(str(dataset))
    for expected in (
        "Sources",
        "Strata",
        "Lengths in tokens",
        "median",
        "invalid_syntax",
        "character 7",
        "half.jsonl.gz",
    ):
        assert expected in text
    assert "2 random records" in text
    assert "\x1b[2J" not in text


def test_inspect_lists_files_that_were_read_but_lost_bytes(dataset: Path) -> None:
    path = dataset / "ledger/files.parquet"
    files = pq.read_table(path)
    lost = [None, [{"reason": "invalid_unicode", "bytes": 1234}], []]
    kind = pa.list_(pa.struct([("reason", pa.string()), ("bytes", pa.int64())]))
    pq.write_table(files.append_column("bytes_lost", pa.array(lost, kind)), path)
    text = shown(str(dataset))
    assert "Input files that were not read whole" in text
    assert "1,234 bytes invalid unicode" in text


def test_inspect_of_one_source_shows_no_other(dataset: Path) -> None:
    text = shown(str(dataset), source="other", sample=9)
    assert "sums" not in text
    assert text.count("What is") == 5
    with pytest.raises(ConfigError, match="no source 'othr'; its sources are other, sums"):
        shown(str(dataset), source="othr")


def test_search_finds_text_in_either_half_whatever_its_case(dataset: Path) -> None:
    assert "15 records contain 'WHAT IS'; the first 2:" in shown(str(dataset), search="WHAT IS")
    assert "2 records contain 'it is 3.'" in shown(str(dataset), search="it is 3.")


def test_many_strata_are_cut_to_the_largest(dataset: Path) -> None:
    write_strata(dataset, [("sums", f"t{n}", n, n + 1) for n in range(56)], max_per_epoch=7)
    np.save(dataset / "lengths.npy", np.ones((56, 2), np.uint16))
    change(dataset, samples=56)
    text = shown(str(dataset), sample=0)
    assert "The largest 40 of 56 strata" in text
    assert "random records" not in text


def test_random_records_are_the_same_for_the_same_seed(dataset: Path) -> None:
    assert shown(str(dataset)) == shown(str(dataset))
    assert len({shown(str(dataset), seed=seed) for seed in range(5)}) > 1


def test_command_ends_with_a_message_and_no_traceback(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(dataset), "--search", "plus"]) == 0
    assert main([str(dataset.parent)]) == 1
    assert "not a finished dataset" in capsys.readouterr().err
    assert main([str(dataset), "--sample", "-1"]) == 2


def test_importing_corpus_imports_no_heavy_library() -> None:
    code = "import sys, corpus; print([m for m in ('pyarrow', 'polars', 'torch', 'fsspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dataset_on_s3_looks_like_the_one_on_disk(dataset: Path, bucket: str) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="data")
    for path in dataset.rglob("*.*"):
        if path.is_file():
            client.upload_file(str(path), "data", f"runs/mix/{path.relative_to(dataset)}")
    assert scan("s3://data/runs/mix").records.collect().equals(scan(dataset).records.collect())
    assert shown("s3://data/runs/mix/") == shown(str(dataset))
    with pytest.raises(NoDatasetError):
        scan("s3://data/runs/nothing")
