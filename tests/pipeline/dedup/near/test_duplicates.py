"""Near duplicates of a build: found whatever the records' files and the pieces of the work."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.dedup.near import duplicates
from pipeline.dedup.near.compare import extract_features
from pipeline.dedup.near.duplicates import drop_near_duplicates
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.table import near_dedup
from pipeline.engine.progress import Display
from pipeline.explain import main as explain
from pipeline.ingest.live import LiveRecords, live_batches
from tests.benchmarks import planted
from tests.in_process import InProcess, as_ingested, row_id
from tests.pipeline.conftest import contents, run_build, write_jsonl

Pair = tuple[str, str]


def planted_pairs(count: int, seed: int) -> list[Pair]:
    """Records, and of each a duplicate or a near-miss; in random order, each once."""
    draw = random.Random(seed)
    changes = (planted.space_and_case, planted.punctuation, planted.few_words, planted.number_changed)
    found: list[Pair] = []
    for number in range(count):
        base = planted.made_up(draw)
        changed = changes[number % len(changes)](base, draw)
        found += [base] if changed is None else [base, changed]
    draw.shuffle(found)
    return list(dict.fromkeys(found))


def table(pairs: list[Pair]) -> pl.DataFrame:
    return pl.DataFrame(pairs, {"instruction": pl.String, "response": pl.String}, orient="row")


def dropped(
    work: Path, parts: list[tuple[str, pl.DataFrame]], left_out: tuple[str, ...] = ()
) -> dict[str, tuple[str, float]]:
    """Row id of each dropped record: its twin and score."""
    scope = as_ingested(work, parts)
    with InProcess(work, Display()) as executor:
        after = drop_near_duplicates(scope, NearDedupSpec(), executor, left_out)
    lost = {}
    for ref in after.drops:
        for line in np.load(work / ref.stage / ref.key / "drops.npy"):
            pair = parts[line["partition"]][1].row(int(line["index"]))
            lost[row_id((pair[0], pair[1]))] = f"{line['twin_high']:016x}{line['twin_low']:016x}", float(line["score"])
    assert sum(after.lost_rows.values()) == len(lost)
    _assert_twins_live(work, after, lost)
    return lost


def _assert_twins_live(work: Path, after: LiveRecords, lost: dict[str, tuple[str, float]]) -> None:
    batches = live_batches(work, after.inputs, after.drops, ["row_id"])
    live = {row_id.hex() for _, _, batch in batches for row_id in batch["row_id"].to_pylist()}
    assert live.isdisjoint(lost)
    assert live.issuperset(twin for twin, _ in lost.values())


def test_drops_do_not_depend_on_files_or_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = planted_pairs(400, seed=0)
    whole = dropped(tmp_path / "whole", [("one", table(pairs))])
    assert len(whole) > 200
    shares = [("one", table(pairs[begin::7])) for begin in range(7)]
    assert dropped(tmp_path / "files", shares) == whole
    small = {"dedup.near.duplicates.PIECE_BYTES": 50_000, "dedup.near.duplicates.RUN_ENTRIES": 500}
    small |= {"records.buckets.RUN_BYTES": 10_000}
    small |= {"engine.budget.PIECE_BYTES": 50_000, "ingest.live.RUN_BYTES": 50_000}
    for name, size in small.items():
        monkeypatch.setattr(f"pipeline.{name}", size)
    assert dropped(tmp_path / "pieces", shares) == whole
    assert len(list((tmp_path / "pieces/near-pairs").iterdir())) > 1
    assert len(list((tmp_path / "pieces/near").iterdir())) > 1


def test_a_few_very_long_texts_in_a_bucket_are_compared_in_parts_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(6)
    bases = [planted.made_up(draw) for _ in range(60)]
    pairs = [*bases, *((f"{instruction}\n", response) for instruction, response in bases)]
    for number in range(12):  # groups of two, and one of twelve, of 40 kB each
        story = " ".join(draw.choices(["the", "boat", "came", "home", "late", "that", "night", "again"], k=8000))
        pairs += [(f"Tell story {number}.", story), (f"Tell story {number}.", f"{story} ")]
        pairs.append(("Tell the tale.", "\n".join(["A boat came home late."] * 2000) + "\n" * number))
    pairs = list(dict.fromkeys(pairs))
    whole = dropped(tmp_path / "whole", [("one", table(pairs))])
    assert len(whole) == 60 + 12 + 11
    sizes = []

    def extract(instructions: pa.Array, responses: pa.Array, *rest: Any) -> Any:
        sizes.append(pc.sum(pc.binary_length(instructions)).as_py() + pc.sum(pc.binary_length(responses)).as_py())
        return extract_features(instructions, responses, *rest)

    monkeypatch.setattr(duplicates, "extract_features", extract)
    monkeypatch.setattr(duplicates, "MOST_TOGETHER", 150_000)
    parts = dropped(tmp_path / "parts", [("one", table(pairs[::2])), ("one", table(pairs[1::2]))])
    assert parts == whole
    assert len(sizes) > 5
    assert max(sizes) < 2 * 150_000


def test_a_table_in_memory_gives_what_a_build_gives(tmp_path: Path) -> None:
    pairs = planted_pairs(300, seed=1)
    lengths = [len(response) for _, response in pairs]
    once = [pair for pair, length in zip(pairs, lengths, strict=True) if lengths.count(length) == 1]
    found = near_dedup(table(once))
    assert len(found.lost) > 10
    assert dropped(tmp_path, [("one", table(once))]) == {
        row_id(once[row]): (row_id(once[twin]), score)
        for row, twin, score in zip(found.lost.tolist(), found.twin.tolist(), found.score.tolist(), strict=True)
    }


def test_the_first_source_of_the_manifest_survives(tmp_path: Path) -> None:
    draw = random.Random(2)
    bases = [planted.made_up(draw) for _ in range(50)]
    copies = [planted.space_and_case(pair, draw) for pair in bases]
    sources = [("first", table(copies)), ("second", table(bases))]
    assert set(dropped(tmp_path, sources)) <= {row_id(pair) for pair in bases}


def test_a_source_that_is_left_out_neither_loses_records_nor_takes_them_from_others(tmp_path: Path) -> None:
    draw = random.Random(4)
    bases = [planted.made_up(draw) for _ in range(20)]
    sources = [
        ("templates", table([*bases, *((f"{instruction}!", response) for instruction, response in bases)])),
        ("other", table([(f"{instruction}\n", response) for instruction, response in bases])),
    ]
    assert len(dropped(tmp_path / "all", sources)) == 40
    assert dropped(tmp_path / "left-out", sources, ("templates",)) == {}


def test_many_alike_records_are_no_square_of_work(tmp_path: Path) -> None:
    """Forty thousand variants of one text, each of which differs in white space, leave one."""
    base = (
        "the boats that come home late see the old lamp by the river from afar and follow its light to the shore " * 2
    )
    words = base.split()
    rows = [
        ("".join(word + "  " * (number >> place & 1) + " " for place, word in enumerate(words[:20])) + base, "yes")
        for number in range(40_000)
    ]
    lost = dropped(tmp_path, [("one", table(rows))])
    assert len(lost) == len(rows) - 1
    assert len({twin for twin, _ in lost.values()}) == 1


@pytest.mark.slow
def test_a_build_drops_planted_duplicates_and_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(3)
    bases = [planted.made_up(draw) for _ in range(200)]
    for name, change in (("space", planted.space_and_case), ("number", planted.number_changed)):
        changed = [change(pair, draw) for pair in bases]
        rows = [pair for pair in changed if pair is not None]
        write_jsonl(tmp_path / f"{name}.jsonl", [{"instruction": a, "response": b} for a, b in rows])
    write_jsonl(tmp_path / "base.jsonl", [{"instruction": a, "response": b} for a, b in bases])
    (tmp_path / "mix.yaml").write_text(
        "name: near\nsources:\n"
        + "  - {name: base, path: base.jsonl}\n  - {name: number, path: number.jsonl}\n"
        + "  - {name: space, path: space.jsonl, guard: {near_duplicate: 1}}\n"
        + "tokenizer: {vocab_size: 700}\nexact_dedup: {enabled: false}\n"
    )
    facts = run_build(tmp_path / "mix.yaml", tmp_path / "out", workers=2)
    lost = {name: count["dropped"].get("near_duplicate", 0) for name, count in facts["counts"].items()}
    assert lost["base"] == lost["number"] == 0
    assert lost["space"] > 190
    ledger = pl.read_parquet(tmp_path / "out/ledger/rows-*.parquet")
    lines = ledger.filter(pl.col("outcome") == "near_duplicate")
    kept = set(ledger.filter(pl.col("outcome") == "kept")["row_id"])
    assert set(lines["twin"]) <= kept
    assert lines["score"].min() >= 0.8  # type: ignore[operator]
    assert explain([str(tmp_path / "out"), "--near", "5"]) == 0
    shown = capsys.readouterr().out
    for line in lines.sort("score", "row_id").head(5).iter_rows(named=True):
        assert f"similarity {line['score']:.3f}  dropped {line['row_id']} (space)  kept {line['twin']} (base)" in shown

    run_build(tmp_path / "mix.yaml", tmp_path / "again", workers=1)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
