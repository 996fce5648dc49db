"""Components are those of the pairs, whatever the size of the parts that are in memory."""

import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup.near import components
from pipeline.dedup.near.components import LARGE, find_components
from tests.benchmarks import planted
from tests.pipeline.dedup.near.test_duplicates import Pair, dropped, table

ROWS = 60


def component_of_each(pairs: set[tuple[int, int]]) -> list[int]:
    """Least row of each row's component, by following all pairs until nothing changes."""
    least = list(range(ROWS))
    changed = True
    while changed:
        changed = False
        for low, high in pairs:
            if least[low] != least[high]:
                least[low] = least[high] = min(least[low], least[high])
                changed = True
    return least


@given(
    st.sets(st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1)).filter(lambda pair: pair[0] < pair[1])),
    st.integers(1, ROWS),
    st.integers(1, 8),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_components_do_not_depend_on_parts_slices_or_the_order_of_pairs(
    pairs: set[tuple[int, int]], part_rows: int, largest: int, slice_rows: int, draw: random.Random
) -> None:
    least = component_of_each(pairs)
    sizes = Counter(least)
    roots = [row for row in range(ROWS) if least[row] == row and sizes[row] > 1]
    small, large = ([row for row in roots if (sizes[row] > largest) is is_large] for is_large in (False, True))
    number = {row: place for place, row in enumerate(small)} | {row: LARGE + place for place, row in enumerate(large)}
    shuffled = np.array(draw.sample(sorted(pairs), len(pairs)), np.uint32).reshape(-1, 2)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "SLICE_ROWS", slice_rows)
        found = find_components(
            [shuffled[::2], shuffled[1::2]], Path(folder), rows=ROWS, part_rows=part_rows, largest=largest
        )
        members = list(found)
        assert list(Path(folder).iterdir()) == []
    labels = {
        row: label for part in members for row, label in zip(part.rows.tolist(), part.labels.tolist(), strict=True)
    }
    assert labels == {row: number[least[row]] for row in range(ROWS) if sizes[least[row]] > 1}
    assert [size for part in members for size in part.small.tolist()] == [sizes[row] for row in small]
    assert [size for part in members for size in part.large.tolist()] == [sizes[row] for row in large]


def test_a_cluster_larger_than_what_is_compared_together_leaves_what_a_small_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of twins of a text, and of another one, beside pairs and single records."""
    draw = random.Random(0)
    rows: list[Pair] = []
    for twins in (3000, 700):
        instruction, response = planted.made_up(draw)
        words = f"{instruction} {instruction}".split()
        rows += [
            ("".join(f"{word}{', ' if number >> place & 1 else ' '}" for place, word in enumerate(words)), response)
            for number in range(twins)
        ]
    for _ in range(100):
        base = planted.made_up(draw)
        rows += [base, planted.space_and_case(base, draw)]
    rows = list(dict.fromkeys(rows))
    draw.shuffle(rows)
    shares = [("one", table(rows[:1500])), ("other", table(rows[1500:]))]
    whole = dropped(tmp_path / "whole", shares)
    monkeypatch.setattr("pipeline.dedup.near.duplicates.LARGEST_GROUP", 64)
    monkeypatch.setattr("pipeline.dedup.near.components.SLICE_ROWS", 100)
    monkeypatch.setattr("pipeline.dedup.near.duplicates.PART_ROW_BYTES", 2**28 // 1000)
    in_chunks = dropped(tmp_path / "chunks", shares)
    assert len(whole) > 3600
    assert in_chunks == whole
