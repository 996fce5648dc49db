"""Byte streams: the content of a local, remote or generated file in chunks, decompressed.

    storage.open_file ─▶ gzip / zstd frames ─▶ chunks of about 1 MiB ─▶ lines, or a file that is read forward

No more than a few chunks are in memory. A truncated or damaged stream yields every byte before the damage, then raises
`BrokenFileError`.
"""

import io
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import zstandard

from corpus.formats.base import BrokenFileError, Layout, Limits, shorten
from corpus.formats.encoding import to_utf8
from corpus.storage import StorageError
from corpus.storage.connect import open_file
from corpus.storage.redact import redact

if TYPE_CHECKING:
    from corpus.formats.ranges import ByteRange

CHUNK_BYTES = 1 << 20
_ZSTD_INPUT_BYTES = 2 << 10
"""A zstd block of 4 bytes can expand to 128 KiB, so one piece of this size yields at most 64 MiB."""
_GZIP_INPUT_BYTES = 64 << 10
_GENERATED_LINES = 32
_ANY_LAYOUT = Layout()

MAX_WINDOW_BYTES = 1 << 31
"""Largest window of a zstd frame (`zstd --long=31`), which is the memory that decompressing it may take."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
"""First bytes of zstd frames without content, with which some tools begin a file."""
_ZSTD_HEADER_BYTES = 8
MAX_RATIO = 200
ALWAYS_ALLOWED_BYTES = 8 << 30
"""A compressed file may unpack to this size, or to `MAX_RATIO` times its own."""

MAGIC = {b"\x1f\x8b": "gz", _ZSTD_MAGIC: "zst", **dict.fromkeys(_SKIPPABLE, "zst")}
"""First bytes of a compressed file to its compression."""
_COMPRESSION_SUFFIX = re.compile(r"(?:\.(?:gz|gzip|zst|zstd))+$", re.IGNORECASE)


def without_compression(path: str) -> str:
    """Return a path without the suffixes of its compressions."""
    return _COMPRESSION_SUFFIX.sub("", path) or path


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in an archive, which `corpus.formats.archive` reads."""

    kind: str
    """"tar" or "zip"."""
    name: str
    offset: int
    """Of the content in the decompressed tar, or of the file's header in the zip."""
    size: int
    compression: str | None = None
    """Compression of the tar."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file to read, once or several times, from its start."""

    url: str
    """Local path, fsspec URL, or generator:// URL."""
    compression: str | None
    """None, "gz" or "zst"; for a file that is compressed several times, as in "gz.zst", the outermost is last."""
    head_bytes: int | None = None
    """Number of decompressed bytes after which the content ends; None: all of it."""
    encoding: str | None = None
    """Encoding of a text file, whose chunks are then converted to UTF-8; None: UTF-8."""
    layout: Layout = _ANY_LAYOUT
    """What the manifest states about the content."""
    member: Member | None = None
    """The file in the archive at `url`; None: the file at `url` itself."""
    span: "ByteRange | None" = None
    """The bytes to read of a file that is neither compressed nor in an archive; None: all."""

    def chunks(self) -> Iterator[bytes]:
        """Decompressed content in chunks of any size above 0.

        Raises
        ------
        BrokenFileError
            The compressed stream is truncated or damaged; the bytes before the damage are yielded first.
        OSError
            The file or its store cannot be read.
        """
        chunks = self._all_chunks()
        if self.encoding is not None:
            chunks = to_utf8(chunks, self.encoding)
        return chunks if self.head_bytes is None else _first(chunks, self.head_bytes)

    def _all_chunks(self) -> Iterator[bytes]:
        if self.url.startswith("generator://"):
            return _generated(self.url)
        chunks = _raw_chunks(self.url, self.span) if self.member is None else _member_chunks(self.url, self.member)
        if self.compression is None:
            return chunks
        packed = _Counted(chunks)
        chunks = iter(packed)
        for compression in reversed(self.compression.split(".")):
            chunks = _gunzip(chunks) if compression == "gz" else _unzstd(chunks)
        return _checked(chunks, packed)

    def whole(self) -> "Input":
        """Return the same file without `head_bytes`."""
        return replace(self, head_bytes=None)

    def seekable(self, limits: Limits) -> BinaryIO:
        """Open the decompressed content with random access; a compressed file is decompressed to a temporary file."""
        if self.compression is None and self.member is None:
            return cast(BinaryIO, _SizedFile(open_file(self.url)))
        spool = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
        for chunk in self.chunks():
            if spool.tell() + len(chunk) > limits.max_spool_bytes:
                raise BrokenFileError("the start", f"decompresses to more than {limits.max_spool_bytes:,} bytes")
            try:
                spool.write(chunk)
                spool.flush()
            except OSError as error:  # a fault of this machine, not of the file
                where = f"{tempfile.gettempdir()} (TMPDIR names another)"
                detail = f"cannot be decompressed to the folder {where}: {error.strerror}"
                raise StorageError(f"{redact(self.url)} {detail}") from None
        return cast(BinaryIO, _SizedFile(spool))


