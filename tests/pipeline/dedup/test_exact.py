"""Exact duplicates: one of each kind survives, always the same one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup.entries import ENTRIES, places_in
from pipeline.dedup.exact import ExactDuplicates, survivors
from pipeline.ingest.step import KEYS, Ingest, pair_key

entries = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 3), st.integers(1, 3)), max_size=60)
"""(key high, key low, source, response length) of records; a record's row id is its position."""


def table(rows: list[tuple[int, int, int, int]]) -> Any:
    found = np.zeros(len(rows), ENTRIES)
    for i, (high, low, source, length) in enumerate(rows):
        found[i] = (high, low, i // 7, i, source, 0, i, length, 10)
    return found


@given(rows=entries, seed=st.integers(0, 100))
@settings(deadline=None)
def test_best_of_each_group_survives_whatever_the_order(rows: list[tuple[int, int, int, int]], seed: int) -> None:
    found = table(rows)
    best: dict[tuple[int, int], tuple[int, int, int]] = {}
    for i, (high, low, source, length) in enumerate(rows):
        rank = (source, -length, i)
        best[high, low] = min(best.get((high, low), rank), rank)
    expected = {i: best[row[0], row[1]][2] for i, row in enumerate(rows) if best[row[0], row[1]][2] != i}
    for order in (np.arange(len(rows)), np.random.default_rng(seed).permutation(len(rows))):
        best = survivors(found[order])
        twins = best["index"][places_in(best, found)]
        assert {i: int(twin) for i, twin in enumerate(twins) if twin != i} == expected


@given(rows=entries, seed=st.integers(0, 100))
@settings(deadline=None)
def test_best_of_each_group_is_found_in_parts_too(rows: list[tuple[int, int, int, int]], seed: int) -> None:
    found = table(rows)
    best = table([])
    for part in np.array_split(np.random.default_rng(seed).permutation(len(rows)), 4):
        best = survivors(np.concatenate([best, found[part]]))
    assert (best == survivors(found)).all()


def test_one_pair_repeated_beyond_any_part_is_dropped_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.dedup.exact.PART_ROWS", 100)
    inputs = []
    for number, order in enumerate((1, 0, 1)):  # the second file's source comes first
        place = Ingest.folder(tmp_path, f"file-{number}")
        place.mkdir(parents=True)
        for run in range(5):
            keys = np.zeros(50, KEYS)
            keys["pair_high"], keys["pair_low"], keys["response"], keys["bytes"] = 7, 7, 3, 10
            keys["index"] = np.arange(50 * run, 50 * (run + 1))
            keys["id_low"] = 1000 * number + keys["index"]
            np.save(place / f"run-{run:05}.npy", keys)
        inputs.append((order, place.name))
    (tmp_path / "out").mkdir()
    step = ExactDuplicates(inputs=tuple(inputs), bucket=0, buckets=1)
    result = step.run(tmp_path, tmp_path / "out")
    assert result.rows == {0: 250, 1: 249, 2: 250}
    assert result.bytes == {0: 2500, 1: 2490, 2: 2500}
    drops = np.load(tmp_path / "out/drops.npy")
    found = list(zip(drops["partition"].tolist(), drops["index"].tolist(), strict=True))
    assert found == sorted({(p, i) for p in range(3) for i in range(250)} - {(1, 0)})
    assert set(drops["twin_low"].tolist()) == {1000}


def test_pairs_differ_by_words_case_and_indentation_but_not_by_other_white_space() -> None:
    key = pair_key("What is  Öl?", "An oil.")
    assert pair_key(" What is\nÖl? ", "An  oil.\n") == key
    assert pair_key("What is Öl?", "an oil.") != key
    assert pair_key("what is Öl?", "An oil.") != key
    assert pair_key("What is Öl", "? An oil.") != key
    loop = "for x in xs:\n    total += x\nprint(total)"
    assert pair_key("Explain.", loop) == pair_key("Explain.", loop.replace("\n", " \n\n").replace(" x", "  x") + "\n")
    assert pair_key("Explain.", loop) != pair_key("Explain.", loop.replace("print", "    print"))
    assert pair_key(loop, "It adds.") != pair_key(loop.replace("    ", ""), "It adds.")
