"""The primitives of the kernels compute what plain Python does."""

from itertools import pairwise

import numba
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup.near.tokens import sort_unique
from pipeline.text.characters import decode
from pipeline.text.codes import separates_thousands
from pipeline.text.columns import texts_of
from pipeline.text.hash_table import slot_of, slots_for
from pipeline.text.hashing import GOLDEN, U64, mix, mix_array

KEYS = st.lists(st.integers(1, 40) | st.integers(1, 2**64 - 1), max_size=60)


@numba.njit
def insert_all(table: U64, keys: U64) -> None:
    for key in keys:
        table[slot_of(table, key, key)] = key


@numba.njit
def found(table: U64, keys: U64) -> list[bool]:
    return [table[slot_of(table, key, key)] == key for key in keys]


@numba.njit
def code_points(data: np.ndarray) -> list[int]:
    points, place = [], 0
    while place < len(data):
        char, width = decode(data, place)
        points.append(np.int64(char))
        place += width
    return points


@numba.njit
def mixed(x: np.uint64) -> np.uint64:
    return mix(x)


@numba.njit
def thousands(data: np.ndarray, at: int) -> bool:
    return separates_thousands(data, at, len(data))


@settings(deadline=None)  # the first call compiles
@given(KEYS, KEYS)
def test_a_table_has_the_keys_that_were_inserted_and_no_others(keys: list[int], others: list[int]) -> None:
    table = np.zeros(slots_for(len(keys) + 1), np.uint64)
    insert_all(table, np.array(keys, np.uint64))
    assert set(table[table != 0].tolist()) == set(keys)
    sought = np.array([*keys, *others], np.uint64)
    assert found(table, sought) == [key in set(keys) for key in sought.tolist()]


@given(st.integers(1, 10**7))
@settings(deadline=None)
def test_a_table_has_the_smallest_power_of_two_of_slots_that_suffices(least: int) -> None:
    assert slots_for(least) == 1 << (least - 1).bit_length()


def test_mix_gives_the_published_outputs_of_splitmix64() -> None:
    states = np.arange(1, 4, dtype=np.uint64) * GOLDEN  # of the generator with seed 0
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert mix_array(states).tolist() == [int(mixed(state)) for state in states] == published


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_decoding_gives_the_code_points_of_any_text(text: str) -> None:
    content = np.frombuffer(f"{text}.".encode(), np.uint8)
    assert list(code_points(content)) == [ord(char) for char in f"{text}."]


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None)
def test_sort_unique_sorts_a_part_of_an_array_and_drops_repetitions(values: list[int], a: int, b: int) -> None:
    begin, end = sorted((min(a, len(values)), min(b, len(values))))
    array = np.array(values, np.uint64)
    kept = sort_unique(array, begin, end)
    assert array[begin:kept].tolist() == sorted(set(values[begin:end]))
    assert (array[:begin].tolist(), array[end:].tolist()) == (values[:begin], values[end:])


def test_a_comma_separates_thousands_before_exactly_three_digits() -> None:
    for text, expected in (("1,234", True), ("1,234.", True), ("1,23", False), ("1,2345", False), ("1,a34", False)):
        assert thousands(np.frombuffer(text.encode(), np.uint8), 1) == expected


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8), st.integers(0, 8), st.integers(0, 8))
@settings(deadline=None)
def test_texts_of_a_slice_are_those_of_a_copy(texts: list[str], begin: int, size: int) -> None:
    column = pa.array(texts, pa.large_string())
    for part in (column.slice(begin, size), pa.chunked_array([column.slice(begin, size)], pa.large_string())):
        data, bounds = texts_of(part)
        assert [bytes(data[a:b]).decode() for a, b in pairwise(bounds)] == part.to_pylist()
        assert not data.flags.writeable
        assert not bounds.flags.writeable
