"""Folded texts are the same whichever way they were folded."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text.folding import fold, fold_all

ASCII = st.text(st.characters(max_codepoint=127) | st.sampled_from(" \n\t"), max_size=30)
TEXTS = st.lists(st.one_of(ASCII, st.text(max_size=30)), max_size=8)


@settings(deadline=None)  # the first call compiles
@given(texts=TEXTS, case=st.booleans(), begin=st.integers(0, 3))
def test_texts_of_a_column_fold_as_each_alone(texts: list[str], case: bool, begin: int) -> None:
    column = pa.array(texts, pa.large_string()).slice(begin)
    expected = [fold(text, case=case) for text in texts[begin:]]
    assert fold_all(column, case=case) == expected
    assert fold_all(pa.chunked_array([column, column]), case=case) == expected * 2


@pytest.mark.parametrize(
    ("text", "case", "folded"),
    [
        (" Two \n\nWORDS\t", True, "two words"),
        (" Two \n\nWORDS\t", False, "Two WORDS"),
        (" if x:\r\n\n\t Y  +\n \n", False, "if x:\n\t Y +"),
        (" if x:\n\u3000Ⅳ  ", True, "if x:\n\u3000ⅳ"),
        ("\x1cunit\x1fends\x1d", True, "unit ends"),
        ("STRASSE", True, "strasse"),
        ("Straße\u3000Ⅳ", True, "strasse ⅳ"),
        ("", True, ""),
    ],
)
def test_white_space_is_one_blank_and_case_goes(text: str, case: bool, folded: str) -> None:
    assert fold_all(pa.array([text], pa.large_string()), case=case) == [folded.encode()]
