"""A built dataset as polars frames: the kept records, the story of every row, and of every input file.

OUT/dataset.json (what files there are) ─▶ scan_parquet, lazily, local or on S3
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, cast

import fsspec
import polars as pl

from corpus.record import SCHEMA
from corpus.storage.redact import redact


class NoDatasetError(Exception):
    """There is no finished dataset at the given place; the message says what was looked for."""


class Scan(NamedTuple):
    """Lazy frames over one dataset."""

    records: pl.LazyFrame
    """Kept records as text; row i is sample i of the shards. Columns as in `corpus.record.SCHEMA`."""
    ledger: pl.LazyFrame
    """One line for each pair, and for each input row without one: its outcome and why."""
    files: pl.LazyFrame
    """One line for each input file."""


def scan(out: str | Path) -> Scan:
    """Open a built dataset for looking.

    Parameters
    ----------
    out
        Folder or fsspec URL that `pipeline.build` wrote. For S3, credentials, region and endpoint come from the usual
        AWS environment variables.

    Raises
    ------
    NoDatasetError
        There is no finished dataset.

    Examples
    --------
    >>> import corpus, polars as pl
    >>> look = corpus.scan("out/mix")  # doctest: +SKIP
    >>> look.records.filter(pl.col("response").str.contains("therefore")).head().collect()  # doctest: +SKIP
    """
    files = sorted(read_json(out, "dataset.json")["files"])

    def frame(prefix: str) -> pl.LazyFrame | None:
        names = [name for name in files if name.startswith(prefix) and name.endswith(".parquet")]
        if not names:
            return None
        return pl.scan_parquet([_join(out, name) for name in names], glob=False, storage_options=_storage_options(out))

    records, ledger, inputs = frame("curated/"), frame("ledger/rows"), frame("ledger/files")
    if ledger is None or inputs is None:
        raise NoDatasetError(f"{redact(str(out))}: dataset.json lists no ledger; build the dataset again")
    if records is None:
        records = cast(pl.DataFrame, pl.from_arrow(SCHEMA.empty_table())).lazy()
    return Scan(records, ledger, inputs)


def read_json(out: str | Path, name: str) -> dict[str, Any]:
    """A JSON file of a dataset; raises `NoDatasetError` when it is not there."""
    return cast(dict[str, Any], json.loads(read_bytes(out, name)))


def read_bytes(out: str | Path, name: str) -> bytes:
    """Content of one file of a dataset; raises `NoDatasetError` when it is not there."""
    try:
        with fsspec.open(_join(out, name), "rb") as file:
            return cast(bytes, file.read())
    except (FileNotFoundError, NotADirectoryError):
        where = redact(str(out))
        raise NoDatasetError(
            f"{where}: there is no {name}, so this is no finished dataset; expected a folder that pipeline.build wrote"
        ) from None


def _join(out: str | Path, name: str) -> str:
    return f"{str(out).rstrip('/')}/{name}"


def _storage_options(out: str | Path) -> dict[str, str] | None:
    """What polars needs to know of S3, under its own names."""
    if not str(out).startswith(("s3://", "s3a://")):
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
