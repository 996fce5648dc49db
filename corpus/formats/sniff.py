"""Detection of a file's compression and format by its first bytes, with its name as a hint."""

import codecs
import re
from typing import NamedTuple

from corpus.formats import formats, split_suffix
from corpus.formats.base import BrokenFileError, Head
from corpus.formats.encoding import is_utf8, marked_encoding, shifted_encoding, to_utf8, wide_encoding
from corpus.formats.stream import MAGIC, Input, Member, without_compression

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
_SURE_CHARACTERS = 8
"""Characters beyond ASCII from which a text that is valid UTF-8 is taken for it, whatever encoding is stated."""
_OTHER_COMPRESSION = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf": "7-Zip",
    b"\x04\x22\x4d\x18": "LZ4",
}
_MAX_COMPRESSIONS = 3
_INNER_ARCHIVE = "an archive inside of another file, which is not read; unpack it and name the folder"


class Sniffed(NamedTuple):
    """Format and compression of a file; without a format, `skipped` or `problem` has the reason, or it is empty."""

    format: str | None = None
    compression: str | None = None
    encoding: str | None = None
    """Encoding of text that is not UTF-8."""
    skipped: str | None = None
    problem: str | None = None


def sniff(
    url: str, path: str, stated: str | None, encoding: str | None = None, *, member: Member | None = None
) -> Sniffed:
    """Detect compression and format of a file.

    Parameters
    ----------
    url
        Local path or fsspec URL.
    path
        The file's name and the folders before it.
    stated
        The format that the manifest states, if it does.
    encoding
        The encoding that the manifest states for text without a byte-order mark, if it does.
    member
        The file in the archive at `url`, if it is in one.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    name = path.rsplit("/", 1)[-1]
    if stated is None and _NOT_DATA_NAMES.fullmatch(name):
        return Sniffed(skipped="documentation, code or a picture by its name, not data")
    inner = without_compression(name)
    by_suffix = split_suffix(inner)[1]
    hint = None if by_suffix is None else by_suffix.name
    compression = None
    head = _head(Input(url, None, head_bytes=HEAD_BYTES, member=member))
    if not head and (member is None or not member.size):
        return Sniffed()
    for _ in range(_MAX_COMPRESSIONS):
        if (outer := next((MAGIC[magic] for magic in MAGIC if head.startswith(magic)), None)) is None:
            break
        compression = f"{outer}.{compression}" if compression else outer
        head = _head(Input(url, compression, head_bytes=HEAD_BYTES, member=member))
    for magic, other in _OTHER_COMPRESSION.items():
        if head.startswith(magic):
            return Sniffed(problem=f"compressed with {other}, which is not read; compress it with gzip or zstd instead")
    if member is not None and head[257:262] == b"ustar":
        return Sniffed(problem=_INNER_ARCHIVE)
    if head.startswith(b"PK\x03\x04"):
        return Sniffed(problem=_INNER_ARCHIVE if member or compression else "a zip archive without a file")
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return Sniffed(
            problem="a Git LFS pointer in place of the data; run `git lfs pull`, or download the file itself"
        )
    if hint is not None and re.match(rb"\s*<(!doctype\s+html|html)\b", head, re.IGNORECASE):
        return Sniffed(problem="a web page in place of the data, perhaps a failed download; download the file again")
    if not head:
        # Nothing could be decompressed: reading the file reports why, whatever the format.
        return Sniffed(stated or hint or "jsonl", compression)
    if b"\n" not in head and len(head) >= HEAD_BYTES:
        head = _head(Input(url, compression, head_bytes=_LONG_LINE_BYTES, member=member))
    found = _by_magic(head)
    if found is not None and stated in (None, found):
        return Sniffed(found, compression)
    encoding = marked_encoding(head) or encoding
    if encoding is None and (wide := wide_encoding(head[:4096])) is not None:
        problem = f"text in {wide} without a byte-order mark; state `encoding: {wide}` in the source"
        return Sniffed(compression=compression, problem=problem)
    if encoding is None and (shifted := shifted_encoding(head)) is not None:
        problem = f"text in {shifted}, which is not UTF-8; state `encoding: {shifted}` in the source"
        return Sniffed(compression=compression, problem=problem)
    if encoding is not None and codecs.lookup(encoding).name in ("utf-8", "ascii"):
        encoding = None
    if encoding is not None and marked_encoding(head) is None and _is_surely_utf8(head):
        problem = f"the text is UTF-8, but the source states `encoding: {encoding}`; make it a source without"
        return Sniffed(compression=compression, problem=problem)
    if encoding is not None:
        head = b"".join(to_utf8(iter([head]), encoding))
    found = stated or _detect(head, hint)
    if found is not None:
        return Sniffed(found, compression, encoding)
    if b"\0" in head[:4096]:
        return Sniffed(skipped="binary content of no known format")
    kind = "a list of labels" if _LABEL_LIST_NAMES.fullmatch(inner) else "plain text"
    return Sniffed(skipped=f"{kind}: neither JSON, CSV nor a YAML list (`format: text` reads plain text)")


def _is_surely_utf8(head: bytes) -> bool:
    """Whether the begin of a text has characters beyond ASCII, all as UTF-8 writes them."""
    foreign = re.findall(rb"[\xc2-\xf4][\x80-\xbf]{1,3}", head)
    return len(foreign) >= _SURE_CHARACTERS and is_utf8(head[: len(head) - 3].rstrip(bytes(range(0x80, 0x100))))


def _by_magic(content: bytes) -> str | None:
    """Return the name of the binary format whose first bytes a file has."""
    for found in formats().values():
        if any(content[offset : offset + len(magic)] == magic for offset, magic in found.magic):
            return found.name
    return None


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
    text = content.decode("utf-8", "replace").lstrip("\ufeff")
    lines = [line for line in text.split("\n" if "\n" in text else "\r") if line.strip()]
    if not lines:
        return hint
    head = Head(text=text, lines=lines, suffix_format=hint)
    claiming = (found.name for found in formats().values() if found.claims(head))
    accepting = (found.name for found in formats().values() if found.accepts(head))
    return next(claiming, None) or hint or next(accepting, None)
