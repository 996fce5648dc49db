"""N-grams of words as hashes: any stretch of a text's words, from the hashes of its prefixes."""

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.options import INNER_KERNEL, KERNEL


def prefixes(words: U64) -> U64:
    """Polynomial hashes of the prefixes of a sequence of words, (n + 1,), from which `gram` hashes any stretch."""
    found = np.empty(len(words) + 1, np.uint64)
    read_only = words[:]  # of one type, so that the kernel is compiled once
    read_only.flags.writeable = False
    _write_prefixes(read_only, found)
    return found


@numba.njit(**KERNEL)
def _write_prefixes(words: U64, found: U64) -> None:
    value = np.uint64(0)
    for place in range(len(words)):
        found[place] = value
        value = value * GOLDEN + words[place]
    found[len(words)] = value


def powers(largest: int) -> U64:
    """The polynomial's base to the power of 0 … largest."""
    found = np.full(largest + 1, GOLDEN)
    found[0] = 1
    return np.cumprod(found)


@numba.njit(**INNER_KERNEL)
def gram(prefix: U64, at: int, size: int, power: np.uint64) -> np.uint64:
    """Hash of the `size` words from `at`, never 0; `power` is `powers(…)[size]`.

    As `gram.py_func`, it takes arrays of places, sizes and powers too.
    """
    value = prefix[at + size] - prefix[at] * power + np.uint64(size)
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (value ^ (value >> np.uint64(32))) | np.uint64(1)


def spans(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Begin and end of each text, (t, 2), from the bounds between texts, (t + 1,)."""
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def span_hashes(words: U64, within: NDArray[np.int64]) -> U64:
    """Hash of all words of each span (begin, end)."""
    sizes = within[:, 1] - within[:, 0]
    return gram.py_func(prefixes(words), within[:, 0], sizes, powers(sizes.max(initial=0))[sizes])


def all_grams(words: U64, within: NDArray[np.int64], size: int) -> tuple[U64, NDArray[np.int64], NDArray[np.int64]]:
    """Hash, text and place of every stretch of `size` words in the span (begin, end) of each text."""
    counts = np.maximum(within[:, 1] - within[:, 0] - size + 1, 0)
    first = np.cumsum(counts) - counts
    texts = np.repeat(np.arange(len(within)), counts)
    at = np.arange(len(texts)) + np.repeat(within[:, 0] - first, counts)
    return gram.py_func(prefixes(words), at, size, powers(size)[size]), texts, at


def document_counts(keys: U64, texts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of texts that have the key of each entry (key, text)."""
    order = np.lexsort((texts, keys))
    sorted_keys, sorted_texts = keys[order], texts[order]
    new_key = np.ones(len(keys), bool)
    new_key[1:] = sorted_keys[1:] != sorted_keys[:-1]
    new_text = new_key.copy()
    new_text[1:] |= sorted_texts[1:] != sorted_texts[:-1]
    group = np.cumsum(new_key) - 1
    counts = np.bincount(group, weights=new_text).astype(np.int64) if len(keys) else np.zeros(0, np.int64)
    found = np.empty(len(keys), np.int64)
    found[order] = counts[group]
    return found


def in_group(keys: U64, groups: NDArray[np.int64]) -> U64:
    """Keys that are equal only within one group."""
    return keys ^ groups.astype(np.uint64) * np.uint64(0x9FB21C651E98DF25)
