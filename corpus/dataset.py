"""The reader of built datasets, in a folder or at an fsspec URL.

    open_dataset(location) ─ dataset.json, parsed and checked ─▶ Dataset ─▶ info, strata, lengths, any listed file

Needs numpy and fsspec only; polars frames of a dataset are `corpus.look`.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from corpus.contract import (
    COMMIT,
    LENGTHS,
    PUBLISHING,
    STRATA,
    DatasetError,
    DatasetInfo,
    Stratum,
    parse_dataset,
    parse_strata,
)
from corpus.schema import MAX_BYTES, shown
from corpus.storage.location import is_url, local_path
from corpus.storage.redact import redact

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from corpus.storage.store import Store


def _store(location: str) -> "Store":
    from corpus.storage.retry import INTERACTIVE_ATTEMPTS
    from corpus.storage.store import Store

    return Store(location, attempts=INTERACTIVE_ATTEMPTS)


class NoDatasetError(DatasetError):
    """There is no finished dataset at the given location."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A built dataset; files are read on access.

    Raises
    ------
    DatasetError
        From all members: a file is missing, is not listed in dataset.json, or does not have the contract's content.
    OSError
        From all members: a file, or the store, cannot be read.
    """

    location: str
    """Folder or fsspec URL."""
    info: DatasetInfo
    """Content of dataset.json."""

    def url(self, path: str) -> str:
        """Return where a file is, for messages: without credentials."""
        return f"{redact(self.location)}/{path}"

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file that dataset.json lists, by its path."""
        if path not in self.info.files:
            raise DatasetError(f"{self.url(COMMIT)}: does not list {path}; build the dataset again")
        try:
            with _store(self.location).open(path) as file:
                yield file
        except FileNotFoundError:
            raise DatasetError(f"{self.url(path)}: is missing; copy it again, or build the dataset again") from None

    def read(self, path: str) -> bytes:
        """Return the content of a file that dataset.json lists, if it has no more bytes than listed."""
        with self.open(path) as file:
            limit = self.info.files[path].bytes
            if path.endswith(".json"):
                limit = min(limit, MAX_BYTES)
            content = file.read(limit + 1)
        if len(content) > limit:
            raise DatasetError(f"{self.url(path)}: has more than {limit:,} bytes; build the dataset again")
        return content

    @cached_property
    def strata(self) -> tuple[Stratum, ...]:
        """The ranges of samples of each (source, task), in sample order."""
        return parse_strata(self.read(STRATA), self.url(STRATA), samples=self.info.samples)

    @cached_property
    def lengths(self) -> "NDArray[np.uint16]":
        """uint16 [N, 2]: tokens of prefix and response of each sample."""
        return load_lengths(io.BytesIO(self.read(LENGTHS)), self.url(LENGTHS), samples=self.info.samples)

    def batches(self, paths: Sequence[str], columns: Sequence[str] | None = None) -> Iterator["tuple[str, pa.Table]"]:
        """Yield the rows of some of the dataset's Parquet files, in order, as (path, table of some rows).

        Raises
        ------
        DatasetError
            A file lacks one of `columns`, since another version of Millrace wrote it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in paths:
            with self.open(path) as file, pq.ParquetFile(file) as parquet:
                missing = [name for name in columns or () if name not in parquet.schema_arrow.names]
                if missing:
                    raise DatasetError(
                        f"{self.url(path)}: has no column {', '.join(missing)}; another version of Millrace built the "
                        "dataset: build it again"
                    )
                for batch in parquet.iter_batches(columns=columns, use_threads=False):
                    yield path, pa.Table.from_batches([batch])


def open_dataset(location: str | Path) -> Dataset:
    """Read dataset.json and return the dataset.

    Parameters
    ----------
    location
        Folder or fsspec URL that `pipeline.build` wrote to.

    Raises
    ------
    NoDatasetError
        There is no dataset.json.
    DatasetError
        dataset.json does not have the contract's content, or has another format.
    OSError
        The folder or store cannot be read.
    """
    if not str(location):
        raise NoDatasetError("the dataset's name is empty; expected a folder or URL")
    location = str(location).rstrip("/")
    try:
        content = _store(location).read(COMMIT, at_most=MAX_BYTES + 1)
    except FileNotFoundError:
        raise NoDatasetError(unfinished(location) or absent(location)) from None
    return Dataset(location=location, info=parse_dataset(content, f"{redact(location)}/{COMMIT}"))


def absent(location: str) -> str:
    """Return the message about a location that has no dataset.json."""
    path = local_path(location)
    if not is_url(location) and not path.exists():
        return f"{location}: there is no such folder; build a dataset first, or name another folder"
    if not is_url(location) and not path.is_dir():
        return f"{location}: is a file, expected the folder of a dataset"
    return f"{redact(location)}: has no {COMMIT}, so it is not a finished dataset; build the dataset first"


def unfinished(location: str) -> str | None:
    """Return what to do about a location without dataset.json where files of a dataset are being published, or None."""
    try:
        if PUBLISHING not in _store(location).list(()):
            return None
    except OSError:
        return None
    return (
        f"{redact(location)}: a dataset is being published here, or a build was interrupted while it published: wait "
        "for the build, or run it again"
    )


def load_lengths(file: Path | IO[bytes], where: str, *, samples: int) -> "NDArray[np.uint16]":
    """Load and check lengths.npy; memory-mapped where `file` is a path.

    Parameters
    ----------
    file
        The file.
    where
        Its path or URL, for error messages.
    samples
        Samples of the dataset, N.

    Returns
    -------
    ndarray
        uint16 [N, 2]: tokens of prefix and response of each sample.
    """
    import numpy as np  # imported late: help of the commands needs no arrays

    size = file.stat().st_size if isinstance(file, Path) else file.seek(0, io.SEEK_END)
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as content:
            content.seek(0)
            version = np.lib.format.read_magic(content)
            if version != (1, 0):
                raise ValueError(f"has version {version[0]}.{version[1]} of the format, expected 1.0")
            shape, is_transposed, dtype = np.lib.format.read_array_header_1_0(content)
            begin = content.tell()
    except OSError:
        raise
    except Exception as error:  # numpy evaluates the header by Python's parser, which raises many kinds
        raise DatasetError(f"{where}: is not a numpy array ({_one_line(error)}); build the dataset again") from None
    if dtype != np.dtype("<u2") or shape != (samples, 2) or is_transposed:
        order = ", by columns" if is_transposed else ""
        raise DatasetError(
            f"{where}: is {dtype} {list(shape)}{order}, expected uint16 [{samples}, 2]; build the dataset again"
        )
    if size != begin + 4 * samples:
        raise DatasetError(
            f"{where}: has {size:,} bytes, expected {begin + 4 * samples:,} for {samples:,} samples; build the dataset "
            "again"
        )
    if not samples:
        return np.empty((0, 2), np.uint16)
    if isinstance(file, Path):
        return np.memmap(file, "<u2", "r", offset=begin, shape=(samples, 2))
    file.seek(begin)
    return np.frombuffer(file.read(), "<u2").reshape(samples, 2)


def check_lengths(lengths: "NDArray[np.uint16]", info: DatasetInfo, where: str) -> None:
    """Raise `DatasetError` unless each sample has a prefix and 2 tokens, and the sums are those in dataset.json."""
    prefix = response = longest = 0
    for begin in range(0, len(lengths), _BLOCK):
        block = lengths[begin : begin + _BLOCK].astype("int64")
        short = (block[:, 0] == 0) | (block.sum(axis=1) < 2)
        if short.any():
            sample = int(short.argmax())
            raise DatasetError(
                f"{where}: sample {begin + sample:,} has a prefix of {block[sample, 0]} and a response of "
                f"{block[sample, 1]} tokens, expected a prefix and at least 2 tokens; build the dataset again"
            )
        prefix, response = prefix + int(block[:, 0].sum()), response + int(block[:, 1].sum())
        longest = max(longest, int(block.sum(axis=1).max()))
    for name, expected, found in (
        ("prefix_tokens", info.prefix_tokens, prefix),
        ("response_tokens", info.response_tokens, response),
        ("max_tokens", info.max_tokens, longest),
    ):
        if found != expected:
            raise DatasetError(
                f"{where}: its {name} are {found:,}, expected {expected:,} as in {COMMIT}; build the dataset again"
            )


_BLOCK = 1 << 20
"""Samples whose lengths are summed at once; bounds memory."""


def _one_line(error: Exception) -> str:
    return shown(" ".join(str(error).split()) or type(error).__name__, quoted=False)
