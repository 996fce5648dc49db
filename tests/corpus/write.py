"""Writes rows in every format and compression, for tests to read back."""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zstandard

Rows = Sequence[Mapping[str, Any]]


def jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def json_array(rows: Rows) -> bytes:
    return json.dumps(list(rows), ensure_ascii=False, indent=1).encode()


def json_object(rows: Rows) -> bytes:
    return json.dumps({"before": {"a": [1]}, "data": list(rows), "after": "z"}, ensure_ascii=False).encode()


def delimited(rows: Rows, delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def yaml_list(rows: Rows) -> bytes:
    return yaml.safe_dump([dict(row) for row in rows], sort_keys=False).encode()


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink, row_group_size=7)
    return sink.getvalue()


def arrow_file(rows: Rows) -> bytes:
    table = pa.Table.from_pylist([dict(row) for row in rows])
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()


def arrow_stream(rows: Rows) -> bytes:
    table = pa.Table.from_pylist([dict(row) for row in rows])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()


def tar_of_texts(rows: Rows) -> bytes:
    return tar([(f"{i:06d}.{name}.txt", text.encode()) for i, row in enumerate(rows) for name, text in row.items()])


def tar_of_json(rows: Rows) -> bytes:
    return tar([(f"{i:06d}.json", json.dumps(row).encode()) for i, row in enumerate(rows)])


def tar(members: Sequence[tuple[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


FORMATS: Mapping[str, tuple[str, Callable[[Rows], bytes]]] = {
    "jsonl": ("jsonl", jsonl),
    "json array": ("json", json_array),
    "json object": ("json", json_object),
    "csv": ("csv", lambda rows: delimited(rows, ",")),
    "tsv": ("tsv", lambda rows: delimited(rows, "\t")),
    "yaml": ("yaml", yaml_list),
    "parquet": ("parquet", parquet),
    "arrow file": ("arrow", arrow_file),
    "arrow stream": ("arrow", arrow_stream),
    "tar of texts": ("tar", tar_of_texts),
    "tar of json": ("tar", tar_of_json),
}
"""Name to file suffix and writer."""

COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}


def pairs(count: int) -> list[dict[str, str]]:
    """Rows that every format can hold."""
    return [{"instruction": f"What is {n} plus {n}?", "response": f"It is {2 * n}."} for n in range(count)]


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
