"""Texts that a normal form leaves as they are need no conversion."""

import unicodedata

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text.columns import texts_of
from pipeline.text.normal import may_change_in_nfkc

JOINED = st.text(
    "aeo\u0301\u0308\u0323\u1100\u1161\u11a8\uac00\u09c7\u09be\u0915\u093c\u212b\ufb01\uff0c你😀", max_size=6
)


@settings(deadline=None)  # the first call compiles
@given(texts=st.lists(st.text(max_size=12) | JOINED, max_size=8))
def test_texts_that_may_not_change_in_nfkc_do_not(texts: list[str]) -> None:
    found = may_change_in_nfkc(texts_of(pa.array(texts, pa.large_string())))
    assert all(unicodedata.is_normalized("NFKC", text) for text, may in zip(texts, found, strict=True) if not may)


def test_most_texts_need_no_conversion() -> None:
    texts = ["plain", "naïve “words” — дом, 家 집 عرب 😀", "", "ﬁ", "e\u0301", "１", "…"]
    found = may_change_in_nfkc(texts_of(pa.array(texts, pa.large_string())))
    assert found.tolist() == [False, False, False, True, True, True, True]
