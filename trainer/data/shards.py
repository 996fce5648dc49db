"""Random access to the samples of a dataset, whose shards are fetched and verified when they are needed.

    sample index ─▶ shard, offset in it ─Files.get─▶ verified local file, read by position ─▶ tokens, prefix length

Each process verifies size and hash of a shard before its first read, whether the shard was just fetched or already
cached, and again if its file has changed since. At most `OPEN_SHARDS` files are open. They are not memory-mapped: a
mapped file that shrinks kills its process, and each mapping takes a descriptor. The ranks of a node share the cache by
files and file locks, which the system releases when a process dies.

Shards are plain MDS. mosaicml-streaming's reader validates their index and decodes their samples. Its
`StreamingDataset` is not used as the cache: its state is in shared memory, which a killed run leaves behind; a failed
download leaves its shard marked as being prepared, so that other readers wait without end; and files that are already
in the folder are not verified. (`tests.benchmarks.loader` compares the two.)
"""

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray

from corpus.contract import SHARD_INDEX, DatasetError
from trainer.data.dataset import Dataset, check_not_rebuilt

if TYPE_CHECKING:
    from streaming.base.format.mds import MDSReader

SUFFIX = ".mds"
OPEN_SHARDS = 128
"""Largest number of shards that a process has open; a usual limit is 1,024 open files of any kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample as it is stored."""

    tokens: NDArray[np.uint16] | NDArray[np.uint32]
    """[n]: prefix, then response."""
    prefix_len: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    reader: "MDSReader"
    basename: str
    begin: int
    """Index of its first sample."""
    samples: int
    bytes: int
    xxh64: str


