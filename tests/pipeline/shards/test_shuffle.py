"""The global order is cut into buckets that keep strata together and in order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.outcome import Outcome
from pipeline.dedup.exact import ExactDuplicates
from pipeline.ingest.live import live_tables
from pipeline.ingest.step import Ingest
from pipeline.records.drops import DropRef, empty_drops, write_drops
from pipeline.records.schema import RECORDS
from pipeline.records.seeds import keyed_hash
from pipeline.shards.shuffle import LARGEST_BUCKET, SMALLEST_BUCKET, Places, PlannedStratum, bucket_of, plan

sizes = st.lists(st.integers(1, 40 * SMALLEST_BUCKET), max_size=40)


@given(sizes=sizes)
def test_buckets_follow_the_order_of_strata_and_are_bounded(sizes: list[int]) -> None:
    total = sum(sizes)
    strata, buckets = plan([("s", str(n), size) for n, size in enumerate(sizes)], total)
    target = min(max(total // 64, SMALLEST_BUCKET), LARGEST_BUCKET)
    filled = [0.0] * buckets
    last = 0
    for stratum, size in zip(strata, sizes, strict=True):
        assert stratum.first >= last
        last = stratum.first if stratum.span == 1 else stratum.first + stratum.span
        for bucket in range(stratum.first, stratum.first + stratum.span):
            filled[bucket] += size / stratum.span
    assert max(filled, default=0) <= target
    assert min(filled, default=1) > 0 or not sizes


@given(seed=st.integers(0, 1000), span=st.integers(1, 50))
@settings(max_examples=20)
def test_a_bucket_holds_a_range_of_the_shuffled_order(seed: int, span: int) -> None:
    ids = np.arange(5000, dtype=np.uint64)
    order = np.sort(keyed_hash(ids, ids, seed=seed, purpose="shuffle"))
    where = bucket_of(order, np.full(5000, 3), np.full(5000, span))
    assert (np.diff(where) >= 0).all()
    assert where[0] >= 3
    assert where[-1] < 3 + span
    counts = np.bincount(where - 3, minlength=span)
    assert counts.min() > 0.3 * 5000 / span


def test_seeds_and_purposes_give_independent_orders() -> None:
    ids = np.arange(2000, dtype=np.uint64)
    hashes = [
        keyed_hash(ids, ids, seed=0, purpose="shuffle"),
        keyed_hash(ids, ids, seed=1, purpose="shuffle"),
        keyed_hash(ids, ids, seed=0, purpose="tokenizer sample"),
    ]
    ranks = [np.argsort(np.argsort(h)) for h in hashes]
    for a in range(3):
        assert len(np.unique(hashes[a])) == 2000
        for b in range(a):
            assert abs(np.corrcoef(ranks[a], ranks[b])[0, 1]) < 0.1


@given(sizes=st.lists(st.integers(0, 2 * SMALLEST_BUCKET), max_size=20))
def test_every_stratum_has_a_bucket_even_one_whose_expected_size_is_nothing(sizes: list[int]) -> None:
    strata, buckets = plan([("s", str(n), size) for n, size in enumerate(sizes)], sum(sizes))
    assert all(0 <= stratum.first < stratum.first + stratum.span <= buckets for stratum in strata)


def test_duplicates_are_passed_on_in_bounded_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ingest.live.RUN_BYTES", 10_000)
    place = Ingest.folder(tmp_path, "a")
    place.mkdir(parents=True)
    with pa.ipc.new_file(str(place / "records.arrow"), RECORDS) as file:
        for first in range(0, 1000, 50):
            rows = [
                dict.fromkeys(RECORDS.names) | {"row_id": n.to_bytes(16, "big"), "row": n}
                for n in range(first, first + 50)
            ]
            file.write_table(pa.Table.from_pylist(rows, schema=RECORDS))
    ExactDuplicates.folder(tmp_path, "b").mkdir(parents=True)
    drops = empty_drops(1000)
    drops["index"] = np.arange(1000)
    write_drops(ExactDuplicates.folder(tmp_path, "b"), drops, np.ones(1000, int))
    ref = DropRef(stage=ExactDuplicates.stage, key="b", outcome=Outcome.EXACT_DUPLICATE)
    runs = list(live_tables(tmp_path, ((0, "a"),), [ref]))
    assert all(records.num_rows == len(live) == lines.num_rows for records, live, lines in runs)
    assert not any(live.any() for _, live, _ in runs)
    assert sum(lines.num_rows for *_, lines in runs) == 1000
    assert max(lines.num_rows for *_, lines in runs) <= 200


@given(names=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y", "é"])), min_size=1, unique=True))
def test_records_have_the_places_of_their_stratum_and_others_are_refused(names: list[tuple[str, str]]) -> None:
    strata = [
        PlannedStratum(number=7 * place, source=source, task=task, first=3 * place, span=place + 1)
        for place, (source, task) in enumerate(names)
    ]
    places = [place for place in range(len(names)) for _ in range(2)][::-1]
    sources, tasks = zip(*(names[place] for place in places), strict=True)
    table = pa.table({"source": pa.array(sources), "task": pa.array(tasks)})
    number, first, span = (column.tolist() for column in Places(strata)(table))
    assert list(zip(number, first, span, strict=True)) == [(7 * place, 3 * place, place + 1) for place in places]
    for source, task in (("d", tasks[0]), (sources[0], "z"), ("d", "z")):
        with pytest.raises(ValueError, match="no stratum was planned"):
            Places(strata)(pa.concat_tables([table, pa.table({"source": [source], "task": [task]})]))
