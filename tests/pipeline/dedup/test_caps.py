"""Caps: which responses to an instruction are kept, against the rule in plain Python, and as the ledger has it."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup import caps
from pipeline.dedup.caps import first_of_each_source, in_turns
from pipeline.dedup.entries import ENTRIES
from pipeline.explain import main as explain
from tests.pipeline.conftest import run_build, write_jsonl, write_mix

pytestmark = pytest.mark.slow  # builds datasets

ANSWERS = ["red", "green as grass", "blue, I think", "yellow or so", "the colour of the sky at noon", "no idea at all"]


@settings(deadline=None)
@given(
    instructions=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60),
    max_responses=st.integers(1, 5),
    parts=st.integers(1, 4),
)
def test_sources_take_turns_in_choosing_responses(
    instructions: list[tuple[int, int]], max_responses: int, parts: int
) -> None:
    draw = np.random.default_rng(len(instructions))
    keys = np.zeros(len(instructions), ENTRIES)
    keys["key_high"] = [0 if key < 2 else key for key, _ in instructions]  # instructions 0 and 1 share this half
    keys["key_low"] = [key for key, _ in instructions]
    keys["id_high"] = draw.permutation(len(keys)) // 2  # pairs share this half
    keys["id_low"] = draw.permutation(len(keys))
    keys["partition"] = [partition for _, partition in instructions]
    keys["priority"] = np.array([2, 0, 1, 0], np.uint32)[keys["partition"]]  # files 1 and 3 are of the first source

    best = np.empty(0, ENTRIES)
    for part in np.array_split(keys, parts):
        best = first_of_each_source(np.concatenate([best, part]), max_responses)
    found = {(entry["id_high"], entry["id_low"]) for entry in in_turns(best, max_responses)}

    waiting: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for (instruction, _), entry in zip(instructions, keys, strict=True):
        waiting[instruction][int(entry["priority"])].append((entry["id_high"], entry["id_low"]))
    expected = set()
    for sources in waiting.values():
        queues = [sorted(sources[order]) for order in sorted(sources)]
        turns = [queue[turn] for turn in range(60) for queue in queues if turn < len(queue)]
        expected.update(turns[:max_responses])
    assert found == expected


def write_colours(folder: Path, **changes: object) -> Path:
    """Two sources that answer one question in many ways, beside the small mix."""
    manifest = write_mix(folder, rows=40, **changes)
    rows = [{"instruction": "Which colour is it?", "response": answer} for answer in ANSWERS]
    write_jsonl(folder / "first/colours.jsonl", rows)
    others = [{"instruction": "which  colour IS it?", "response": f"it is {answer}"} for answer in ANSWERS]
    write_jsonl(folder / "second/colours.jsonl", others)
    return manifest


def responses(out: Path) -> list[tuple[str, str]]:
    """Source and response of what is kept of the question."""
    rows = pl.read_parquet(out / "curated/*.parquet")
    found = rows.filter(pl.col("instruction").str.to_lowercase().str.contains("which +colour"))
    return found.select("source", "response").rows()


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that keeps three responses to an instruction."""
    folder = tmp_path_factory.mktemp("capped")
    run_build(write_colours(folder, caps={"responses_per_instruction": 3}), folder / "out", workers=2)
    return folder


def test_build_keeps_the_capped_number_of_responses_of_all_sources(capped: Path) -> None:
    kept = responses(capped / "out")
    assert sorted(source for source, _ in kept) == ["first", "first", "second"]
    counts = json.loads((capped / "out/dataset.json").read_text())["counts"]
    assert sum(count["dropped"].get("over_cap", 0) for count in counts.values()) == 2 * len(ANSWERS) - 3


def test_ranges_and_parts_change_nothing(capped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caps, "WORKING_COPIES", 10**6)  # more than one range of keys
    again = capped / "again"
    dataset = run_build(capped / "mix.yaml", again)
    assert (again / "curated/part-00000.parquet").read_bytes() == (
        capped / "out/curated/part-00000.parquet"
    ).read_bytes()
    assert dataset["fingerprint"] == json.loads((capped / "out/dataset.json").read_text())["fingerprint"]


def test_without_a_cap_all_responses_are_kept(capped: Path) -> None:
    run_build(capped / "mix.yaml", capped / "uncapped", overrides=("caps.responses_per_instruction=null",))
    assert len(responses(capped / "uncapped")) == 2 * len(ANSWERS)


def test_explain_shows_the_first_response_that_was_kept(capped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = pl.read_parquet(capped / "out/ledger/rows-*.parquet")
    lost = ledger.filter(pl.col("outcome") == "over_cap").row(0, named=True)
    assert explain([str(capped / "out"), lost["row_id"]]) == 0
    shown = capsys.readouterr().out
    assert "more than 3 responses to one instruction (caps.responses_per_instruction)" in shown
    assert lost["twin"] in shown
    assert ledger.filter(pl.col("row_id") == lost["twin"])["outcome"].to_list() == ["kept"]
