"""Entries: what exact deduplication and caps know of a record, and how both find groups of equal keys."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ENTRIES = np.dtype(
    [
        ("key_high", np.uint64),
        ("key_low", np.uint64),
        ("id_high", np.uint64),
        ("id_low", np.uint64),
        ("priority", np.uint32),
        ("partition", np.uint32),
        ("index", np.uint32),
        ("response", np.uint32),
        ("bytes", np.uint32),
    ]
)
"""Key by which records are equal, row id, position of the source in the manifest, place of the record, length of the
response in characters, size of both texts in bytes."""

PART_ROWS = 2**20
"""Entries that are examined at once, about."""


def entries_of(keys: NDArray[Any], key: str, *, partition: int, priority: int) -> NDArray[Any]:
    """Make `ENTRIES` of the `pipeline.ingest.step.KEYS` of one partition; `key` is "pair" or "instruction"."""
    entries = np.empty(len(keys), ENTRIES)
    entries["key_high"], entries["key_low"] = keys[f"{key}_high"], keys[f"{key}_low"]
    for name in ("id_high", "id_low", "index", "response", "bytes"):
        entries[name] = keys[name]
    entries["partition"], entries["priority"] = partition, priority
    return entries


def begins_group(entries: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each of some sorted entries (n,) has another key than the one before it."""
    return changes(entries["key_high"]) | changes(entries["key_low"])


def changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each value (n,) differs from the one before it; the first does."""
    differs = np.ones(len(values), bool)
    differs[1:] = values[1:] != values[:-1]
    return differs


def places_in(best: NDArray[Any], entries: NDArray[Any]) -> NDArray[np.int64]:
    """Return the index in `best` of each entry's key (n,); `best` is sorted by key, without equal ones, and has all."""
    places = np.searchsorted(np.ascontiguousarray(best["key_high"]), entries["key_high"])
    low = best["key_low"]
    # Different keys rarely share their upper half.
    while len(wrong := np.flatnonzero(low[places] != entries["key_low"])):
        places[wrong] += 1
    return places
