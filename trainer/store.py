"""Samples by their index: the shards of a dataset, fetched and checked as they are needed.

    sample index ─Spanner─▶ shard, place in it ─Files.get─▶ verified local file ─MDS reader─▶ tokens, prefix length

The shards are MDS; index, readers and sample-to-shard map are those of
mosaicml-streaming. `StreamingDataset` itself is not in between, because its
bookkeeping lives in shared memory: a run that was killed leaves it behind and
stops the next one ("Reused local directory"), a download that fails leaves its
shard marked as being prepared so that every later reader waits for ever, a
shard that was there before is never checked, and its cache limit deletes
shards also of a dataset that is not a cache. Here the only shared state is a
lock per file, which the system releases when its holder dies.
"""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from streaming import Stream
from streaming.base.format import Reader
from streaming.base.spanner import Spanner
from streaming.base.world import World

from trainer.dataset import Dataset
from trainer.fetch import DatasetError

COLUMNS = {"tokens": "ndarray:uint16", "prefix_len": "uint16", "row_id": "bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample as it is stored."""

    tokens: NDArray[np.uint16]
    """[n]: prefix, then response."""
    prefix_len: int


class ShardStore:
    """Random access to the samples of a dataset.

    Parameters
    ----------
    dataset
        Its index must describe `dataset.samples` samples in plain MDS shards with the contract's columns.

    Raises
    ------
    DatasetError
        The index describes something else: other columns (pickled ones in particular), files outside of the
        dataset's folder, shards without an xxh64 hash, another number of samples.
    """

    def __init__(self, dataset: Dataset):
        self._files = dataset.files
        self._lengths = dataset.lengths
        folder = dataset.files.path("shards")
        where = dataset.files.url("shards/index.json")
        _check_index(json.loads((folder / "index.json").read_bytes()), dataset, where)
        self._shards: list[Reader] = Stream(local=str(folder)).get_shards(World.detect(), allow_unsafe_types=False)
        self._spanner = Spanner(np.array([shard.samples for shard in self._shards], np.int64))
        self._verified: set[int] = set()
        self._lock = threading.Lock()

    def read(self, index: int) -> Sample:
        """The sample at a global index.

        Raises
        ------
        DatasetError
            Its shard is missing or damaged, or the sample is not what lengths.npy says; the message names the shard.
        """
        number, place = self._spanner[index]
        shard = self._shards[number]
        if number not in self._verified:
            self._verify(int(number))
        row = shard.get_item(place)
        tokens, prefix_len = row["tokens"], int(row["prefix_len"])
        if (prefix_len, len(tokens) - prefix_len) != tuple(self._lengths[index]):
            raise DatasetError(
                f"{self._files.url('shards/' + _basename(shard))}: sample {index} has {prefix_len} + "
                f"{len(tokens) - prefix_len} tokens; lengths.npy says {self._lengths[index].tolist()}; build again"
            )
        return Sample(tokens=tokens, prefix_len=prefix_len)

    def _verify(self, number: int) -> None:
        info = self._shards[number].file_pairs[0][0]
        with self._lock:
            self._files.get(f"shards/{info.basename}", lambda path: _fault(path, info.bytes, info.hashes["xxh64"]))
            self._verified.add(number)


def _basename(shard: Reader) -> str:
    return shard.file_pairs[0][0].basename


def _check_index(index: dict[str, Any], dataset: Dataset, where: str) -> None:
    shards = index.get("shards", [])
    for number, shard in enumerate(shards):
        columns = dict(zip(shard.get("column_names", []), shard.get("column_encodings", []), strict=False))
        if shard.get("format") != "mds" or columns != COLUMNS:
            raise DatasetError(
                f"{where}: shard {number} is {shard.get('format')} with columns {columns}; expected mds with {COLUMNS} "
                "(other column types are not read, pickled ones least of all)"
            )
        if shard.get("compression") or "xxh64" not in shard["raw_data"]["hashes"]:
            raise DatasetError(
                f"{where}: shard {number} is compressed or has no xxh64 hash; expected a plain, hashed one"
            )
        name = shard["raw_data"]["basename"]
        if Path(name).name != name:
            raise DatasetError(
                f"{where}: shard {number} is the file {name!r}, which lies outside of shards/; do not use it"
            )
    counted = sum(shard["samples"] for shard in shards)
    if counted != dataset.samples:
        raise DatasetError(f"{where}: the shards hold {counted:,} samples; dataset.json counts {dataset.samples:,}")


def _fault(path: Path, size: int, xxh64: str) -> str | None:
    found = path.stat().st_size
    if found != size:
        return f"has {found:,} bytes; index.json says {size:,}"
    digest = xxhash.xxh64()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    if digest.hexdigest() != xxh64:
        return f"has the xxh64 hash {digest.hexdigest()}; index.json says {xxh64}"
    return None
