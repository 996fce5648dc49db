"""WebDataset tar: files whose names agree up to the first dot are one row, with a field for each file.

    tar members, in order ─▶ webdataset's grouping ─▶ row

`0001.instruction.txt` and `0001.response.txt` give the fields `instruction` and
`response`; the fields of `0001.json` become the row's. Members are read as text
or JSON only, whatever their suffix, and never written to disk. Members without a
suffix, and hidden ones such as the `._0001.json` of macOS, are skipped and counted.
"""

import re
import tarfile
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, cast

from corpus.formats.archive import TAR_ERRORS, tar_fault
from corpus.formats.base import BrokenFileError, Format, Limits, Row, RowError, Rows, shorten
from corpus.formats.stream import ForwardFile, Input
from corpus.formats.strict_json import parse_bytes
from corpus.formats.tally import SKIPPED, Tally
from corpus.outcome import Outcome
from corpus.storage import StorageError

_TEXT_SUFFIXES = frozenset({"txt", "text", "md", "cls", "json", ""})
_MAX_KEYS = 200_000
"""Number of sample keys that are remembered, to recognise samples whose members are not side by side."""
_MAX_HEADERS = 5_000
_MANY = 8
_APART = (
    "the members of this sample are not side by side in the tar, so that each group is a row that lacks the others; "
    "pack the files again, sorted by name (tar --sort=name)"
)
_OVERSIZE = object()
"""Placeholder for the content of a member that makes its sample too large."""


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a WebDataset tar; positions are sample numbers from 1."""
    tally = Tally(source.chunks())
    return Rows("sample", _rows(source, limits, tally), {}, tally=tally)


def _rows(source: Input, limits: Limits, tally: Tally) -> Iterator[tuple[int, Row | RowError]]:
    # Imported here because it imports torch.
    from webdataset.tariterators import group_by_keys

    twice: dict[str, str] = {}

    def remember(error: Exception) -> bool:
        """webdataset calls this for a member whose name occurs twice in its sample, and continues."""
        twice[_sample_name(members.name)] = members.name
        return True

    members = _Members(tally, limits)
    apart = _keys_apart(source)
    seen: set[int] = set()
    for number, sample in enumerate(group_by_keys(members, handler=remember), start=1):
        key = sample.pop("__key__")
        try:
            place = hash((members.tar_of(key), key))
            if key in apart or place in seen:
                raise RowError(Outcome.NOT_A_RECORD, f"{shorten(key)}: {_APART}")
            if len(seen) < _MAX_KEYS:
                seen.add(place)
            if key in twice:
                raise RowError(Outcome.DUPLICATE_KEY, f"the member {shorten(twice.pop(key))} occurs twice")
            _check_key(key, [name for name in sample if not name.startswith("__")])
            row: Row | RowError = _row(sample, limits)
        except RowError as error:
            row = error
        members.book(key, row)
        yield number, row
    members.book(None, None)
    tally.skip(tally.read - tally.booked)
    for kind, count in members.skipped.items():
        tally.note(f"{count:,} {kind} skipped, such as {shorten(members.examples[kind])}")


def _keys_apart(source: Input) -> set[str]:
    """Return the keys that recur after members of other samples, among the first headers of a local tar."""
    if source.compression is not None or source.member is not None or "://" in source.url:
        return set()
    seen: set[str] = set()
    apart: set[str] = set()
    last = None
    try:
        with tarfile.open(source.url, mode="r:") as tar:
            for _ in range(_MAX_HEADERS):
                if (member := tar.next()) is None:
                    break
                tar.members = []  # type: ignore[attr-defined]
                key = _sample_name(member.name)
                if not member.isfile() or _reason_to_skip(member) or key == last:
                    continue
                if key in seen:
                    apart.add(key)
                seen.add(key)
                last = key
    except TAR_ERRORS:
        pass  # reading the members reports it
    return apart


def _check_key(key: str, members: list[str]) -> None:
    """Raise `RowError` for a sample that is several, because their keys have a dot."""
    names = list(dict.fromkeys(re.sub(r"\.(txt|text|json|md|cls)$", "", member) for member in members))
    numbered = Counter(re.sub(r"\d+$", "#", name) for name in names)
    fields = Counter(name.rpartition(".")[2] for name in names if "." in name)
    numbered_fields = Counter(
        (re.sub(r"\d+", "#", before), field) for before, dot, field in (name.rpartition(".") for name in names) if dot
    )
    is_several = (
        any(count > 1 and (name == "#" or name.endswith(".#")) for name, count in numbered.items())
        or any(count >= _MANY and name.endswith("#") for name, count in numbered.items())
        or any(count > 1 and "#" in before for (before, _), count in numbered_fields.items())
        or any(count > 2 for count in fields.values())
    )
    if is_several:
        file = key.rpartition("/")[2]
        first, last = f"{file}.{members[0]}", f"{file}.{members[-1]}"
        before, dot, field = names[0].rpartition(".")
        suffix = members[0].removeprefix(names[0])
        good = f"{file}-{(before or field).replace('.', '-')}{dot}{field if dot else ''}{suffix}"
        raise RowError(
            Outcome.NOT_A_RECORD,
            f"the {len(members):,} members from {shorten(first)} to {shorten(last)} are one sample, since WebDataset's "
            f"key ends at the first dot of a file's name; if they are several, rename them so that their keys have no "
            f"dot, as in {shorten(good)}",
        )


class _Members:
    """Regular files of a tar in the form that webdataset groups; one is in memory at a time."""

    def __init__(self, tally: Tally, limits: Limits):
        self._tally = tally
        self._limits = limits
        self._unbooked: deque[tuple[str | None, int, int, int]] = deque()
        """Key (None for a member that is skipped), bytes of header and padding, bytes of content, number of the tar."""
        self.name = ""
        """Name of the current member; empty when there is none."""
        self.skipped: Counter[str] = Counter()
        """Kinds of members that were skipped."""
        self.examples: dict[str, str] = {}

    def tar_of(self, key: str) -> int:
        """Return the number of the tar, of several that are joined, that has the next sample `key`."""
        return next((tar for of, _, _, tar in self._unbooked if of == key), 0)

    def book(self, key: str | None, row: Row | RowError | None) -> None:
        """Book the members up to the end of the sample `key`, which is `row`; or all that are left."""
        while self._unbooked and (key is None or self._unbooked[0][0] in (key, None)):
            of, before, size, _ = self._unbooked.popleft()
            self._tally.skip(before)
            if of is None or row is None:
                self._tally.lose(size, SKIPPED)
            elif isinstance(row, RowError):
                self._tally.lose(size, row.reason)
            else:
                self._tally.row(size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        stream = ForwardFile(self._tally.chunks(), self._limits.max_row_bytes)
        done = 0
        last_sample = None
        held = 0  # bytes of the current sample
        end = 0  # of the content of the last member
        tars = 0
        try:
            while stream.skip_zeros() or not end:  # several tars may be joined
                with tarfile.open(fileobj=cast(Any, stream), mode="r:") as tar:
                    while (member := tar.next()) is not None:
                        tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                        if member.isdir():
                            continue
                        reason = _reason_to_skip(member)
                        key = None if reason else _sample_name(member.name)
                        size = member.size if member.isfile() else 0
                        if reason is not None:
                            self.skipped[reason] += 1
                            self.examples.setdefault(reason, member.name)
                            if stream.seek(member.offset_data + size) < member.offset_data + size:
                                raise tarfile.ReadError("unexpected end of data")
                        else:
                            self.name = member.name
                            held = size + (held if key == last_sample else 0)
                            content = _OVERSIZE if held > self._limits.max_row_bytes else _content(tar, member)
                        self._unbooked.append((key, member.offset_data - end, size, tars))
                        end = member.offset_data + size
                        if reason is None:
                            yield {"fname": member.name, "data": content, "__url__": ""}
                            last_sample = key
                            done += 1
                    # tarfile takes a truncated, damaged or missing header for the end of the archive.
                    self.name = ""
                    if stream.tell() < tar.offset + tarfile.BLOCKSIZE:
                        raise tarfile.ReadError("it ends without the mark of a tar's end")
                    if stream.last_read.strip(b"\0"):
                        raise tarfile.ReadError("a damaged header")
                    end = end or stream.tell()
                    tars += 1
        except (BrokenFileError, *TAR_ERRORS) as error:
            if isinstance(error, StorageError):
                raise
            if _sample_name(self.name) != last_sample:
                yield {}  # the previous sample is complete: this makes webdataset yield it
            detail = error.detail if isinstance(error, BrokenFileError) else tar_fault(error)
            raise BrokenFileError(f"after member {done:,}", detail) from None


def _reason_to_skip(member: tarfile.TarInfo) -> str | None:
    """Return the kind of a member that belongs to no sample."""
    name = member.name.rpartition("/")[2]
    if not member.isfile():
        return "links or devices"
    if name.startswith(".") or member.name.startswith("__MACOSX/"):
        return "hidden members"
    return None if "." in name else "members without a suffix"


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
