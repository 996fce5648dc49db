"""`epochs` of a mix: shards have what the epochs draw and nothing else, and a run has the same batches as from all."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

import corpus
import trainer
from corpus.contract import parse_dataset
from pipeline.build import build
from pipeline.explain import main as explain
from pipeline.report.summary import show
from pipeline.shards import draw
from pipeline.verify import main as verify
from tests.in_process import InProcess
from tests.pipeline.conftest import run_build, texts, write_jsonl

pytestmark = pytest.mark.slow  # builds datasets

EPOCHS = 4
CAPS = {"small": None, "tasks": 15, "clustered": 40, "by_column": 10}
BATCHES = {"batch_tokens": 2048, "row_tokens": 512, "seed": 3, "epochs": EPOCHS}


def write_look_alike(folder: Path) -> Path:
    """A mix like the reference mix: small repeated sources, many files under a cap, strata in a column."""
    write_jsonl(folder / "small.jsonl", [{"instruction": a, "response": b} for a, b in texts(1, 30)])
    for number, rows in enumerate((3, 60, 61, 150)):
        pairs = [{"instruction": a, "response": b} for a, b in texts(10 + number, rows)]
        write_jsonl(folder / f"tasks/task_{number}.jsonl", [*pairs, *pairs[:5]])
    write_jsonl(folder / "clustered/all.jsonl", [{"instruction": a, "response": b} for a, b in texts(20, 400)])
    for name in ("a", "b"):
        rows = [{"instruction": a, "response": b, "kind": len(a) % 3} for a, b in texts(ord(name), 100)]
        write_jsonl(folder / f"by_column/{name}.jsonl", rows)
    manifest = {
        "name": "look-alike",
        "sources": [
            {"name": "small", "path": "small.jsonl", "repeat": 10},
            {"name": "tasks", "path": "tasks", "max_per_epoch": CAPS["tasks"]},
            {"name": "clustered", "path": "clustered", "max_per_epoch": CAPS["clustered"], "repeat": 2},
            {"name": "by_column", "path": "by_column", "max_per_epoch": CAPS["by_column"], "task": "column:kind"},
        ],
        "near_dedup": {"enabled": False},
        "tokenizer": {"vocab_size": 400, "sample_bytes": "50kB"},
        "samples": {"max_tokens": 512},
        "shards": {"size": "16KiB"},
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder / "mix.yaml"


@pytest.fixture(autouse=True, scope="module")
def in_process() -> Iterator[None]:
    """Steps of builds in this process, where imports and kernels are loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.build._executor", lambda _, work, __, display, ___: InProcess(work, display))
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The look-alike, whole and for four epochs, with one tokenizer."""
    folder = tmp_path_factory.mktemp("epochs")
    manifest = write_look_alike(folder)
    run_build(manifest, folder / "whole")
    tokenizer = f"tokenizer.file={folder / 'whole/tokenizer/tokenizer.json'}"
    run_build(manifest, folder / "drawn", overrides=(f"epochs={EPOCHS}", tokenizer))
    return folder


def test_shards_hold_what_the_epochs_draw_and_nothing_else(built: Path) -> None:
    whole, drawn = (
        corpus.scan(str(built / name)).records.select("source", "task", "row_id").collect()
        for name in ("whole", "drawn")
    )
    for (source, task), pairs in whole.group_by("source", "task", maintain_order=True):
        cap = CAPS[str(source)]
        kept = drawn.filter((pl.col("source") == source) & (pl.col("task") == task))
        most = len(pairs) if cap is None else min(len(pairs), EPOCHS * cap)
        assert kept["row_id"].to_list() == pairs["row_id"].to_list()[:most], (source, task)
    assert len(drawn) < len(whole)
    seen = Counter(
        token
        for batch in trainer.batches(built / "drawn", **BATCHES)
        for token in _samples(batch.tokens, batch.segments)
    )
    assert len(seen) == len(drawn)


def _samples(tokens: torch.Tensor, segments: torch.Tensor) -> list[bytes]:
    return [np.asarray(tokens[row, begin : begin + length]).tobytes() for row, begin, _, length in segments.tolist()]


def test_run_of_as_many_epochs_has_the_same_batches_as_from_all_pairs(built: Path) -> None:
    whole, drawn = (trainer.batches(built / name, **BATCHES) for name in ("whole", "drawn"))
    count = 0
    for one, other in zip(whole, drawn, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.labels, other.labels)
        count += 1
    assert count > 20


def test_pairs_that_are_not_drawn_have_an_outcome_of_their_own(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = parse_dataset((built / "drawn/dataset.json").read_bytes(), "dataset.json")
    ledger = corpus.scan(str(built / "drawn")).ledger
    lost = ledger.filter(pl.col("outcome") == "not_drawn").select("source", "row_id", "detail").collect()
    for source, count in info.counts.items():
        assert count.pairs == count.kept + sum(count.dropped.values())
        assert count.dropped.get("not_drawn", 0) == len(lost.filter(pl.col("source") == source))
    assert info.counts["tasks"].dropped == {"exact_duplicate": 18, "not_drawn": 1 + 90}
    assert verify([str(built / "drawn")]) == 0
    row = lost.filter(pl.col("source") == "clustered").row(0, named=True)
    assert explain([str(built / "drawn"), row["row_id"]]) == 0
    detail = "4 epochs draw at most 160 of the stratum's 400 pairs (epochs, max_per_epoch)"
    assert detail in " ".join(capsys.readouterr().out.split())
    show(info, [], [], out="out", work=built, seconds=1.0, vocab_size=None)
    assert (
        "built for 4 epochs: pairs that a run of so many never draws are not in the shards" in capsys.readouterr().out
    )
    assert "For training runs of up to 4 epochs" in (built / "drawn/README.md").read_text()
    page = (built / "drawn/report/index.html").read_text()
    assert "<td>not drawn</td>" in page
    assert "drawn by the epochs" in page


def test_buckets_change_nothing(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((built / "drawn/dataset.json").read_text())
    monkeypatch.setattr(draw, "ENTRY_BYTES", 2**18)  # more than one bucket for some strata
    tokenizer = f"tokenizer.file={built / 'whole/tokenizer/tokenizer.json'}"
    work = built / "drawn/.work"
    again = build(built / "mix.yaml", overrides=(f"epochs={EPOCHS}", tokenizer), out=built / "again", work=work)
    assert len(list((work / "draw").iterdir())) > 5
    assert again.dataset.fingerprint == before["fingerprint"]
    assert again.dataset.model_dump(mode="json")["counts"] == before["counts"]


def test_dataset_of_which_all_is_drawn_is_for_any_number_of_epochs(built: Path) -> None:
    whole = json.loads((built / "whole/dataset.json").read_text())
    info = run_build(built / "mix.yaml", built / "whole", overrides=("epochs=100",))
    assert info["build_key"] != whole["build_key"]
    assert (info["epochs"], info["fingerprint"]) == (None, whole["fingerprint"])


def test_pairs_drawn_ahead_of_curation_give_the_same_shards_where_curation_drops_none_of_them(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((built / "drawn/dataset.json").read_text())
    tokenizer = f"tokenizer.file={built / 'whole/tokenizer/tokenizer.json'}"
    overrides = (f"epochs={EPOCHS}", tokenizer, "draw_margin=1.25")
    info = run_build(built / "mix.yaml", built / "ahead", overrides=overrides)
    assert info["fingerprint"] == before["fingerprint"]
    assert info["counts"] == before["counts"]
    lost = corpus.scan(str(built / "ahead")).ledger.filter(pl.col("outcome") == "not_drawn").collect()
    stages = lost.group_by("source", "stage").len().rows()
    assert {(source, stage): count for source, stage, count in stages if source == "clustered"} == {
        ("clustered", "draw-ahead"): 400 - 200,
        ("clustered", "draw"): 200 - 160,
    }
    row = lost.filter((pl.col("source") == "clustered") & (pl.col("stage") == "draw-ahead")).row(0, named=True)
    assert explain([str(built / "ahead"), row["row_id"]]) == 0
    detail = (
        "200 of the stratum's 400 pairs are curated: 4 epochs draw at most 160 (epochs, max_per_epoch, draw_margin)"
    )
    assert detail in " ".join(capsys.readouterr().out.split())
