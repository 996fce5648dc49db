"""Folded texts are the same whichever way they were folded."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text.folding import fold, fold_pairs

SPACES = " \n\t\r\x0b\x1c\x85\xa0\u1680\u180e\u2000\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\u3001"
TEXT = st.text(
    st.sampled_from("ab A\n\t \x01é日あ“😀") | st.sampled_from(SPACES) | st.characters(codec="utf-8"), max_size=40
)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=8)


@settings(deadline=None, max_examples=300)  # the first call compiles
@given(pairs=PAIRS, begin=st.integers(0, 3), chunks=st.booleans())
def test_texts_of_a_column_fold_as_each_alone(pairs: list[tuple[str, str]], begin: int, chunks: bool) -> None:
    columns = [pa.array([pair[part] for pair in pairs], pa.large_string()).slice(begin) for part in (0, 1)]
    found = fold_pairs(*(pa.chunked_array([column, column]) if chunks else column for column in columns))
    expected = pairs[begin:] * (2 if chunks else 1)
    assert [bytes(pair) for pair in found.pairs] == [fold(a) + b"\0" + fold(b) for a, b in expected]
    assert [bytes(text).decode() for text in found.instructions] == [fold(a).decode().casefold() for a, _ in expected]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        (" Two \n\nWORDS\t", "Two WORDS"),
        (" if x:\r\n\n\t Y  +\n \n", "if x:\n\t Y +"),
        (" if x:\n\u3000Ⅳ  ", "if x:\n\u3000Ⅳ"),
        ("\x1cunit\x1fends\x1d", "unit ends"),
        ("a  b \n c", "a b\n c"),
        ("a \nb", "a b"),
        ("", ""),
    ],
)
def test_white_space_is_one_blank_and_indentation_is_kept(text: str, folded: str) -> None:
    column = pa.array([text], pa.large_string())
    assert [bytes(pair) for pair in fold_pairs(column, column).pairs] == [f"{folded}\0{folded}".encode()]
