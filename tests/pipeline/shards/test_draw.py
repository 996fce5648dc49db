"""Pairs are drawn in the order of the shuffle, ahead of curation too, and a stratum that is then too small is named."""

import math
import re
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import ConfigError, load_manifest
from corpus.outcome import Outcome
from pipeline.engine.progress import Display
from pipeline.engine.step import BuildError
from pipeline.ingest.live import LiveRecords, live_batches
from pipeline.ingest.step import TaskSize
from pipeline.manifest import Mix
from pipeline.records.drops import DropRef, empty_drops, write_drops
from pipeline.records.schema import id_halves
from pipeline.records.seeds import keyed_hash
from pipeline.shards.draw import draw_ahead, drop_undrawn
from tests.in_process import InProcess, as_ingested

Strata = dict[tuple[str, str], list[str]]


def live(work: Path, records: LiveRecords, seed: int) -> Strata:
    """Row ids of each stratum in the order of the shuffle."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for _, _, batch in live_batches(work, records.inputs, records.drops, ["row_id", "source", "task"]):
        order = keyed_hash(*id_halves(batch["row_id"]), seed=seed, purpose="shuffle").tolist()
        names = zip(batch["source"].to_pylist(), batch["task"].to_pylist(), strict=True)
        for name, place, row_id in zip(names, order, batch["row_id"].to_pylist(), strict=True):
            found[name].append((place, row_id.hex()))
    return {name: [row_id for _, row_id in sorted(pairs)] for name, pairs in found.items()}


def curated(work: Path, records: LiveRecords, draw: np.random.Generator, share: float) -> LiveRecords:
    """Drop a random share of the records, as curation would."""
    places = [
        (part, index)
        for part, found, _ in live_batches(work, records.inputs, records.drops, ["row_id"])
        for index in found
    ]
    lost = [place for place in places if draw.random() < share]
    drops = empty_drops(len(lost))
    drops["partition"], drops["index"] = np.array(lost, np.uint32).reshape(-1, 2).T
    (work / "near/any").mkdir(parents=True)
    dropped = write_drops(work / "near/any", drops, np.ones(len(lost), np.int64))
    ref = DropRef(stage="near", key="any", outcome=Outcome.NEAR_DUPLICATE)
    return LiveRecords(parts=records.parts, drops=(*records.drops, ref), lost_rows=_sum(records, dropped.rows))


def _sum(records: LiveRecords, lost: dict[int, int]) -> dict[int, int]:
    return {part: records.lost_rows.get(part, 0) + lost.get(part, 0) for part in range(len(records.parts))}


@given(
    sizes=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=6),
    most=st.lists(st.none() | st.integers(1, 6), min_size=3, max_size=3),
    epochs=st.integers(1, 3),
    margin=st.none() | st.floats(1, 3),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    seed=st.integers(0, 3),
)
@settings(deadline=None, max_examples=20)
def test_what_is_drawn_ahead_is_curated_and_what_epochs_draw_of_it_is_left(
    sizes: list[tuple[int, int, int]],
    most: list[int | None],
    epochs: int,
    margin: float | None,
    share: float,
    seed: int,
) -> None:
    sources = [{"name": f"s{number}", "path": "x", "max_per_epoch": limit} for number, limit in enumerate(most)]
    drawing = {"epochs": epochs, "draw_margin": margin, "seed": seed}
    mix = Mix.model_validate({"name": "mix", "sources": sources, **drawing})
    parts = []
    for number, (source, task, rows) in enumerate(sorted(sizes)):
        texts = [f"{number} {row}" for row in range(rows)]
        table = pl.DataFrame({"instruction": texts, "response": texts, "task": [f"t{task}"] * rows})
        parts.append((f"s{source}", table))
    with TemporaryDirectory() as folder:
        work = Path(folder)
        records = as_ingested(work, parts)
        tasks = {
            part.key: {table["task"][0]: TaskSize(bytes=part.bytes, meta_bytes=0)}
            for part, (_, table) in zip(records.parts, parts, strict=True)
        }
        limits = {f"s{number}": math.inf if limit is None else epochs * limit for number, limit in enumerate(most)}
        ahead = {
            name: math.inf if margin is None else math.ceil(round(margin * limit, 6)) if limit < math.inf else limit
            for name, limit in limits.items()
        }
        whole = live(work, records, seed)
        with InProcess(work, Display()) as executor:
            drawn, cut = draw_ahead(records, mix, tasks, executor)
            assert live(work, drawn, seed) == {name: ids[: _most(ahead[name[0]])] for name, ids in whole.items()}
            assert cut == {name for name, ids in whole.items() if len(ids) > ahead[name[0]]}
            after = curated(work, drawn, np.random.default_rng(seed), share)
            remaining = live(work, after, seed)
            short = {name for name in cut if len(remaining.get(name, ())) < limits[name[0]]}
            if short:
                with pytest.raises(BuildError) as stopped:
                    drop_undrawn(after, mix, tasks, executor, cut)
                assert set(re.findall(r"source (\S+), task (\S+):", str(stopped.value))) == short
                return
            left = drop_undrawn(after, mix, tasks, executor, cut)
        expected = {name: ids[: _most(limits[name[0]])] for name, ids in remaining.items()}
        assert live(work, left, seed) == expected


def _most(limit: float) -> int | None:
    return None if limit == math.inf else int(limit)


def test_a_margin_without_epochs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text("name: m\ndraw_margin: 2\nsources: [{name: a, path: a.jsonl}]\n")
    with pytest.raises(ConfigError, match="draw_margin is set, but not epochs"):
        load_manifest(tmp_path / "mix.yaml", Mix)
