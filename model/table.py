"""The table of contents of a checkpoint, `.metadata`: which tensors there are, and where each part of one is stored.

torch.distributed.checkpoint keeps it as a pickle. It is unpickled with nothing but the classes of such a table, and
checked whole before it is used: a part that is nowhere, or a place outside of its file, would be found in the middle
of loading, or not at all.
"""

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint.metadata as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo

MAX_BYTES = 256 * 2**20
"""Largest size of a table; one of 100,000 parts of tensors has a tenth of it."""
SUFFIX = ".distcp"
"""Of the files that hold tensors."""


class TableError(ValueError):
    """A table that cannot be used, as a phrase."""


def read_table(path: Path, sizes: Mapping[str, int] | None = None) -> dcp.Metadata:
    """Read and check a table of contents.

    Parameters
    ----------
    path
        The file.
    sizes
        Bytes of each file of the checkpoint; None: those in the folder of `path`.

    Raises
    ------
    TableError
        It is something else, or names other code, other files, or places outside of a file or tensor.
    OSError
        The file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise TableError(f"is larger than {MAX_BYTES:,} bytes")
    if sizes is None:
        sizes = {file.name: file.stat().st_size for file in path.parent.iterdir() if file.is_file()}
    try:
        with path.open("rb") as file:
            table = _TableUnpickler(file).load()
        _check(table, sizes)
    except (TableError, OSError):
        raise
    except Exception as error:  # what a damaged pickle leads to
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise TableError(f"is not a table of contents of torch.distributed.checkpoint ({reason})") from None
    return table


def _check(table: Any, sizes: Mapping[str, int]) -> None:
    if not isinstance(table, dcp.Metadata):
        raise TableError(f"holds {type(table).__name__}, expected the table of contents of a checkpoint")
    if not isinstance(table.state_dict_metadata, dict) or not isinstance(table.storage_data, dict):
        raise TableError("has no tensors or no places, expected both")
    places = set()
    for index, place in table.storage_data.items():
        if not isinstance(index, dcp.MetadataIndex) or not isinstance(place, _StorageInfo):
            raise TableError(f"has the place {str(place)[:80]!r}, expected a file, an offset and a length")
        _check_place(str(index.fqn), place, sizes)
        places.add((index.fqn, index.offset))
    for name, entry in table.state_dict_metadata.items():
        if not isinstance(entry, dcp.TensorStorageMetadata):
            raise TableError(f"lists {name}, which is not a tensor")
        _check_tensor(str(name), entry)
        for chunk in entry.chunks:
            if math.prod(chunk.sizes) and (name, torch.Size(chunk.offsets)) not in places:
                raise TableError(f"names no place of the part of {name} at {list(chunk.offsets)}")


def _check_place(name: str, place: _StorageInfo, sizes: Mapping[str, int]) -> None:
    file = place.relative_path
    if not isinstance(file, str) or Path(file).name != file or not file.endswith(SUFFIX):
        raise TableError(f"names the file {str(file)[:80]!r}, which is not a file of tensors inside of the checkpoint")
    if file not in sizes:
        raise TableError(f"names the file {file}, which the checkpoint lacks")
    if not _is_count(place.offset) or not _is_count(place.length) or place.offset + place.length > sizes[file]:
        raise TableError(
            f"has {name} at {place.offset!r} with {place.length!r} bytes, expected a place inside of the "
            f"{sizes[file]:,} bytes of {file}"
        )
    if place.transform_descriptors:
        raise TableError(f"has {name} transformed by {str(place.transform_descriptors)[:80]!r}, expected none")


def _check_tensor(name: str, entry: dcp.TensorStorageMetadata) -> None:
    if not isinstance(entry.properties, dcp.TensorProperties) or not isinstance(entry.properties.dtype, torch.dtype):
        raise TableError(f"has no type of {name}")
    if not isinstance(entry.size, torch.Size):
        raise TableError(f"has the size {str(entry.size)[:80]} of {name}, expected a shape")
    offsets, covered = set(), 0
    for chunk in entry.chunks:
        sides = list(zip(chunk.offsets, chunk.sizes, entry.size, strict=True))
        if any(not _is_count(begin) or not _is_count(size) or begin + size > whole for begin, size, whole in sides):
            raise TableError(
                f"has a part of {name} at {list(chunk.offsets)} of {list(chunk.sizes)}, expected one inside of "
                f"{list(entry.size)}"
            )
        if math.prod(chunk.sizes):
            offsets.add(tuple(chunk.offsets))
            covered += math.prod(chunk.sizes)
    whole = math.prod(entry.size)
    filled = [chunk for chunk in entry.chunks if math.prod(chunk.sizes)]
    if covered != whole or len(offsets) != len(filled):
        raise TableError(f"has parts of {name} with {covered:,} numbers, expected each of its {whole:,} once")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _memory_format(owner: Any, name: str) -> Any:
    """Return a memory format by name, in place of `getattr`, as which Python 3.11.0 to 3.11.3 pickle enum members."""
    if owner is not dcp._MEM_FORMAT_ENCODING or name not in owner.__members__:
        raise TableError(f"names the attribute {name}, which no checkpoint needs; do not use it")
    return owner[name]


class _TableUnpickler(pickle.Unpickler):
    """Unpickles a table of contents and refuses all classes that such a table does not use."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _memory_format
        allowed = (
            (module == dcp.__name__ and name in (*dcp.__all__, "_MEM_FORMAT_ENCODING"))
            or (module, name) == ("torch.distributed.checkpoint.filesystem", "_StorageInfo")
            or (module, name) in (("torch", "Size"), ("torch.serialization", "_get_layout"))
            or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype))
            or (module.split(".")[0] == "pathlib" and name in ("PosixPath", "WindowsPath"))
        )
        if not allowed:
            raise TableError(f"names {module}.{name}, which no checkpoint needs; do not use it")
        return super().find_class(module, name)
