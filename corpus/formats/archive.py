"""Archives of data files: the members of a tar or zip file, each of which is read as a file.

    zip ───────────────────────────────┐
    tar of data files (not WebDataset) ┴─▶ list_members ─▶ Member, … ─▶ member_chunks

Nothing is written to a path that an archive names. A tar of WebDataset samples is a format (`webdataset.py`), no
archive of data files.
"""

import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from lzma import LZMAError
from typing import Any, BinaryIO, cast

from corpus.formats.base import BrokenFileError, Limits
from corpus.formats.stream import CHUNK_BYTES, ForwardFile, Input, Member, check_ratio
from corpus.storage import StorageError
from corpus.storage.connect import open_file

MAX_MEMBERS = 1000
"""Largest number of files in an archive; each is read by opening the archive again."""
MAX_MEMBERS_COMPRESSED = 100
"""The same for a compressed tar, which is decompressed up to each file's begin."""
_ALWAYS_ALLOWED_BYTES = 1 << 30
"""An archive, which is unpacked to the disk, may take this much of it, or `MAX_RATIO` times its own size."""
_PEEK_MEMBERS = 64
_PEEK_BYTES = 8 << 20
_PEEK_JSON_BYTES = 64 << 10
_DATA_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
_OTHER_SUFFIXES = (".md", ".rst", ".html", ".pdf", ".py", ".sh", ".md5", ".sha256", ".lock", ".license")
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, LZMAError, ValueError)
_UNPACK = "unpack it and name the folder"
TAR_ERRORS = (tarfile.TarError, ValueError, OSError, RecursionError)
"""What tarfile raises for damaged bytes; it recurses for each header that describes the next one."""


def tar_fault(error: Exception) -> str:
    """Return what is wrong with a tar, as a phrase."""
    reason = "thousands of headers for one file" if isinstance(error, RecursionError) else str(error)
    return f"not a complete tar file: {reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A member of an archive, and the reason why it cannot be read, if there is one."""

    member: Member
    problem: str | None = None


def is_zip(head: bytes) -> bool:
    """Whether a file begins as a zip archive."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def list_members(url: str, kind: str, compression: str | None, size: int, limits: Limits) -> list[Listed]:
    """List the files of an archive, folders excepted.

    Parameters
    ----------
    url
        Local path or fsspec URL of the archive.
    kind
        "zip", or "tar" for an uncompressed tar.
    compression
        Compression of the original of an uncompressed tar.
    size
        Size of the archive in bytes.

    Raises
    ------
    BrokenFileError
        The archive is damaged, or has too many files, or unpacks to too many bytes.
    """
    found = list(_zip_members(url) if kind == "zip" else _tar_members(url, limits))
    largest = MAX_MEMBERS if compression is None else MAX_MEMBERS_COMPRESSED
    if len(found) > largest:
        raise BrokenFileError("the archive", f"holds {len(found):,} files; at most {largest:,} are read: {_UNPACK}")
    check_ratio(sum(item.member.size for item in found), size, _ALWAYS_ALLOWED_BYTES, "the archive", _UNPACK)
    return found


def _zip_members(url: str) -> Iterator[Listed]:
    with open_file(url) as file:
        try:
            infos = zipfile.ZipFile(file).infolist()
        except _ZIP_ERRORS as error:
            detail = f"not a complete zip archive: {error}; download it again"
            raise BrokenFileError("the archive's directory", detail) from None
        for info in infos:
            if info.is_dir():
                continue
            problem = None
            if info.flag_bits & 1:
                problem = f"encrypted; {_UNPACK} (with its password)"
            elif info.compress_type not in _ZIP_METHODS:
                problem = f"compressed with zip's method {info.compress_type}, which is not read; {_UNPACK}"
            elif info.create_system == 3 and info.external_attr >> 16 and stat.S_ISLNK(info.external_attr >> 16):
                problem = "a link, which is not followed"
            yield _listed("zip", info.filename, info.header_offset, info.file_size, problem)


def _tar_members(url: str, limits: Limits) -> Iterator[Listed]:
    done = 0
    with open_file(url) as file:
        capped = _Capped(file, limits.max_row_bytes)
        try:
            size = file.seek(0, os.SEEK_END)
            begin: int | None = 0
            while begin is not None:  # several tars may be joined
                file.seek(begin)
                with tarfile.open(fileobj=cast(Any, capped), mode="r:") as tar:
                    while (info := tar.next()) is not None:
                        tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                        done += 1
                        if info.isdir():
                            continue
                        problem = None
                        if not info.isfile() or info.issparse():
                            problem = f"neither a plain file nor a folder, but a link, device or sparse file; {_UNPACK}"
                        yield _listed("tar", info.name, info.offset_data, info.size, problem)
                    if size < tar.offset + tarfile.BLOCKSIZE:
                        raise tarfile.ReadError("it ends without the mark of a tar's end")
                    begin = _next_tar(file, tar.offset)
                    if begin == tar.offset:
                        raise tarfile.ReadError("a damaged header")
        except TAR_ERRORS as error:
            if isinstance(error, StorageError):
                raise
            detail = f"{tar_fault(error)}; download it again"
            raise BrokenFileError(f"after member {done:,}", detail) from None


def _next_tar(file: BinaryIO, begin: int) -> int | None:
    """Return the place of the first block after `begin` that is not zero."""
    file.seek(begin)
    while block := file.read(tarfile.BLOCKSIZE):
        if block.strip(b"\0"):
            return begin
        begin += len(block)
    return None


def _listed(kind: str, name: str, offset: int, size: int, problem: str | None) -> Listed:
    steps = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in steps or (steps[0][1:2] == ":"):
        problem = "its name leads out of the archive; rename it"
    inside = "/".join(step for step in steps if step not in ("", ".", ".."))
    return Listed(member=Member(kind=kind, name=inside, offset=offset, size=size), problem=problem)


class _Capped:
    """A file of which no read is larger than a limit: a header may claim any size."""

    def __init__(self, file: BinaryIO, max_bytes: int):
        self._file = file
        self._max_bytes = max_bytes
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._max_bytes:
            raise tarfile.ReadError(f"a header claims {size:,} bytes; the limit is {self._max_bytes:,}")
        return self._file.read(size)


# Tar: samples or data files


def is_tar_of_files(url: str, compression: str | None, limits: Limits) -> bool:
    """Whether most of a tar's first members are data files of many rows; else its members are WebDataset samples."""
    data = others = 0
    stream: Any
    with suppress(*TAR_ERRORS, BrokenFileError), open_file(url) as file:
        if compression is None:
            stream = _Capped(file, limits.max_row_bytes)
        else:
            stream = ForwardFile(Input(url, compression, head_bytes=_PEEK_BYTES).chunks(), limits.max_row_bytes)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while data + others < _PEEK_MEMBERS and (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]
                name = info.name.rpartition("/")[2].lower()
                if not info.isfile() or name.startswith((".", "_")) or name.endswith(_OTHER_SUFFIXES):
                    continue
                stem = name.removesuffix(".gz").removesuffix(".zst")
                if "." not in name or name.startswith(("license", "readme")):
                    continue
                if stem.endswith(_DATA_SUFFIXES) or (
                    name.endswith(".json") and _has_many_rows(tar, info, compression is None)
                ):
                    data += 1
                else:
                    others += 1
    return data > others


