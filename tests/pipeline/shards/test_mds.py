"""Our shards are the bytes that mosaicml-streaming writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming import MDSWriter

from corpus.contract import TokenDtype, columns
from pipeline.shards import mds

lengths_of = st.lists(st.integers(2, 700) | st.sampled_from([255, 256, 257, 65_535]), min_size=1, max_size=40)


DTYPES: list[TokenDtype] = ["uint16", "uint32"]


def samples(lengths: list[int], seed: int, dtype: TokenDtype) -> tuple[Any, Any, Any, Any]:
    draw = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = draw.integers(0, np.iinfo(dtype).max, bounds[-1], dtype, endpoint=True)
    prefix = draw.integers(0, 65_536, len(lengths)).astype(np.uint16)
    return tokens, bounds, prefix, draw.integers(0, 256, (len(lengths), 16)).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of, seed=st.integers(0, 1000), dtype=st.sampled_from(DTYPES))
def test_shard_and_index_equal_those_of_mdswriter(
    tmp_path_factory: Any, lengths: list[int], seed: int, dtype: TokenDtype
) -> None:
    tokens, bounds, prefix, row_ids = samples(lengths, seed, dtype)
    size_limit = 2**28
    folder: Path = tmp_path_factory.mktemp("mds")
    with MDSWriter(columns=columns(dtype), out=str(folder), hashes=["xxh64"], size_limit=size_limit) as writer:
        for i in range(len(lengths)):
            sample = {
                "tokens": tokens[bounds[i] : bounds[i + 1]],
                "prefix_len": prefix[i],
                "row_id": row_ids[i].tobytes(),
            }
            writer.write(sample)
    ours = mds.shard(tokens, bounds, prefix, row_ids, size_limit)
    assert ours == (folder / "shard.00000.mds").read_bytes()
    index = mds.index([mds.describe(ours, len(lengths))], size_limit, dtype, lambda number: f"shard.{number:05}.mds")
    assert json.loads(index) == json.loads((folder / "index.json").read_text())


@given(
    lengths=st.lists(st.integers(2, 3000), max_size=200),
    size_limit=st.integers(1024, 50_000),
    dtype=st.sampled_from(DTYPES),
)
@settings(deadline=None)
def test_shards_cover_all_samples_once_within_the_limit(lengths: list[int], size_limit: int, dtype: TokenDtype) -> None:
    sizes = np.array(lengths, np.int64)
    ranges = mds.cut(sizes, size_limit, dtype)
    assert [edge for pair in ranges for edge in pair] == sorted(edge for pair in ranges for edge in pair)
    assert [n for begin, end in ranges for n in range(begin, end)] == list(range(len(lengths)))
    for begin, end in ranges:
        shard = sizes[begin:end]
        tokens, bounds, prefix, row_ids = samples(shard.tolist(), 0, dtype)
        assert end == begin + 1 or len(mds.shard(tokens, bounds, prefix, row_ids, size_limit)) <= size_limit
