"""Claims about the batch plan."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import trainer.data.plan
from trainer.data.draw import PlanError, Stratum, draw_order
from trainer.data.pack import share_rows
from trainer.data.plan import Chunk, Plan, PlanInputs, fit_lengths

ROW = 32

caps = st.one_of(st.none(), st.integers(0, 80))
stratum_shapes = st.lists(st.tuples(st.integers(0, 60), caps, st.integers(1, 3)), min_size=1, max_size=6)
seeds = st.integers(0, 2**63 - 1)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def strata_of(shapes: list[tuple[int, int | None, int]]) -> list[Stratum]:
    strata, at = [], 0
    for number, (size, cap, repeat) in enumerate(shapes):
        stratum = Stratum(source="s", task=str(number), begin=at, end=at + size, max_per_epoch=cap, repeat=repeat)
        strata.append(stratum)
        at += size
    return strata


def epoch_order(strata: list[Stratum], seed: int, epoch: int, chunks: int) -> NDArray[np.uint32]:
    return np.concatenate([draw_order(strata, seed, epoch, chunk=chunk, chunks=chunks) for chunk in range(chunks)])


def lengths_of(samples: int, seed: int, longest: int = ROW) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    total = rng.integers(2, longest + 1, samples)
    prefix = rng.integers(1, total)
    return np.stack([prefix, total - prefix], axis=1).astype(np.uint16)


def inputs_of(seed: int = 0, rows: int = 4, row_tokens: int = ROW, truncate: bool = False) -> PlanInputs:
    return PlanInputs(
        fingerprint="f", seed=seed, batch_tokens=rows * row_tokens, row_tokens=row_tokens, truncate=truncate
    )


def plan_of(
    samples: int,
    lengths: NDArray[np.uint16],
    *,
    seed: int = 0,
    rows: int = 4,
    chunk_batches: int = trainer.data.plan.CHUNK_BATCHES,
    folder: Path | None = None,
) -> Plan:
    """A plan of one stratum, or of two, with chunks of a given size."""
    strata = strata_of([(samples // 3, None, 1), (samples - samples // 3, None, 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.data.plan, "CHUNK_BATCHES", chunk_batches)
        return Plan(inputs_of(seed, rows), strata, lengths, folder)


def epoch_of(plan: Plan, epoch: int) -> list[tuple[Chunk, int]]:
    """All batches of an epoch: their chunk, and their index in it."""
    chunks = [plan.chunk(epoch, number) for number in range(plan.chunks)]
    return [(chunk, batch) for chunk in chunks for batch in range(chunk.batches)]


@quick
@given(shapes=stratum_shapes, seed=seeds, epochs=st.integers(1, 5), chunks=st.integers(1, 12))
def test_caps_and_repeats_hold_in_every_epoch_and_no_sample_repeats_before_all_others_are_drawn(
    shapes: list[tuple[int, int | None, int]], seed: int, epochs: int, chunks: int
) -> None:
    strata = strata_of(shapes)
    drawn = np.zeros(strata[-1].end, np.int64)
    for epoch in range(epochs):
        order = epoch_order(strata, seed, epoch, chunks)
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
@given(shapes=stratum_shapes, seed=seeds, chunks=st.integers(1, 12))
def test_each_stratum_is_spread_evenly_over_the_epoch(
    shapes: list[tuple[int, int | None, int]], seed: int, chunks: int
) -> None:
    strata = strata_of(shapes)
    order = epoch_order(strata, seed, 0, chunks)
    for stratum in strata:
        so_far = np.cumsum((order >= stratum.begin) & (order < stratum.end))
        even = np.arange(1, len(order) + 1) * stratum.per_epoch / max(1, len(order))
        assert (np.abs(so_far - even) <= len(strata) + 1).all()


def test_every_order_of_a_pass_over_a_stratum_is_equally_likely() -> None:
    strata = strata_of([(4, None, 1)])
    orders = Counter(tuple(draw_order(strata, seed=0, epoch=epoch).tolist()) for epoch in range(2400))
    assert len(orders) == 24
    assert 60 < min(orders.values()) <= max(orders.values()) < 150


@quick
@given(seed=seeds, data=st.data(), chunks=st.integers(2, 2**22), per_chunk=st.integers(1, 1000))
def test_draws_at_the_border_of_two_chunks_are_in_exactly_one_of_them(
    seed: int, data: st.DataObject, chunks: int, per_chunk: int
) -> None:
    draws = chunks * per_chunk + data.draw(st.integers(0, chunks - 1))
    strata = [Stratum(source="s", task="", begin=0, end=draws, max_per_epoch=None, repeat=1)]
    border = data.draw(st.integers(1, chunks - 1))
    before, after = (draw_order(strata, seed, 0, chunk=chunk, chunks=chunks) for chunk in (border - 1, border))
    assert not set(before.tolist()) & set(after.tolist())
    assert abs(len(before) + len(after) - 2 * draws / chunks) <= 4


@quick
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 40_000), st.one_of(st.none(), st.integers(1, 10_000)), st.integers(1, 3)),
        min_size=1,
        max_size=4,
    ),
    seed=seeds,
    epochs=st.integers(1, 4),
    chunks=st.integers(1, 7),
)
def test_first_epochs_draw_the_same_from_a_dataset_that_has_only_what_they_draw(
    shapes: list[tuple[int, int | None, int]], seed: int, epochs: int, chunks: int
) -> None:
    cut = [(size if cap is None else min(size, epochs * cap), cap, repeat) for size, cap, repeat in shapes]
    whole, part = strata_of(shapes), strata_of(cut)
    samples = np.concatenate([np.arange(w.begin, w.begin + p.samples) for w, p in zip(whole, part, strict=True)])
    for epoch in range(epochs):
        found = samples[epoch_order(part, seed, epoch, chunks)]
        assert np.array_equal(found, epoch_order(whole, seed, epoch, chunks))


def test_large_strata_are_drawn_exactly_once_over_many_chunks() -> None:
    strata = strata_of([(300_000, None, 1), (1, None, 1), (200_000, None, 2), (50_000, 777, 1)])
    counts = np.bincount(epoch_order(strata, 5, 3, chunks=37), minlength=strata[-1].end)
    assert (counts[:300_001] == 1).all()
    assert (counts[300_001:500_001] == 2).all()
    assert counts[500_001:].sum() == 777


@quick
@given(
    samples=st.integers(1, 200),
    seed=seeds,
    rows=st.integers(1, 8),
    longest=st.integers(2, ROW + 1),
    size=st.integers(1, 9),
)
def test_every_draw_is_in_one_row_and_no_row_overflows(
    samples: int, seed: int, rows: int, longest: int, size: int
) -> None:
    lengths = lengths_of(samples, seed % 1000, longest)
    plan = plan_of(samples, lengths, seed=seed, rows=rows, chunk_batches=size)
    seen: list[int] = []
    for chunk, batch in epoch_of(plan, 0):
        in_rows = [chunk.row(batch, row) for row in range(rows)]
        assert all((lengths[row].sum(1) - 1).sum() <= ROW for row in in_rows), "the last token takes no position"
        assert np.array_equal(np.concatenate(in_rows), chunk.batch(batch))
        assert chunk.targets[batch] == lengths[chunk.batch(batch), 1].sum() > 0
        seen.extend(chunk.batch(batch).tolist())
    assert sorted(seen) == list(range(samples))
    assert plan.tokens == lengths.sum() - samples


@quick
@given(samples=st.integers(1, 150), seed=seeds, lengths_seed=st.integers(0, 50), size=st.integers(1, 9))
def test_every_world_size_trains_on_the_same_batches_in_equal_shares(
    samples: int, seed: int, lengths_seed: int, size: int
) -> None:
    lengths = lengths_of(samples, lengths_seed)
    for chunk, batch in epoch_of(plan_of(samples, lengths, seed=seed, rows=8, chunk_batches=size), 0):
        for world_size in (1, 2, 4, 8):
            shares = [chunk.rows_of_rank(batch, lengths, rank=r, world_size=world_size) for r in range(world_size)]
            assert {len(share) for share in shares} == {8 // world_size}
            assert sorted(row for share in shares for row in share) == list(range(8))


@quick
@given(work=st.lists(st.integers(0, 1000), min_size=1, max_size=12), ranks=st.integers(1, 4))
def test_no_exchange_of_two_rows_reduces_the_largest_load(work: list[int], ranks: int) -> None:
    work = (work * ranks)[: len(work) // ranks * ranks or ranks]
    owner = share_rows(np.array(work, np.int64), ranks).tolist()
    loads = [sum(w for w, q in zip(work, owner, strict=True) if q == rank) for rank in range(ranks)]
    assert {owner.count(rank) for rank in range(ranks)} == {len(work) // ranks}
    heaviest = loads.index(max(loads))
    for weight in (w for w, q in zip(work, owner, strict=True) if q == heaviest):
        for other, q in zip(work, owner, strict=True):
            if q != heaviest and weight > other:
                assert loads[q] + weight - other >= loads[heaviest]


def test_rows_that_cannot_be_divided_among_ranks_are_refused() -> None:
    lengths = lengths_of(50, 0)
    with pytest.raises(PlanError, match="4 rows of a batch cannot be shared by 3 ranks"):
        plan_of(50, lengths).chunk(0, 0).rows_of_rank(0, lengths, rank=0, world_size=3)


def test_plan_is_a_function_of_its_inputs() -> None:
    lengths, strata = lengths_of(200, 1), strata_of([(150, None, 1), (50, None, 2)])

    def digest(epoch: int, **inputs: int) -> str:
        return Plan(inputs_of(**inputs), strata, lengths).chunk(epoch, 0).hash

    assert digest(0, seed=1) == digest(0, seed=1)
    assert len({digest(0, seed=1), digest(0, seed=2), digest(1, seed=1), digest(0, seed=1, rows=8)}) == 4
    keys = {inputs_of(seed=1).key, inputs_of(seed=2).key, inputs_of(rows=8).key, inputs_of(truncate=True).key}
    assert len(keys) == 4


@quick
@given(seed=seeds, size=st.integers(1, 9), epoch=st.integers(0, 3), data=st.data())
def test_chunks_do_not_depend_on_earlier_ones(seed: int, size: int, epoch: int, data: st.DataObject) -> None:
    lengths = lengths_of(200, seed % 1000)
    whole = plan_of(200, lengths, seed=seed, chunk_batches=size)
    in_order = [whole.chunk(epoch, number).hash for number in range(whole.chunks)]
    number = data.draw(st.integers(0, whole.chunks - 1))
    assert plan_of(200, lengths, seed=seed, chunk_batches=size).chunk(epoch, number).hash == in_order[number]


def test_chunks_of_an_epoch_have_the_configured_size() -> None:
    plan = plan_of(4000, lengths_of(4000, 3), chunk_batches=50)
    sizes = [plan.chunk(0, number).batches for number in range(plan.chunks)]
    assert len(sizes) > 8
    assert all(45 <= size <= 65 for size in sizes)  # rows of so few tokens are 90 % full
    assert plan.batches == pytest.approx(sum(sizes), rel=0.05)


@pytest.mark.parametrize(("mean", "least"), [(237, 0.999), (2400, 0.97)])
def test_rows_are_nearly_full(mean: int, least: float) -> None:
    samples, row = 20_000, 4096
    total = np.random.default_rng(0).lognormal(np.log(mean) - 0.5, 1.0, samples).clip(8, row).astype(np.uint16)
    lengths = np.stack([total // 2, total - total // 2], axis=1)
    inputs = inputs_of(rows=48, row_tokens=row)
    chunk = Plan(inputs, strata_of([(samples, None, 1)]), lengths).chunk(0, 0)
    whole = [int((lengths[chunk.batch(b)].sum(1, np.int64) - 1).sum()) for b in range(chunk.batches - 1)]
    assert np.mean(whole) / inputs.batch_tokens >= least


def test_damaged_or_missing_chunk_is_planned_again(tmp_path: Path) -> None:
    lengths = lengths_of(100, 2)

    def stored() -> Chunk:
        return plan_of(100, lengths, folder=tmp_path).chunk(0, 0)

    first = stored()
    (file,) = tmp_path.rglob("*.npz")
    content = file.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], b"", content.replace(b"targets.npy", b"tergets.npy")):
        file.write_bytes(damaged)
        assert np.array_equal(stored().samples, first.samples)
        assert file.read_bytes() == content
    changed = bytearray(content)
    changed[content.index(first.samples.tobytes()) + 1] ^= 1
    file.write_bytes(changed)
    assert stored().hash == first.hash
    file.unlink()
    assert stored().hash == first.hash


def test_samples_that_do_not_fit_into_a_row_are_refused_with_their_number_and_the_remedy() -> None:
    lengths = np.array([[10, 5], [10, 40], [3, 60]], np.uint16)
    with pytest.raises(PlanError, match=r"2 of 3 samples .* sample 2, takes 62\): set batch.row_tokens to at least 62"):
        fit_lengths(lengths, row_tokens=ROW, truncate=False)


def test_truncation_cuts_the_response_and_never_the_prefix() -> None:
    lengths = np.array([[10, 5], [10, 40], [32, 60], [32, 1]], np.uint16)
    assert fit_lengths(lengths, row_tokens=ROW, truncate=True).tolist() == [[10, 5], [10, 23], [32, 1], [32, 1]]
    lengths[0] = (33, 1)
    with pytest.raises(PlanError, match=r"1 of them .* no room .* at least 33, .*samples.overlong=drop"):
        fit_lengths(lengths, row_tokens=ROW, truncate=True)


def test_dataset_whose_strata_are_all_capped_to_zero_is_refused() -> None:
    with pytest.raises(PlanError, match="no samples to draw"):
        Plan(inputs_of(), strata_of([(10, 0, 1)]), lengths_of(10, 0))


def test_plans_are_those_of_earlier_versions() -> None:
    # Recorded; runs that started with an earlier version rely on it, or PLAN_FORMAT must be raised.
    inputs, strata = inputs_of(seed=3), strata_of([(300, None, 1), (100, 40, 1), (100, None, 2)])
    plan = Plan(inputs, strata, lengths_of(500, 1))
    assert inputs.key == "dc57313617d01f266d75f377653fb479"
    assert [plan.chunk(epoch, 0).hash for epoch in range(2)] == [
        "f60a0b0e88abad4d93ed5e708a2f2095",
        "b5975feea26c2c38801e8c699251a2fc",
    ]