def _has_many_rows(tar: tarfile.TarFile, info: tarfile.TarInfo, is_seekable: bool) -> bool:
    """Whether a `.json` member is a list, JSON Lines, or an object with a list of rows, and so no sample."""
    from corpus.formats.json_file import read

    file = tar.extractfile(info)
    if file is None or info.size == 0:
        return False
    if not is_seekable and info.size > _PEEK_JSON_BYTES:
        return True  # a sample of this size is rare, and reading it would lose the place of the next header
    content = file.read(_PEEK_JSON_BYTES)
    if content.lstrip()[:1] == b"[":
        return True
    if info.size > _PEEK_JSON_BYTES:
        return info.size > 16 * _PEEK_JSON_BYTES
    lines = [line for line in content.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in lines[:2]):
        return True
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(content)
        copy.flush()
        with suppress(BrokenFileError):
            return bool(read(Input(copy.name, None), Limits()).context)
    return False


@contextmanager
def decompressed(url: str, compression: str | None, size: int, limits: Limits) -> Iterator[str]:
    """Yield the location of a tar without its compression: its own, or that of a temporary copy."""
    if compression is None:
        yield url
        return
    with tempfile.NamedTemporaryFile() as copy:
        try:
            for chunk in Input(url, compression).chunks():
                copy.write(chunk)
                check_ratio(copy.tell(), size, _ALWAYS_ALLOWED_BYTES, "the archive", _UNPACK)
                if copy.tell() > limits.max_spool_bytes:
                    detail = f"unpacks to more than {limits.max_spool_bytes:,} bytes; {_UNPACK}"
                    raise BrokenFileError("the archive", detail)
            copy.flush()
        except StorageError:
            raise
        except OSError as error:
            where = f"{tempfile.gettempdir()} (TMPDIR names another)"
            raise StorageError(f"an archive cannot be decompressed to {where}: {error.strerror}") from None
        yield copy.name


# Content


def member_chunks(url: str, member: Member) -> Iterator[bytes]:
    """Yield the bytes of a member, in chunks.

    Raises
    ------
    BrokenFileError
        The archive is damaged or ends early; the bytes before the damage are yielded first.
    """
    chunks = _zip_chunks(url, member) if member.kind == "zip" else _tar_chunks(url, member)
    left = member.size
    for chunk in chunks:
        yield chunk
        left -= len(chunk)
    if left:
        raise BrokenFileError(f"byte {member.size - left:,}", f"the archive ends {left:,} bytes before the file's end")


def _tar_chunks(url: str, member: Member) -> Iterator[bytes]:
    left = member.size
    if member.compression is None:
        with open_file(url) as file:
            file.seek(member.offset)
            while left and (chunk := file.read(min(left, CHUNK_BYTES))):
                yield chunk
                left -= len(chunk)
        return
    before = member.offset
    for chunk in Input(url, member.compression).chunks():
        chunk, before = chunk[before:], max(0, before - len(chunk))
        if chunk[:left]:
            yield chunk[:left]
        left -= min(left, len(chunk))
        if not left:
            return


def _zip_chunks(url: str, member: Member) -> Iterator[bytes]:
    done = 0
    try:
        with open_file(url) as file, zipfile.ZipFile(file) as archive:
            info = next(item for item in archive.infolist() if item.header_offset == member.offset)
            with archive.open(info) as content:
                while chunk := content.read(CHUNK_BYTES):
                    yield chunk
                    done += len(chunk)
    except (*_ZIP_ERRORS, OSError) as error:
        if isinstance(error, OSError) and (isinstance(error, StorageError) or error.errno is not None):
            raise
        detail = f"the zip archive is damaged: {error}; download it again"
        raise BrokenFileError(f"byte {done:,}", detail) from None


def of_compressed(member: Member, compression: str | None) -> Member:
    """Return a member of an uncompressed tar as that of the compressed original."""
    return replace(member, compression=compression)
