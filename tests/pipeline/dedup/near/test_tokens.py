"""What may differ between duplicates, and what may not."""

import random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup.near.compare import extract_features
from pipeline.dedup.near.table import near_dedup
from pipeline.dedup.near.vocabulary import count_sample, vocabulary
from tests.benchmarks.planted_code import planted_code
from tests.benchmarks.planted_languages import KEPT, LANGUAGES, REMOVED, planted_languages

LONG = (
    "The small boats go past the red house while children play with stones by the river. Nobody knows where they come "
    "from, but every evening some people of the village wait for them at the old bridge and wave their hats."
)


def column(*texts: str) -> pa.Array:
    return pa.array(texts, pa.large_string())


def duplicates(one: str, other: str, response: str = LONG, other_response: str | None = None) -> bool:
    rows = [(one, response), (other, response if other_response is None else other_response)]
    return len(near_dedup(pl.DataFrame(rows, ["instruction", "response"], orient="row")).lost) == 1


def key_terms(texts: list[str]) -> list[int]:
    """Key terms of records with these texts as instructions."""
    known = vocabulary(np.empty(0, np.uint64))
    return extract_features(column(*texts), column(*[""] * len(texts)), known, 5).key_terms.tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("it has 3 boats", "it has 4 boats"),
        ("it has 3.5 boats", "it has 35 boats"),
        ("it has .5 boats", "it has 5 boats"),
        ("it has 1, 2 or 3 boats", "it has 1 2 or 3 boats"),
        ("it has 1/2 boats", "it has 12 boats"),
        ("what is 5! by the door", "what is 5 by the door"),
        ("it is -3 by the door", "it is 3 by the door"),
        ("it is 3 km past", "it is 3 cm past"),
        ("it has 3 boats", "it has 3 stones"),
        ("it has three boats", "it has four boats"),
        ("the boats go past Anna", "the boats go past Boris"),
        ("the boats go past anna", "the boats go past boris"),
        ("The boats wait for us", "The boats wait for US"),
        ("the house is red", "the house is not red"),
        ("the house is red", "the house is green"),
        ("the house is big", "the house is small"),
        ("it's the house", "its the house"),
        ("play before the river", "play after the river"),
        ("the door x", "the door y"),
        ("the door x", "the door X"),
        ("x = y", "x < y"),
        ("the (red) house", "the red house"),
        ('the "red" house', "the red house"),
        ("a well-known house", "a well known house"),
        ("what is f(x, y) here", "what is f(x y) here"),
        ("the_sum is by the door", "thesum is by the door"),
        ("see a[1:] by the door", "see a[:1] by the door"),
        ("print('a')", 'print("a")'),
        ("begin = f(1)", "start = f(1)"),
        ("for x in f(y):\n    z += x\nprint(z)", "for x in f(y):\n    z += x\n    print(z)"),
        ("Dog.bark() is called", "dog.bark() is called"),
        ("play\nA) red\nB) green", "play\nA) red\nB) small"),
        ("play\nA) red\nB) green", "play\nA) green\nB) red"),
        ("play\nA) big\nB) green", "play\nA) large\nB) green"),
        ("play\n- red\n- green", "play\n- green\n- red"),
        ("家的门是红的", "家的门是绿的"),
        ("家的门是红的", "家的门不是红的"),
    ],
)
def test_everything_that_is_informative_keeps_both(one: str, other: str) -> None:
    assert not duplicates(one, other)
    assert not duplicates(LONG, LONG, f"{LONG}\n{one}", f"{LONG}\n{other}")
    assert duplicates(one, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The house is red.", "the house  is\nred"),
        ("The house of Anna is red.", "THE HOUSE OF ANNA IS RED."),
        ("The house of Anna is red.", "the house of anna is red."),
        ("Anna has a red house. It is old.", "Anna has a red house. it is old."),
        ("Go past Anna. Go on to Boris.", "Go past anna. go on to boris."),
        ("The house, by the river. It is red", "The house by the river It is red!"),
        ("the big house is near the river, kindly say it", "the large house is near the river, say it"),
        ("name an old house by the river", "name old house by the river"),
        ("it has 1,000 boats", "it has 1000 boats"),
        ("it has ３ boats", "it has 3 boats"),
        ("the river's boats", "the river’s boats"),
        ('the "red" house', "the “red” house"),
        ("3 − 2", "3 - 2"),
        ("it has 48/2 = <<48/2=24>>24 boats", "it has 48/2 = 24 boats"),
        ("the **red** house and `the` *green* one", "the red house and the green one"),
        ("## Houses\n- The red one\n> The green one", "Houses\nThe red one\nThe green one"),
        ("Please name a red house.", "Name a red house."),
        ("Name a red house.", "Name a red house. Thank you in advance!"),
        ("Could you tell me: where is the red house?", "Where is the red house"),
        ("请问红色的房子在哪里？", "红色的房子在哪里"),
        ("x = f(1)  +  2", "x=f(1)+2"),
    ],
)
def test_what_says_the_same_is_a_duplicate(one: str, other: str) -> None:
    assert duplicates(one, other)