class ShardStore:
    """Random access to the samples of a dataset.

    Parameters
    ----------
    dataset
        The dataset.
    cache_bytes
        Largest size of the cached shards of a remote dataset; None: no limit. A local dataset is read in place, and
        none of its files is deleted.

    Raises
    ------
    DatasetError
        The largest shard is larger than `cache_bytes`.
    """

    def __init__(self, dataset: Dataset, *, cache_bytes: int | None = None):
        self.remote = dataset.files.remote
        self._files = dataset.files
        self._fingerprint = dataset.fingerprint
        self._lengths = dataset.lengths
        self._folder = dataset.files.path("shards")
        self._shards = _readers(dataset)
        self._ends = np.array([shard.begin + shard.samples for shard in self._shards], np.int64)
        self._numbers = {shard.basename: number for number, shard in enumerate(self._shards)}
        self._limit = cache_bytes if self.remote else None
        largest = max((shard.bytes for shard in self._shards), default=0)
        if self._limit is not None and self._limit < largest:
            raise DatasetError(
                f"{dataset.files.url(SHARD_INDEX)}: the largest shard has {largest:,} bytes, and cache_bytes is "
                f"{self._limit:,}; set it to at least a few times the size of a shard"
            )
        self._open: OrderedDict[int, FileIO] = OrderedDict()
        """The open shards, the least recently opened first. A file is closed when its last user drops it."""
        self._verified: dict[int, tuple[int, ...]] = {}
        """Identity of the file of each shard that was verified."""
        self._next_use: Mapping[int, int] = {}
        self._lock = threading.Lock()

    def read(self, index: int) -> Sample:
        """Return the sample at a global index.

        Raises
        ------
        DatasetError
            Its shard is missing or damaged, or the sample contradicts lengths.npy; the message names the shard.
        """
        number = int(np.searchsorted(self._ends, index, side="right"))
        shard = self._shards[number]
        file = self._open.get(number) or self._opened(number)
        try:
            begin, end = struct.unpack("<II", _bytes_at(file, 4 * (1 + index - shard.begin), 8))
            if not begin <= end <= shard.bytes:
                raise ValueError(f"it is at bytes {begin:,} to {end:,} of {shard.bytes:,}")
            stored = shard.reader.decode_sample(_bytes_at(file, begin, end - begin))
        except (ValueError, IndexError) as error:
            raise DatasetError(
                f"{self._url(number)}: sample {index} cannot be decoded ({error}); build the dataset again"
            ) from None
        tokens, prefix_len = stored["tokens"], int(stored["prefix_len"])
        found, expected = [prefix_len, len(tokens) - prefix_len], self._lengths[index].tolist()
        if found != expected:
            raise DatasetError(
                f"{self._url(number)}: sample {index} has {found[0]} tokens of prefix and {found[1]} of response; "
                f"expected {expected[0]} and {expected[1]} as in lengths.npy; build the dataset again"
            )
        return Sample(tokens=tokens, prefix_len=prefix_len)

    # --- Shards ------------------------------------------------------------------------------------------------

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self._shards)

    def shards_of(self, samples: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Shard of each sample: int64, of the shape of `samples`."""
        return np.searchsorted(self._ends, samples, side="right")

    def size(self, number: int) -> int:
        """Bytes of a shard."""
        return self._shards[number].bytes

    def is_cached(self, number: int) -> bool:
        """Whether a shard is on this machine, verified or not."""
        return (self._folder / self._shards[number].basename).exists()

    def require(self, samples: NDArray[np.uint32]) -> None:
        """Fetch and verify the shards of some samples; raises what `read` does."""
        for number in np.unique(self.shards_of(samples)).tolist():
            if number not in self._open:
                self._opened(number)

    def expect(self, order: Mapping[int, int]) -> None:
        """Set the rank of each shard in the order of use; a shard that is absent is not needed soon."""
        self._next_use = order

    def prefetch(self, number: int) -> bool:
        """Attempt once to fetch a shard; return whether it is cached.

        It is not fetched while another process fetches it, nor in place of shards that are needed sooner.
        """
        return self._files.get_if_free(
            f"shards/{self._shards[number].basename}",
            lambda path: self._fault(path, number),
            lambda new: self._make_room(number, new, needed_now=False),
        )

    def _opened(self, number: int) -> FileIO:
        """Verify and open a shard."""
        with self._lock:
            if number in self._open:
                return self._open[number]
            while True:
                path = self._path_if_unchanged(number) or self._get(number)
                try:
                    file = FileIO(path)
                except FileNotFoundError:  # another rank has deleted it to make room
                    continue
                self._verified[number] = _identity(os.fstat(file.fileno()))
                if self._limit is not None:
                    # A deleted file occupies the disk until every process has closed it.
                    for other in [other for other in self._open if not self.is_cached(other)]:
                        del self._open[other]
                while len(self._open) >= OPEN_SHARDS:
                    self._open.popitem(last=False)
                self._open[number] = file
                return file

    def _path_if_unchanged(self, number: int) -> Path | None:
        """Return the path of a shard that was verified and has not changed since."""
        path = self._folder / self._shards[number].basename
        try:
            return path if _identity(path.stat()) == self._verified.get(number) else None
        except FileNotFoundError:
            return None

    def _get(self, number: int) -> Path:
        """Return the path of a verified shard; one of a rebuilt dataset is not waited for."""

        def check(path: Path) -> str | None:
            if fault := self._fault(path, number):
                check_not_rebuilt(self._files, self._fingerprint)
            return fault

        try:
            return self._files.get(
                f"shards/{self._shards[number].basename}",
                check,
                lambda new: self._make_room(number, new, needed_now=True),
            )
        except DatasetError:
            check_not_rebuilt(self._files, self._fingerprint)
            raise

    def _url(self, number: int) -> str:
        return self._files.url(f"shards/{self._shards[number].basename}")

    def _fault(self, path: Path, number: int) -> str | None:
        shard = self._shards[number]
        found = path.stat().st_size
        if found != shard.bytes:
            return f"has {found:,} bytes, expected {shard.bytes:,} as in index.json"
        digest = xxhash.xxh64()
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
        if digest.hexdigest() != shard.xxh64:
            return f"has the xxh64 hash {digest.hexdigest()}, expected {shard.xxh64} as in index.json"
        return None

    def _make_room(self, number: int, new: Path, *, needed_now: bool) -> None:
        """Delete cached shards, the last needed first, until one more fits under the limit; then create the file `new`.

        Raises
        ------
        FullError
            The shard is not needed now, and the cache is full of shards that are needed sooner.
        """
        if self._limit is None:
            return
        never = len(self._next_use)
        with FileLock(self._folder / "room.lock"):
            cached: dict[int, int] = {}
            fetching = 0
            for entry in os.scandir(self._folder):
                basename = entry.name.partition(SUFFIX)[0] + SUFFIX
                if basename not in self._numbers or entry.name.endswith(".lock"):
                    continue
                if entry.name == basename:
                    cached[self._numbers[basename]] = self.size(self._numbers[basename])
                else:
                    fetching += self.size(self._numbers[basename])
            free = self._limit - sum(cached.values()) - fetching
            for other in sorted(cached, key=lambda n: -self._next_use.get(n, never)):
                if free >= self.size(number):
                    break
                if not needed_now and self._next_use.get(other, never) <= self._next_use.get(number, never):
                    raise FullError
                (self._folder / self._shards[other].basename).unlink(missing_ok=True)
                free += cached[other]
            new.touch()


def _bytes_at(file: FileIO, begin: int, size: int) -> bytes:
    content = os.pread(file.fileno(), size, begin)
    if len(content) != size:
        raise ValueError(f"the file ends before {size:,} bytes at {begin:,}; it was cut off since it was verified")
    return content


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FullError(Exception):
    """The cache is full of shards that are needed sooner."""


def _readers(dataset: Dataset) -> list[_Shard]:
    """Return the shards of a dataset with readers of their samples."""
    from streaming.base.format.mds import MDSReader  # takes longer to import than torch

    shards: list[_Shard] = []
    begin = 0
    for info in dataset.shards:
        reader = MDSReader.from_json("", None, info.model_dump(mode="json"))
        reader.validate(allow_unsafe_types=False)
        file = info.raw_data
        shards.append(
            _Shard(
                reader=reader,
                basename=file.basename,
                begin=begin,
                samples=info.samples,
                bytes=file.bytes,
                xxh64=file.hashes["xxh64"],
            )
        )
        begin += info.samples
    return shards
