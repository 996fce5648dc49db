"""N-grams of words as hashes: any stretch of a text's words, from the hashes of its prefixes."""

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.options import INNER_KERNEL


@numba.njit(cache=True, nogil=True)
def prefixes(words: U64) -> U64:
    """Polynomial hashes of the prefixes of a sequence of words, (n + 1,), from which `gram` hashes any stretch."""
    found = np.zeros(len(words) + 1, np.uint64)
    for place in range(len(words)):
        found[place + 1] = found[place] * GOLDEN + words[place]
    return found


@numba.njit(cache=True, nogil=True)
def powers(largest: int) -> U64:
    """The polynomial's base to the power of 0 … largest."""
    found = np.ones(largest + 1, np.uint64)
    for place in range(largest):
        found[place + 1] = found[place] * GOLDEN
    return found


@numba.njit(**INNER_KERNEL)
def gram(prefix: U64, at: int, size: int, power: np.uint64) -> np.uint64:
    """Hash of the `size` words from `at`, never 0; `power` is `powers(…)[size]`."""
    value = prefix[at + size] - prefix[at] * power + np.uint64(size)
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (value ^ (value >> np.uint64(32))) | np.uint64(1)


def spans(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Begin and end of each text, (t, 2), from the bounds between texts, (t + 1,)."""
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


@numba.njit(cache=True, nogil=True)
def span_hashes(words: U64, within: NDArray[np.int64]) -> U64:
    """Hash of all words of each span (begin, end)."""
    prefix = prefixes(words)
    longest = 0
    for begin, end in within:
        longest = max(longest, end - begin)
    power = powers(longest)
    hashes = np.empty(len(within), np.uint64)
    for span in range(len(within)):
        size = within[span, 1] - within[span, 0]
        hashes[span] = gram(prefix, within[span, 0], size, power[size])
    return hashes


@numba.njit(cache=True, nogil=True)
def all_grams(words: U64, within: NDArray[np.int64], size: int) -> tuple[U64, NDArray[np.int64], NDArray[np.int64]]:
    """Hash, text and place of every stretch of `size` words in the span (begin, end) of each text."""
    count = 0
    for begin, end in within:
        count += max(0, end - begin - size + 1)
    keys, texts, at = np.empty(count, np.uint64), np.empty(count, np.int64), np.empty(count, np.int64)
    prefix, power = prefixes(words), powers(size)[size]
    count = 0
    for text in range(len(within)):
        for place in range(within[text, 0], within[text, 1] - size + 1):
            keys[count], texts[count], at[count] = gram(prefix, place, size, power), text, place
            count += 1
    return keys, texts, at


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
