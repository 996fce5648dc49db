"""Which words a text has, and which of them are key terms, which duplicates must share."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup.near.compare import extract_features
from pipeline.dedup.near.vocabulary import count_sample, frequent_sentences, frequent_words, vocabulary

ORDINARY = "the red green house door stands by a river and boats go past it while children play with small stones " * 3


def column(*texts: str) -> pa.Array:
    return pa.array(texts, pa.large_string())


def same_key_terms(a: tuple[str, str], b: tuple[str, str]) -> bool:
    words, _ = count_sample(column(*[ORDINARY] * 3), column(*[ORDINARY] * 3))
    known = vocabulary(frequent_words(words, words * 0 + 3, 3), words[:0])
    features = extract_features(column(a[0], b[0]), column(a[1], b[1]), known, 5)
    return bool(features.key_terms[0] == features.key_terms[1])


LONG = "the small boats go past the red house while children play with stones by the river " * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("it has 3 boats", "it has 4 boats"),
        ("it has 3.5 boats", "it has 35 boats"),
        ("it has 1/2 boats", "it has 12 boats"),
        ("it is -3 by the door", "it is 3 by the door"),
        ("it is 3 km past", "it is 3 cm past"),
        ("it has 3 boats", "it has 3 stones"),
        ("it has three boats", "it has four boats"),
        ("the boats go past Anna", "the boats go past Boris"),
        ("the boats go past anna", "the boats go past boris"),
        ("the house is red", "the house is not red"),
        ("play before the river", "play after the river"),
        ("the door x", "the door y"),
        ("x = y", "x < y"),
        ("play\nA) red\nB) green", "play\nA) red\nB) small"),
        ("play\nA) red\nB) green", "play\nA) green\nB) red"),
        ("play\n- red\n- green", "play\n- green\n- red"),
        ("家的门是红的", "家的门是绿的"),
    ],
)
def test_informative_words_are_key_terms(one: str, other: str) -> None:
    assert not same_key_terms((one, LONG), (other, LONG))
    assert same_key_terms((one, LONG), (one, LONG))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The house is red.", "the HOUSE  is\nred"),
        ("the red house, by the river", "the green house by the river"),
        ("it has 1,000 boats", "it has 1000 boats"),
        ("it has ３ boats", "it has 3 boats"),
        ("the river's boats", "the river’s boats"),
        ("3 − 2", "3 - 2"),
    ],
)
def test_what_says_the_same_has_the_same_key_terms(one: str, other: str) -> None:
    assert same_key_terms((one, LONG), (other, LONG))


def test_every_word_of_a_short_answer_is_a_key_term_except_in_closing_phrases() -> None:
    assert not same_key_terms((LONG, "the red house"), (LONG, "the green house"))
    assert same_key_terms((LONG, f"{LONG} the red house"), (LONG, f"{LONG} the green house"))
    closing = "I hope that this helps."
    words, sentences = count_sample(column(*[closing.lower()] * 20), column(*["the house"] * 20))
    known = vocabulary(words, frequent_sentences(sentences, sentences * 0 + 1, 20))
    features = extract_features(column(LONG, LONG), column("the house.", f"the house. {closing}"), known, 5)
    assert features.key_terms[0] == features.key_terms[1]


def test_an_answer_that_is_announced_is_informative_however_long_the_response() -> None:
    for one, other in (("The answer is red", "The answer is green"), ("Answer: red", "Answer: green")):
        assert not same_key_terms((LONG, f"{LONG}. {one}."), (LONG, f"{LONG}. {other}."))


@given(st.text(), st.text())
def test_any_text_can_be_tokenized(instruction: str, response: str) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in (instruction, response)]
    known = vocabulary(*count_sample(column(texts[0]), column(texts[1])))
    features = extract_features(column(texts[0]), column(texts[1]), known, 3)
    assert features.shingle_bounds[1] >= 1
    words, sentences = count_sample(column(texts[0]), column(texts[1]))
    assert len(set(words.tolist())) == len(words)
    assert len(set(sentences.tolist())) == len(sentences)
