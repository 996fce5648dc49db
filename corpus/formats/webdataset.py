"""WebDataset tar: files whose names agree up to the first dot are one row, with a field for each file.

    tar members, in order ─▶ webdataset's grouping ─▶ row

`0001.instruction.txt` and `0001.response.txt` give the fields `instruction` and
`response`; the fields of `0001.json` become the row's. Members are read as text
or JSON only, whatever their suffix, and never written to disk.
"""

import tarfile
from collections.abc import Iterator
from typing import Any, cast

from corpus.formats.base import BrokenFileError, Format, Limits, Row, RowError, Rows, shorten
from corpus.formats.stream import ForwardFile, Input
from corpus.formats.strict_json import parse_bytes
from corpus.outcome import Outcome
from corpus.storage import StorageError

_TEXT_SUFFIXES = frozenset({"txt", "text", "md", "cls", "json", ""})
_OVERSIZE = object()
"""Placeholder for the content of a member that makes its sample too large."""


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a WebDataset tar; positions are sample numbers from 1."""
    return Rows("sample", _rows(source, limits), {})


def _rows(source: Input, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    # Imported here because it imports torch.
    from webdataset.tariterators import group_by_keys

    twice: dict[str, str] = {}

    def remember(error: Exception) -> bool:
        """webdataset calls this for a member whose name occurs twice in its sample, and continues."""
        twice[_sample_name(members.name)] = members.name
        return True

    members = _Members(source, limits)
    for number, sample in enumerate(group_by_keys(members, handler=remember), start=1):
        key = sample.pop("__key__")
        try:
            if key in twice:
                raise RowError(Outcome.DUPLICATE_KEY, f"the member {shorten(twice.pop(key))} occurs twice")
            yield number, _row(sample, limits)
        except RowError as error:
            yield number, error


class _Members:
    """Regular files of a tar in the form that webdataset groups; one is in memory at a time."""

    def __init__(self, source: Input, limits: Limits):
        self._source = source
        self._limits = limits
        self.name = ""
        """Name of the current member; empty when there is none."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        stream = ForwardFile(self._source.chunks(), self._limits.max_row_bytes)
        done = 0
        last_sample = None
        held = 0  # bytes of the current sample
        try:
            with tarfile.open(fileobj=cast(Any, stream), mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                    if not member.isfile():
                        continue
                    self.name = member.name
                    held = member.size + (held if _sample_name(member.name) == last_sample else 0)
                    content = _OVERSIZE if held > self._limits.max_row_bytes else _content(tar, member)
                    yield {"fname": member.name, "data": content, "__url__": ""}
                    last_sample = _sample_name(member.name)
                    done += 1
                # tarfile takes a truncated or missing header for the end of the archive.
                self.name = ""
                if stream.tell() < tar.offset + tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("it ends without the mark of a tar's end")
        except (tarfile.TarError, ValueError, OSError, BrokenFileError) as error:
            if isinstance(error, StorageError):
                raise
            if _sample_name(self.name) != last_sample:
                yield {}  # the previous sample is complete: this makes webdataset yield it
            detail = error.detail if isinstance(error, BrokenFileError) else f"not a complete tar file: {error}"
            raise BrokenFileError(f"after member {done:,}", detail) from None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def _sample_name(member: str) -> str:
    """Return the path up to the first dot of the file name, as webdataset does."""
    folder, slash, name = member.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _row(sample: dict[str, Any], limits: Limits) -> Row:
    row: Row = {}
    for extension, content in sample.items():
        name, _, suffix = extension.rpartition(".")
        if extension.startswith("__"):
            continue
        if content is _OVERSIZE:
            raise RowError(Outcome.TOO_LARGE, f"a sample of more than {limits.max_row_bytes:,} bytes, at {extension}")
        if suffix == "json":
            fields = parse_bytes(content, limits)
            fields = {name: fields} if name else fields
        elif suffix in _TEXT_SUFFIXES or not name:
            fields = {name or extension: _text(content, extension, is_text=suffix in _TEXT_SUFFIXES)}
        else:
            fields = {extension: _text(content, extension, is_text=False)}
        for field, value in fields.items():
            if field in row:
                raise RowError(Outcome.DUPLICATE_KEY, f"the field {shorten(field)} is in two members")
            row[field] = value
    return row


def _text(content: bytes, extension: str, *, is_text: bool) -> str | None:
    """Decode content as text; None for a binary member, such as an image."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if is_text:
            raise RowError(Outcome.INVALID_UNICODE, f"byte {error.start} of {extension} is not UTF-8") from None
        return None


WEBDATASET = Format(name="webdataset", suffixes=(".tar",), read=read, magic=((257, b"ustar"),))
