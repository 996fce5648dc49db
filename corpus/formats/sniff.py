"""What a file is, told by its first bytes, with its name as a hint."""

import csv
import json
import re
from itertools import chain
from typing import NamedTuple

from corpus.formats import SUFFIXES
from corpus.formats.base import BrokenFileError
from corpus.formats.stream import MAGIC, Input, read_raw_head

HEAD_BYTES = 64 << 10
_LONG_LINE_BYTES = 1 << 20
"""Where the first line does not end in the head, so much is looked at."""

_NO_DATA_NAMES = re.compile(
    r"""
    (licen[cs]e|copying|notice|readme|changelog|citation|authors|contributing|codeowners|makefile|dockerfile)
        (-\w+(\.\d+)*)*(\.(txt|md|rst|html|pdf))?
    | .*\.(md|rst|html?|pdf|py|ipynb|sh|cff|bib|css|js|toml|cfg|ini|lock|log|sha256|md5|sig|png|jpe?g|gif|svg)
    | dataset_infos?\.json | state\.json
    | \..* | _(success|metadata|common_metadata|committed.*|started.*)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LABEL_LIST_NAMES = re.compile(r"(labels?|classes|vocab|categories)\b.*\.(txt|json|csv|tsv)", re.IGNORECASE)
_OTHER_COMPRESSION = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7-Zip",
    b"\x04\x22\x4d\x18": "LZ4",
}
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class Sniffed(NamedTuple):
    """What a file is; without a format, either `skipped` or `problem` says why, or the file is empty."""

    format: str | None = None
    compression: str | None = None
    skipped: str | None = None
    problem: str | None = None


def sniff(url: str, path: str, stated: str | None) -> Sniffed:
    """Compression and format of a file.

    Parameters
    ----------
    url
        Local path or fsspec URL.
    path
        The file's name and the folders before it.
    stated
        The format that the manifest states, if it does.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    name = path.rsplit("/", 1)[-1]
    if stated is None and (match := _NO_DATA_NAMES.fullmatch(name)):
        return Sniffed(skipped=f"{match.group()!r} is by its name no data file")
    raw = read_raw_head(url, 8)
    if not raw:
        return Sniffed()
    compression = next((MAGIC[magic] for magic in MAGIC if raw.startswith(magic)), None)
    for magic, other in _OTHER_COMPRESSION.items():
        if raw.startswith(magic):
            return Sniffed(problem=f"compressed with {other}, which is not read; compress it with gzip or zstd instead")
    inner = name
    for suffix in (".gz", ".zst"):
        inner = inner.removesuffix(suffix)
    hint = next((SUFFIXES[suffix] for suffix in SUFFIXES if inner.lower().endswith(suffix)), None)
    head = _head(Input(url, compression, head_bytes=HEAD_BYTES))
    if not head:
        # Nothing could be decompressed: reading the file will say why, whatever the format.
        return Sniffed(stated or hint or "jsonl", compression)
    if b"\n" not in head and len(head) >= HEAD_BYTES:
        head = _head(Input(url, compression, head_bytes=_LONG_LINE_BYTES))
    if head[:2] in _UTF16_BOMS and head[2:4] != b"\xff\xff":
        return Sniffed(compression=compression, problem="UTF-16 text, which is not read; convert it to UTF-8")
    if stated is not None:
        return Sniffed(stated, compression)
    found = _binary_format(head) or _text_format(head, hint)
    if found is not None:
        return Sniffed(found, compression)
    if b"\0" in head[:4096]:
        return Sniffed(skipped="binary content of no known format")
    kind = "a list of labels" if _LABEL_LIST_NAMES.fullmatch(inner) else "plain text"
    return Sniffed(skipped=f"{kind}: neither JSON, CSV nor a YAML list")


def _head(source: Input) -> bytes:
    pieces = []
    try:
        for chunk in source.chunks():
            pieces.append(chunk)
    except BrokenFileError:
        pass  # what was read before the break tells the format
    return b"".join(pieces)


def _binary_format(head: bytes) -> str | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1\0\0", b"\xff\xff\xff\xff")):
        return "arrow"
    if head[257:262] == b"ustar":
        return "webdataset"
    return None


def _text_format(head: bytes, hint: str | None) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return hint
    first = lines[0].strip()
    if first[0] in "[{" and hint not in ("csv", "tsv", "yaml"):
        return _json_format(first, lines, hint)
    if hint is not None:
        return hint
    if re.match(r"""(---\s*\n)?- ["']?[\w ]+["']?:(\s|$)""", text.lstrip()):
        return "yaml"
    return _delimited_format(lines)


def _json_format(first: str, lines: list[str], hint: str | None) -> str:
    """JSON Lines when the first line is a value of its own and others follow; else one JSON value."""
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        # The start of a value over several lines, or a row that is broken.
        if first[0] == "[" or first == "{":
            return "json"
        if hint in ("jsonl", "json"):
            return hint
        return "jsonl" if len(lines) > 1 and lines[1].startswith("{") else "json"
    if len(lines) > 1:
        return "jsonl"
    if isinstance(value, list):
        return "json" if hint != "jsonl" or any(isinstance(item, dict) for item in value) else "jsonl"
    has_rows = any(isinstance(value.get(name), list) for name in ("Instances", "data", "rows", "examples"))
    return "json" if hint == "json" or (hint is None and has_rows) else "jsonl"


def _delimited_format(lines: list[str]) -> str | None:
    """CSV or TSV without a telling name: a header of at least two names, and as many cells in the next row."""
    for delimiter, found in (("\t", "tsv"), (",", "csv")):
        if delimiter not in lines[0]:
            continue
        rows = csv.reader(chain(lines[:64]), delimiter=delimiter)
        try:
            header, row = next(rows), next(rows)
        except (csv.Error, StopIteration):
            continue
        if len(header) == len(row) >= 2 and all(re.fullmatch(r"\s*\w[\w .-]{0,40}\s*", cell) for cell in header):
            return found
    return None
