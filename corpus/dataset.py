"""The reader of built datasets, in a folder or at an fsspec URL.

    open_dataset(location) ─ dataset.json, parsed and checked ─▶ Dataset ─▶ info, strata, lengths, any listed file

Needs numpy and fsspec only; polars frames of a dataset are `corpus.look`.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corpus.contract import COMMIT, LENGTHS, STRATA, DatasetError, DatasetInfo, Stratum, parse_dataset, parse_strata
from corpus.storage.redact import redact
from corpus.storage.retry import INTERACTIVE_ATTEMPTS
from corpus.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


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
            with Store(self.location, attempts=INTERACTIVE_ATTEMPTS).open(path) as file:
                yield file
        except FileNotFoundError:
            raise DatasetError(f"{self.url(path)}: is missing; copy it again, or build the dataset again") from None

    def read(self, path: str) -> bytes:
        """Return the content of a file that dataset.json lists."""
        with self.open(path) as file:
            return file.read()

    @cached_property
    def strata(self) -> tuple[Stratum, ...]:
        """The ranges of samples of each (source, task), in sample order."""
        return parse_strata(self.read(STRATA), self.url(STRATA), samples=self.info.samples)

    @cached_property
    def lengths(self) -> NDArray[np.uint16]:
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
                for batch in parquet.iter_batches(columns=columns):
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
    location = str(location).rstrip("/")
    try:
        content = Store(location, attempts=INTERACTIVE_ATTEMPTS).read(COMMIT)
    except FileNotFoundError:
        raise NoDatasetError(
            f"{redact(location)}: has no {COMMIT}, so it is not a finished dataset; build the dataset first"
        ) from None
    return Dataset(location=location, info=parse_dataset(content, f"{redact(location)}/{COMMIT}"))


def load_lengths(file: Path | IO[bytes], where: str, *, samples: int) -> NDArray[np.uint16]:
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
    try:
        lengths = np.load(file, mmap_mode="r" if isinstance(file, Path) else None, allow_pickle=False)
    except ValueError as error:
        raise DatasetError(f"{where}: is not a numpy array ({error}); build the dataset again") from None
    if lengths.dtype != np.uint16 or lengths.shape != (samples, 2):
        raise DatasetError(
            f"{where}: is {lengths.dtype} {list(lengths.shape)}, expected uint16 [{samples}, 2]; "
            "build the dataset again"
        )
    return lengths