class _SizedFile:
    """A file with random access whose reads ask for no more than is left, since Python allocates what is asked for.

    Parameters
    ----------
    file
        Is moved to its start.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; below 0: all that are left."""
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(min(size, left) if size >= 0 else left)


def read_raw_head(url: str, size: int) -> bytes:
    """Read the first `size` bytes without decompressing them."""
    with open_file(url) as file:
        return file.read(size)


def _first(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def _raw_chunks(url: str, span: "ByteRange | None") -> Iterator[bytes]:
    with open_file(url) as file:
        if span is None:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            return
        file.seek(span.begin)
        left = span.size
        while chunk := file.read(min(CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk


def _member_chunks(url: str, member: Member) -> Iterator[bytes]:
    from corpus.formats.archive import member_chunks  # which imports this module

    return member_chunks(url, member)


def _generated(url: str) -> Iterator[bytes]:
    from corpus.generators import open_generator

    parts = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(parts.query, strict_parsing=True).items()}
    lines = open_generator(
        parts.netloc,
        rows=int(query["rows"]),
        seed=int(query["seed"]),
        split="heldout" if query["split"] == "heldout" else "train",
        start=int(query["start"]),
    )
    while batch := b"".join(islice(lines, _GENERATED_LINES)):
        yield batch


class _Counted:
    """Chunks that count their bytes."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            yield chunk


def _checked(unpacked: Iterator[bytes], packed: _Counted) -> Iterator[bytes]:
    """Yield decompressed chunks as long as a compressed file may unpack to them, see `check_ratio`."""
    size = 0
    for chunk in unpacked:
        size += len(chunk)
        check_ratio(size, packed.size, ALWAYS_ALLOWED_BYTES, f"compressed byte {packed.size:,}", "decompress it")
        yield chunk


def check_ratio(unpacked: int, packed: int, allowed: int, position: str, remedy: str) -> None:
    """Raise `BrokenFileError` when more than `allowed` bytes come out of so few that it is probably an attack."""
    if unpacked > max(allowed, MAX_RATIO * packed):
        detail = f"unpacks to {unpacked:,} bytes or more from {packed:,}; at most {MAX_RATIO} times as many are read"
        raise BrokenFileError(position, f"{detail}: {remedy} if it is not an attack on your disk")


def _gunzip(raw: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress all members of a gzip file; zero bytes after the last one are padding."""
    inflate = None
    read = 0
    for piece in _pieces(raw, _GZIP_INPUT_BYTES):
        read += len(piece)
        while piece:
            if inflate is None:
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                inflate = zlib.decompressobj(wbits=31)
            before = inflate.copy()
            try:
                data = inflate.decompress(piece, CHUNK_BYTES)
            except zlib.error as error:
                where = read - len(piece)
                for data in _before_damage(before, piece):
                    where += 1
                    if data:
                        yield data
                detail = f"the gzip stream is damaged: {error}"
                raise BrokenFileError(f"compressed byte {where:,}", detail) from None
            if data:
                yield data
            if inflate.eof:
                piece, inflate = inflate.unused_data, None
            else:
                piece = inflate.unconsumed_tail
    if inflate is not None:
        raise BrokenFileError(f"compressed byte {read:,}", "the gzip stream ends early: the file is cut off")


def _pieces(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for begin in range(0, len(chunk), size):
            yield chunk[begin : begin + size]


def _before_damage(inflate: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    """Decompress a damaged piece byte by byte up to the damage; a call of zlib that fails returns nothing."""
    for index in range(len(piece)):
        try:
            yield inflate.decompress(piece[index : index + 1])
        except zlib.error:
            return


def _unzstd(raw: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress all frames of a zstd file; skippable frames have no content."""
    frame = None
    header = b""  # of the next frame, as far as it has been read
    skip = 0  # bytes to the end of a skippable frame
    read = 0
    window = 0
    for piece in _pieces(raw, _ZSTD_INPUT_BYTES):
        read += len(piece)
        while piece:
            if skip:
                piece, skip = piece[skip:], max(0, skip - len(piece))
                continue
            if frame is None:
                piece, header = header + piece, b""
                if len(piece) < _ZSTD_HEADER_BYTES:
                    header = piece
                    break
                if piece.startswith(_SKIPPABLE):
                    skip = int.from_bytes(piece[4:8], "little")
                    piece = piece[8:]
                    continue
                window = _window(piece)
                if window > MAX_WINDOW_BYTES:
                    detail = (
                        f"a zstd frame with a window of {window:,} bytes; at most {MAX_WINDOW_BYTES:,} are held in "
                        "memory: compress the file again, with --long=31 or less"
                    )
                    raise BrokenFileError(f"compressed byte {read - len(piece):,}", detail)
                frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
            try:
                data = frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise BrokenFileError(f"compressed byte {read - len(piece):,}", _zstd_detail(error, window)) from None
            if data:
                yield data
            piece = b""
            if frame.eof:
                piece, frame = frame.unused_data, None
    if header and not any(magic.startswith(header[:4]) for magic in (_ZSTD_MAGIC, *_SKIPPABLE)):
        detail = f"the zstd stream is damaged: found {shorten(header)} behind a frame; expected another or the end"
        raise BrokenFileError(f"compressed byte {read - len(header):,}", detail)
    if frame is not None or skip or header:
        raise BrokenFileError(f"compressed byte {read:,}", "the zstd stream ends early: the file is cut off")


def _window(header: bytes) -> int:
    """Return the window size that a zstd frame's header states (RFC 8878, 3.1.1.1.2); 0 where it states none."""
    if not header.startswith(_ZSTD_MAGIC) or header[4] & 0x20:
        return 0
    base = 1 << (10 + (header[5] >> 3))
    return base + base // 8 * (header[5] & 7)


def _zstd_detail(error: Exception, window: int) -> str:
    text = str(error).lower()
    if "memory" in text:
        return f"no memory for a zstd frame with a window of {window:,} bytes; run fewer workers, or compress it again"
    if "dictionary" in text:
        return "compressed with a zstd dictionary, which is not read; decompress it with that dictionary first"
    return f"the zstd stream is damaged: {error}"


class Line(NamedTuple):
    """A line of a stream."""

    content: bytes | None
    """Without its end; None for a line above the limit."""
    size: int
    """Bytes of the line and its end."""


def split_lines(chunks: Iterator[bytes], max_bytes: int, end: bytes = b"\n") -> Iterator[tuple[bytes | None, int]]:
    r"""Yield content and size of the lines of a stream, as in `Line`; `end`, `\n` or `\r`, is the only line end.

    Of a truncated stream the last, incomplete line is not yielded.
    """
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *others = chunk.split(end)
        size += len(first)
        if size <= max_bytes:
            held.append(first)
        else:
            held.clear()
        if not others:
            continue
        yield b"".join(held) if size <= max_bytes else None, size + 1
        last = others.pop()
        for line in others:
            yield line if len(line) <= max_bytes else None, len(line) + 1
        size = len(last)
        held = [last] if size <= max_bytes else []
    if size:
        yield b"".join(held) if size <= max_bytes else None, size


def whole_lines(chunks: Iterator[bytes], max_bytes: int) -> Iterator[tuple[bytes | None, int]]:
    """Yield the lines of a stream, many at a time, and their size; for a line above the limit None, and its size.

    All lines end in a line feed but the last one of the stream, which may have none and then comes alone. A line that
    is in one piece may be above the limit.
    """
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            size += len(chunk)
            if size <= max_bytes:
                held.append(chunk)
            else:
                held.clear()
            continue
        begin = 0
        if size > max_bytes:
            begin = chunk.find(b"\n") + 1
            yield None, size + begin
            held.clear()
        if begin < cut:
            lines = b"".join([*held, memoryview(chunk)[begin:cut]])
            yield lines, len(lines)
        held, size = [chunk[cut:]], len(chunk) - cut
    if size:
        yield b"".join(held) if size <= max_bytes else None, size


def read_lines(chunks: Iterator[bytes], max_bytes: int, end: bytes = b"\n") -> Iterator[Line]:
    """Yield what `split_lines` yields as objects."""
    return map(Line._make, split_lines(chunks, max_bytes, end))


def find_line_end(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    r"""Return the line end of a text, `\r` if its begin has carriage returns and no `\n`, and the whole stream."""
    first = next(chunks, b"")
    end = b"\r" if b"\r" in first.rstrip(b"\r") and b"\n" not in first else b"\n"
    return end, chain([first] if first else [], chunks)


class ForwardFile(io.RawIOBase):
    """A stream of chunks as a file that can be read and skipped forward.

    A single read above `max_bytes` raises `BrokenFileError`, since its result would have to fit into memory.
    """

    def __init__(self, chunks: Iterator[bytes], max_bytes: int):
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._chunk = b""
        self._at = 0
        """Offset in the chunk."""
        self._position = 0
        """Offset in the stream."""
        self.last_read = b""
        """Result of the last read."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._max_bytes:
            wanted = "all of the rest" if size < 0 else f"{size:,} bytes"
            raise BrokenFileError(
                f"byte {self._position:,}", f"asks for {wanted} in one piece; the limit is {self._max_bytes:,}"
            )
        pieces = []
        while size:
            if self._at == len(self._chunk):
                following = next(self._chunks, b"")
                if not following:
                    break
                self._chunk, self._at = following, 0
            piece = self._chunk[self._at : self._at + size]
            size -= len(piece)
            self._at += len(piece)
            self._position += len(piece)
            pieces.append(piece)
        self.last_read = b"".join(pieces)
        return self.last_read

    def skip_zeros(self) -> bool:
        """Skip zero bytes; return whether another byte follows."""
        while True:
            rest = self._chunk[self._at :].lstrip(b"\0")
            self._position += len(self._chunk) - self._at - len(rest)
            self._at = len(self._chunk) - len(rest)
            if rest:
                return True
            self._chunk, self._at = next(self._chunks, b""), 0
            if not self._chunk:
                return False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._position if whence == io.SEEK_CUR else 0)
        if target == self._position - 1 and self._at:  # tarfile reads the byte before a header to detect truncation
            self._at -= 1
            self._position -= 1
        if whence == io.SEEK_END or target < self._position:
            raise io.UnsupportedOperation("a stream can be skipped forward only")
        while self._position < target and self.read(min(target - self._position, self._max_bytes, CHUNK_BYTES)):
            pass
        return self._position