def test_a_text_is_read_alike_whatever_the_text_before_it_is() -> None:
    texts = ["// the boats", "/ the boats", "= 3", "- boats", "…", "a) boats"]
    alone = [key_terms([text]) for text in texts]
    for before in ("the end:", "the end/", "f(", ""):
        assert [key_terms([before, text])[1:] for text in texts] == alone


def test_every_word_of_a_short_answer_counts() -> None:
    assert not duplicates(LONG, LONG, "the big house", "the large house")
    assert not duplicates(LONG, LONG, "a house", "the house")
    assert duplicates(LONG, LONG, f"{LONG} the big house", f"{LONG} the large house")


def test_closing_phrases_and_an_answer_line_may_be_absent_but_not_differ() -> None:
    assert duplicates(LONG, LONG, "The red house.", "The red house. I hope this helps.")
    solution = "It has 3 * 4 = 12 boats, of which the half is red, so it has 6 red boats."
    assert duplicates(LONG, LONG, f"{solution}\n#### 6", solution)
    assert not duplicates(LONG, LONG, f"{solution}\n#### 6", f"{solution}\n#### 7")


def test_a_sentence_with_which_many_records_end_is_boilerplate_and_one_that_they_have_anywhere_is_not() -> None:
    draw = random.Random(0)

    def text(words: int) -> str:
        return " ".join("".join(draw.choices("aeioulmnprst", k=6)) for _ in range(words)).capitalize() + "."

    ending, verdict = "Say it so that a pupil could follow.", "It is not true at all."
    clause = "The old house stands by the river."
    rows = [(f"{text(12)} {ending}", f"{text(30)} {clause if i % 2 else verdict} {text(5)}") for i in range(100)]
    rows += [(text(12), f"{text(30)} {clause}") for _ in range(60)]
    question, answer = text(12), text(30)
    pairs = [(question, answer), (f"{question} {ending}", answer), (question, f"{answer} {clause}"),
             (question, f"{answer} {verdict}")]  # fmt: skip
    found = near_dedup(pl.DataFrame([*pairs, *rows], ["instruction", "response"], orient="row"))
    kept = set(range(len(pairs))) - set(found.lost.tolist())
    assert len(found.lost) == 1
    assert {2, 3} <= kept


@pytest.fixture(scope="module")
def shares() -> dict[str, float]:
    """Share of the planted pairs of each kind of which one is dropped."""
    rows = planted_languages(40, random.Random(4)) + planted_code(100, random.Random(4))
    texts = [one for _, one, _ in rows] + [other for _, _, other in rows]
    found = near_dedup(pl.DataFrame(texts, ["instruction", "response"], orient="row"))
    survivor = np.arange(len(texts))
    survivor[found.lost] = found.twin
    same = survivor[: len(rows)] == survivor[len(rows) :]
    kinds = np.array([kind for kind, _, _ in rows])
    return {kind: float(same[kinds == kind].mean()) for kind in dict.fromkeys(kinds.tolist())}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_word_that_matters_keeps_both_in_any_language(language: str, shares: dict[str, float]) -> None:
    assert max(shares[f"{language}: {kind}"] for kind in KEPT) <= 0.01


@pytest.mark.parametrize("language", LANGUAGES)
def test_white_space_punctuation_and_a_polite_prefix_keep_one_in_any_language(
    language: str, shares: dict[str, float]
) -> None:
    assert min(shares[f"{language}: {kind}"] for kind in REMOVED) >= 0.95


def test_programs_and_formulas_that_differ_are_kept(shares: dict[str, float]) -> None:
    found = {kind: share for kind, share in shares.items() if kind.startswith(("code", "algebra"))}
    assert len(found) == 8
    assert max(found.values()) <= 0.01, found


@given(st.text(), st.text())
def test_any_text_can_be_tokenized(instruction: str, response: str) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in (instruction, response)]
    sentences = count_sample(column(texts[0]), column(texts[1]))
    features = extract_features(column(texts[0]), column(texts[1]), vocabulary(sentences), 3)
    assert features.shingle_bounds[1] >= 1
    assert len(set(sentences.tolist())) == len(sentences)
