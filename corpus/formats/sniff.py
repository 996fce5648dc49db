"""Detection of a file's compression and format by its first bytes, with its name as a hint."""

import re
from typing import NamedTuple

from corpus.formats import formats, split_suffix
from corpus.formats.base import BrokenFileError, Head
from corpus.formats.stream import MAGIC, Input, read_raw_head

HEAD_BYTES = 64 << 10
_LONG_LINE_BYTES = 1 << 20
"""Bytes examined when the first line does not end in the head."""

_NOT_DATA_NAMES = re.compile(
    r"""
    (licen[cs]e|copying|notice|readme|changelog|citation|authors|contributing|codeowners|makefile|dockerfile)
        (-\w+(\.\d+)*)*(\.(txt|md|rst|html|pdf))?
    | .*\.(md|rst|html?|pdf|py|ipynb|sh|cff|bib|css|js|toml|cfg|ini|lock|log|sha\d+|md5|crc|sig|asc|png|jpe?g|gif|svg)
    | dataset_infos?\.json | state\.json
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
    """Format and compression of a file; without a format, `skipped` or `problem` has the reason, or it is empty."""

    format: str | None = None
    compression: str | None = None
    skipped: str | None = None
    problem: str | None = None


def sniff(url: str, path: str, stated: str | None) -> Sniffed:
    """Detect compression and format of a file.

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
    if stated is None and _NOT_DATA_NAMES.fullmatch(name):
        return Sniffed(skipped="documentation, code or a picture by its name, not data")
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
    by_suffix = split_suffix(inner)[1]
    hint = None if by_suffix is None else by_suffix.name
    head = _head(Input(url, compression, head_bytes=HEAD_BYTES))
    if not head:
        # Nothing could be decompressed: reading the file reports why, whatever the format.
        return Sniffed(stated or hint or "jsonl", compression)
    if b"\n" not in head and len(head) >= HEAD_BYTES:
        head = _head(Input(url, compression, head_bytes=_LONG_LINE_BYTES))
    if head[:2] in _UTF16_BOMS and head[2:4] != b"\xff\xff":
        return Sniffed(compression=compression, problem="UTF-16 text, which is not read; convert it to UTF-8")
    found = stated or _detect(head, hint)
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
        pass  # the bytes before the break are enough to detect the format
    return b"".join(pieces)


def _detect(content: bytes, hint: str | None) -> str | None:
    """Return the name of the format of a file's first bytes; `hint` is the format that its suffix names."""
    for found in formats().values():
        if any(content[offset : offset + len(magic)] == magic for offset, magic in found.magic):
            return found.name
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return hint
    head = Head(text=text, lines=lines, suffix_format=hint)
    claiming = (found.name for found in formats().values() if found.claims(head))
    accepting = (found.name for found in formats().values() if found.accepts(head))
    return next(claiming, None) or hint or next(accepting, None)
