"""Claims about the batch plan."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.draw import PlanError, Stratum, draw_order
from trainer.plan import EpochPlan, PlanInputs, fit_lengths

ROW = 32

caps = st.one_of(st.none(), st.integers(0, 80))
stratum_shapes = st.lists(st.tuples(st.integers(0, 60), caps, st.integers(0, 3)), min_size=1, max_size=6)
seeds = st.integers(0, 2**63 - 1)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def strata_of(shapes: list[tuple[int, int | None, int]]) -> list[Stratum]:
    strata, at = [], 0
    for number, (size, cap, repeat) in enumerate(shapes):
        stratum = Stratum(source="s", task=str(number), begin=at, end=at + size, max_per_epoch=cap, repeat=repeat)
        strata.append(stratum)
        at += size
    return strata


def lengths_of(samples: int, seed: int, longest: int = ROW) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    total = rng.integers(2, longest + 1, samples)
    prefix = rng.integers(1, total)
    return np.stack([prefix, total - prefix], axis=1).astype(np.uint16)


def inputs_of(seed: int = 0, rows: int = 4, row_tokens: int = ROW, truncate: bool = False) -> PlanInputs:
    return PlanInputs(
        fingerprint="f", seed=seed, batch_tokens=rows * row_tokens, row_tokens=row_tokens, truncate=truncate
    )


@quick
@given(shapes=stratum_shapes, seed=seeds, epochs=st.integers(1, 5))
def test_caps_and_repeats_hold_in_every_epoch_and_no_sample_returns_before_the_others_had_their_turn(
    shapes: list[tuple[int, int | None, int]], seed: int, epochs: int
) -> None:
    strata = strata_of(shapes)
    drawn = np.zeros(strata[-1].end, np.int64)
    for epoch in range(epochs):
        order = draw_order(strata, seed, epoch)
        for stratum in strata:
            inside = (order >= stratum.begin) & (order < stratum.end)
            wanted = stratum.samples * stratum.repeat
            assert inside.sum() == (wanted if stratum.max_per_epoch is None else min(wanted, stratum.max_per_epoch))
        drawn += np.bincount(order, minlength=len(drawn))
    for stratum in strata:
        counts = drawn[stratum.begin : stratum.end]
        if len(counts):
            assert counts.max() - counts.min() <= 1


@quick
@given(shapes=stratum_shapes, seed=seeds)
def test_each_stratum_is_spread_evenly_over_the_epoch(shapes: list[tuple[int, int | None, int]], seed: int) -> None:
    strata = strata_of(shapes)
    order = draw_order(strata, seed, 0)
    for stratum in strata:
        so_far = np.cumsum((order >= stratum.begin) & (order < stratum.end))
        even = np.arange(1, len(order) + 1) * stratum.per_epoch / max(1, len(order))
        assert (np.abs(so_far - even) <= len(strata) + 1).all()


def test_passes_over_a_stratum_come_in_every_order_equally_often() -> None:
    strata = strata_of([(4, None, 1)])
    orders = Counter(tuple(draw_order(strata, seed=0, epoch=epoch).tolist()) for epoch in range(2400))
    assert len(orders) == 24
    assert 60 < min(orders.values()) <= max(orders.values()) < 150


def test_strata_that_span_several_windows_are_drawn_exactly_once() -> None:
    strata = strata_of([(300_000, None, 1), (1, None, 1), (200_000, None, 2), (50_000, 777, 1)])
    counts = np.bincount(draw_order(strata, 5, 3), minlength=strata[-1].end)
    assert (counts[:300_001] == 1).all()
    assert (counts[300_001:500_001] == 2).all()
    assert counts[500_001:].sum() == 777


@quick
@given(samples=st.integers(1, 200), seed=seeds, rows=st.integers(1, 8), longest=st.integers(2, ROW))
def test_every_draw_stands_in_one_row_and_no_row_overflows(samples: int, seed: int, rows: int, longest: int) -> None:
    lengths = lengths_of(samples, seed % 1000, longest)
    strata = strata_of([(samples, None, 1)])
    plan = EpochPlan.build(inputs_of(seed, rows), 0, strata, lengths)
    assert sorted(plan.samples) == list(range(samples))
    for batch in range(plan.batches):
        in_rows = [plan.row(batch, row) for row in range(rows)]
        assert all(lengths[row].sum() <= ROW for row in in_rows)
        assert np.array_equal(np.concatenate(in_rows), plan.batch(batch))
        assert plan.targets[batch] == lengths[plan.batch(batch), 1].sum() > 0


@quick
@given(samples=st.integers(1, 150), seed=seeds, batches_seed=st.integers(0, 50))
def test_rows_are_shared_out_completely_and_equally_for_every_world_size(
    samples: int, seed: int, batches_seed: int
) -> None:
    lengths = lengths_of(samples, batches_seed)
    plan = EpochPlan.build(inputs_of(seed, rows=8), 0, strata_of([(samples, None, 1)]), lengths)
    for batch in range(plan.batches):
        for world_size in (1, 2, 4, 8):
            shares = [plan.rows_of_rank(batch, lengths, rank=r, world_size=world_size) for r in range(world_size)]
            assert {len(share) for share in shares} == {8 // world_size}
            assert sorted(row for share in shares for row in share) == list(range(8))


def test_rows_that_ranks_cannot_share_equally_are_refused() -> None:
    lengths = lengths_of(50, 0)
    plan = EpochPlan.build(inputs_of(rows=4), 0, strata_of([(50, None, 1)]), lengths)
    with pytest.raises(PlanError, match="4 rows of a batch cannot be shared by 3 ranks"):
        plan.rows_of_rank(0, lengths, rank=0, world_size=3)


def test_plan_follows_from_its_inputs_alone() -> None:
    lengths, strata = lengths_of(200, 1), strata_of([(150, None, 1), (50, None, 2)])
    plan = EpochPlan.build(inputs_of(seed=1), 0, strata, lengths)
    assert EpochPlan.build(inputs_of(seed=1), 0, strata, lengths).hash == plan.hash
    assert EpochPlan.build(inputs_of(seed=2), 0, strata, lengths).hash != plan.hash
    assert EpochPlan.build(inputs_of(seed=1), 1, strata, lengths).hash != plan.hash
    keys = {inputs_of(seed=1).key, inputs_of(seed=2).key, inputs_of(rows=8).key, inputs_of(truncate=True).key}
    assert len(keys) == 4


@pytest.mark.parametrize(("mean", "least"), [(237, 0.999), (2400, 0.97)])
def test_rows_are_nearly_full(mean: int, least: float) -> None:
    samples, row = 20_000, 4096
    total = np.random.default_rng(0).lognormal(np.log(mean) - 0.5, 1.0, samples).clip(8, row).astype(np.uint16)
    lengths = np.stack([total // 2, total - total // 2], axis=1)
    inputs = inputs_of(rows=48, row_tokens=row)
    plan = EpochPlan.build(inputs, 0, strata_of([(samples, None, 1)]), lengths)
    whole = [int(lengths[plan.batch(batch)].sum(dtype=np.int64)) for batch in range(plan.batches - 1)]
    assert np.mean(whole) / inputs.batch_tokens >= least


def test_damaged_or_missing_plan_is_built_again(tmp_path: Path) -> None:
    lengths, strata, inputs = lengths_of(100, 2), strata_of([(100, None, 1)]), inputs_of()

    def open_plan() -> EpochPlan:
        return EpochPlan.open_or_build(tmp_path, inputs, 0, strata, lengths)

    first = open_plan()
    samples = np.array(first.samples)
    stored = tmp_path / f"{inputs.key}-0000"
    damage = stored / "samples.npy"
    content = bytearray(damage.read_bytes())
    content[-1] ^= 1
    damage.write_bytes(content)
    assert np.array_equal(open_plan().samples, samples)
    (stored / "targets.npy").unlink()
    assert np.array_equal(open_plan().samples, samples)
    (stored / "row_begins.npy").write_bytes(b"")
    assert np.array_equal(open_plan().samples, samples)
    (stored / "plan.json").write_text("{")
    assert open_plan().hash == first.hash


def test_samples_longer_than_a_row_are_refused_with_their_number_and_the_remedy() -> None:
    lengths = np.array([[10, 5], [10, 40], [3, 60]], np.uint16)
    with pytest.raises(PlanError, match=r"2 of 3 samples .* sample 2, has 63\): set batch.row_tokens to at least 63"):
        fit_lengths(lengths, row_tokens=ROW, truncate=False)


def test_truncation_cuts_the_response_and_never_the_prefix() -> None:
    lengths = np.array([[10, 5], [10, 40], [31, 60]], np.uint16)
    assert fit_lengths(lengths, row_tokens=ROW, truncate=True).tolist() == [[10, 5], [10, 22], [31, 1]]
    lengths[0] = (32, 1)
    with pytest.raises(PlanError, match=r"1 of them have no room for a response .* batch.row_tokens above 32"):
        fit_lengths(lengths, row_tokens=ROW, truncate=True)


def test_dataset_whose_strata_are_all_capped_to_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="no samples to draw"):
        EpochPlan.build(inputs_of(), 0, strata_of([(10, 0, 1)]), lengths_of(10, 0))
