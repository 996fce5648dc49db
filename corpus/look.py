"""A built dataset as lazy polars frames: kept records, the outcome of every row, and the input files.

dataset.json (which files there are) ─▶ scan_parquet, of a folder or an object store; scan_pyarrow_dataset, of others
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import polars as pl
import pyarrow.dataset

from corpus.contract import COMMIT, LEDGER_FILES, DatasetError
from corpus.dataset import Dataset, NoDatasetError, open_dataset
from corpus.record import SCHEMA
from corpus.storage.connect import connect
from corpus.storage.location import is_url

__all__ = ["NoDatasetError", "Scan", "scan"]


class Scan(NamedTuple):
    """Lazy frames of a dataset."""

    records: pl.LazyFrame
    """Kept records as text; row i is sample i of the shards. Columns as in `corpus.record.SCHEMA`."""
    ledger: pl.LazyFrame
    """One line for each pair, and for each input row without a pair: its outcome, and why."""
    files: pl.LazyFrame
    """One line for each input file."""


_POLARS_READS = frozenset({"file", "s3", "s3a", "gs", "gcs", "az", "adl", "abfs", "abfss", "http", "https", "hf"})
"""Schemes of URLs that polars reads itself; other stores are read through fsspec and pyarrow."""


def scan(out: str | Path | Dataset) -> Scan:
    """Open a built dataset as lazy polars frames.

    Parameters
    ----------
    out
        Folder or fsspec URL that `pipeline.build` wrote. For S3, credentials, region and endpoint come from the usual
        AWS environment variables. Or a dataset that is already open.

    Raises
    ------
    DatasetError
        There is no finished dataset, or it has another format. `NoDatasetError` if there is no dataset.json.

    Examples
    --------
    >>> import corpus, polars as pl
    >>> look = corpus.scan("out/mix")  # doctest: +SKIP
    >>> look.records.filter(pl.col("response").str.contains("therefore")).head().collect()  # doctest: +SKIP
    """
    dataset = out if isinstance(out, Dataset) else open_dataset(out)
    if not dataset.info.ledger or LEDGER_FILES not in dataset.info.files:
        raise DatasetError(f"{dataset.url(COMMIT)}: lists no ledger; build the dataset again")

    def frame(paths: Sequence[str]) -> pl.LazyFrame:
        urls = [f"{dataset.location}/{path}" for path in paths]
        if is_url(dataset.location) and dataset.location.partition("://")[0] not in _POLARS_READS:
            filesystem, root = connect(dataset.location)
            places = [f"{root}/{path}" for path in paths]
            return pl.scan_pyarrow_dataset(pyarrow.dataset.dataset(places, filesystem=filesystem, format="parquet"))
        return pl.scan_parquet(urls, glob=False, storage_options=_storage_options(dataset.location))

    curated = dataset.info.curated
    records = frame(curated) if curated else cast(pl.DataFrame, pl.from_arrow(SCHEMA.empty_table())).lazy()
    return Scan(records, frame(dataset.info.ledger), frame([LEDGER_FILES]))


def _storage_options(location: str) -> dict[str, str] | None:
    """Return polars' options for S3, from the AWS environment variables."""
    if not location.startswith(("s3://", "s3a://")):
        return None
    env = {
        "aws_access_key_id": os.environ.get("AWS_ACCESS_KEY_ID"),
        "aws_secret_access_key": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "aws_session_token": os.environ.get("AWS_SESSION_TOKEN"),
        "aws_region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        "aws_endpoint_url": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
    }
    options = {name: value for name, value in env.items() if value}
    if options.get("aws_endpoint_url", "").startswith("http://"):
        options["aws_allow_http"] = "true"
    return options
