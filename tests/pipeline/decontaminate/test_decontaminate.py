"""Decontamination finds records that contain a question or a solution of an eval source, not those that only share a
template with one."""

import random
from html import unescape
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decontaminate import contaminated
from pipeline.decontaminate.contaminated import find_hits
from pipeline.decontaminate.probes import build_index
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.word_hashes import words_of
from tests.pipeline.conftest import run_build, write_jsonl

NAMES = ["Ana", "Boris", "Clara", "Derek", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Leon", "Mira"]
THINGS = ["apples", "marbles", "stamps", "coins", "pencils", "stickers", "shells", "buttons", "candles", "tickets"]
PLACES = ["the market by the river", "the school at the corner", "an old library", "her uncle's farm", "the harbour"]


def problem(draw: random.Random) -> tuple[str, str]:
    """A question of one template with a worked solution; numbers, names and things vary."""
    name, thing, place = draw.choice(NAMES), draw.choice(THINGS), draw.choice(PLACES)
    a, b, c = draw.randint(20, 999), draw.randint(2, 19), draw.randint(2, 9)
    question = (
        f"{name} goes to {place} and has {a} {thing} in a basket. On the way back {name} gives away {b} of the {thing} "
        f"and then shares the rest equally among {c} friends. How many {thing} does each of the friends get at most?"
    )
    solution = (
        f"After giving away {b} there are {a} - {b} = {a - b} {thing} left in the basket of {name}. Shared among {c} "
        f"friends that makes {a - b} / {c} = {(a - b) // c} for each one at most. The answer is {(a - b) // c}."
    )
    return question, solution


def problems(seed: int, count: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    return [problem(draw) for _ in range(count)]


def items(pairs: list[tuple[str, str]], source: str = "held", meta: str | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "source": source,
            "task": "test",
            "row_id": [f"{source}-{number}" for number in range(len(pairs))],
            "instruction": [question for question, _ in pairs],
            "response": [answer for _, answer in pairs],
            "meta": [meta] * len(pairs),
        },
        schema_overrides={"meta": pl.String},
    )


def hits(records: list[tuple[str, str]], held: pl.DataFrame, **rules: Any) -> list[tuple[int, str, str]]:
    """Place of the record, item and part of each hit."""
    index, searchable = build_index(held, DecontaminateSpec(**rules))
    found = find_hits(items(records, "train").drop("meta"), [(index, held.with_columns(searchable=searchable))])
    return list(found.select("row", "item", "part").iter_rows())


PROSE = [
    (
        "Why does the moon look larger when it stands near the horizon than when it is high up in the night sky?",
        "Because the eye compares it with trees and houses there.",
    ),
    (
        "A ladder of 5 metres leans against a vertical wall with its foot 3 metres away. How high up does it reach?",
        "4 metres",
    ),
    ("Name the largest planet.", "Jupiter"),
]


def test_a_question_is_found_verbatim_recased_repunctuated_and_inside_another_text() -> None:
    question = PROSE[0][0]
    records = [
        (question, "No idea."),
        (question.upper().replace("?", " ?!"), "No idea."),
        (f"Here is a riddle for you:\n\n{question}\n\nThink step by step.", "No idea."),
        ("Write a question about the sky.", f"Sure! {question} That is one."),
        (question.replace(" ", "\n").replace("moon", "ｍｏｏｎ"), "No idea."),
    ]
    assert hits(records, items(PROSE)) == [(row, "held-0", "question") for row in range(len(records))]


def test_a_question_with_another_number_name_or_half_of_it_is_another_question() -> None:
    question, _ = PROSE[1]
    records = [
        (question.replace("5", "7"), "4 metres"),
        (question.replace("metres", "feet"), "4 feet"),
        (question.split(". ")[0] + ". What is the angle?", "about 53 degrees"),
        (question.split(". ")[1], "4 metres"),
    ]
    assert hits(records, items(PROSE)) == []


def test_rows_that_share_only_a_template_are_not_contaminated() -> None:
    held = items(problems(1, 200))
    assert hits(problems(2, 1000), held) == []


def test_each_question_of_a_template_is_found_and_no_other() -> None:
    pairs = problems(1, 200)
    records = [(f"Solve this problem. {question.lower()}", "I do not know.") for question, _ in pairs]
    found = hits(records, items(pairs))
    assert {(row, item) for row, item, _ in found} == {(row, f"held-{row}") for row in range(len(pairs))}


def test_a_worked_solution_is_found_without_its_question() -> None:
    pairs = problems(1, 200)
    found = hits([("Show how such things are computed.", answer) for _, answer in pairs], items(pairs))
    assert {(row, item) for row, item, _ in found} == {(row, f"held-{row}") for row in range(len(pairs))}
    assert {part for _, _, part in found} == {"solution"}


def test_the_rationale_of_a_short_answer_is_a_solution() -> None:
    rationale = "The ladder, the wall and the ground make a right triangle, so its height is the root of 25 less 9."
    held = items(PROSE[1:2], meta=f'{{"rationale": "{rationale}"}}')
    assert hits([("How do ladders work?", rationale + " And so on.")], held) == [(0, "held-0", "solution")]


def word_lists(*texts: str) -> list[list[int]]:
    words = words_of(pl.Series(texts))
    return [part.tolist() for part in np.split(words.words, words.bounds[1:-1])]


def same_words(*texts: str) -> list[bool]:
    """Whether each text has the words of the first."""
    each = word_lists(*texts)
    return [part == each[0] for part in each]


def test_words_are_the_same_however_they_are_typeset() -> None:
    plain, *others = [
        "Ann's 1000 hens don't lay 2 + 2 eggs at 3.5 cents, they'll say",
        "ANN ’S 1,000 hens do n't lay 2+2 EGGS at 3.5 cents ; they 'll say!",
        "“Anns” 1000 hens (dont) lay 2 + 2 eggs… at 3.5 cents\ntheyll say",
        "Ann's 1000 hens don't lay <<1+1=2>>2 + 2 eggs at 3.5 cents, they'll ｓａｙ",
    ]
    assert same_words(plain, *others) == [True] * 4
    assert len(word_lists(plain)[0]) == 14


def test_decimals_signs_and_digits_make_different_words() -> None:
    texts = ["3.5 cents", "35 cents", "3 5 cents", "3 - 5 cents", "3 + 5 cents", "3 / 5 cents"]
    assert len({tuple(part) for part in word_lists(*texts)}) == 6


def test_labels_of_options_are_not_words_but_what_resembles_them_is() -> None:
    same = [
        "red or blue?\nA. red\nB. blue",
        "red or blue? (A) red (B) blue",
        "red or blue? Option 1: red Option 2: blue",
    ]
    assert same_words(*same, "red or blue? Answer1 red Answer2: blue", "red or blue? red blue") == [True] * 5
    counted = ["choose 4 of 9", "obtain 42 and answer 70", "choose answer 2.", "vitamin A. It", "a P.E. team"]
    assert [len(part) for part in word_lists(*counted)] == [4, 5, 3, 3, 4]


def test_labels_of_options_are_not_words_without_their_marks_or_with_more_of_them() -> None:
    marked = "Which of them eats\na man?\n\nA. a lion\nB. bees\nC. -1\nD. cows"
    same = [
        marked.replace(".", "").lower(),
        marked.replace(".", "").replace("\n\n", "\n").upper(),
        marked.replace(".", "  . "),
        marked.replace(".", ".."),
        marked.replace(".", " )"),
        marked.replace(".", ".)"),
        marked.replace("A.", "( a )").replace("B.", "(b)").replace("C.", "( C)").replace("D.", "(D )"),
    ]
    assert same_words(marked, *same) == [True] * 8
    others = ["A = 3\nB = 4", "= 3\n= 4", "A man sat down.\nHe ate.", "man sat down. He ate."]
    assert [len(part) for part in word_lists(*others)] == [6, 3, 6, 5]


def test_a_letter_before_a_parenthesis_that_closes_is_a_word_in_any_case() -> None:
    texts = ["find f(w, h) of (7 + 3 i) + [0, b) at 43 (°c) in g(2,\na)", "find f w h of 7 + 3 i 0 b at 43 c in g 2 a"]
    assert same_words(texts[0], texts[0].upper(), texts[0].replace("\n", " ")) == [True] * 3
    assert [len(part) for part in word_lists(*texts)] == [len(texts[1].split())] * 2


def test_signs_count_where_a_line_is_broken_but_items_of_lists_have_none() -> None:
    formula = "y = 3 x^4 - 5 * 2 + 30 = 41 / 7"
    assert same_words(formula, *(formula.replace(f" {sign}", f"\n{sign}") for sign in "=+/")) == [True] * 4
    assert same_words(formula, *(formula.replace(f"{sign} ", f"{sign}\n") for sign in "=-*+/")) == [True] * 6
    assert same_words("buy 5 3 apples 4 pears 2 nuts", "buy 5\n- 3 apples\n* 4 pears\n> 2 nuts") == [True, True]


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(*[st.text() | st.text("aAbB5-=. \n", max_size=20)] * 2), max_size=8))
def test_words_of_a_pair_are_those_of_its_first_and_then_those_of_its_second(pairs: list[tuple[str, str]]) -> None:
    first, second = (pl.Series([pair[n] for pair in pairs], dtype=pl.String) for n in (0, 1))
    both, apart = (
        words_of(first, second),
        words_of(pl.Series([text for pair in pairs for text in pair], dtype=pl.String)),
    )
    assert both.words.tolist() == apart.words.tolist()
    assert both.bounds.tolist() == apart.bounds[::2].tolist()
    assert both.splits.tolist() == np.diff(apart.bounds)[::2].tolist()


def test_hits_are_the_same_however_many_records_are_searched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = problems(1, 40)
    others = problems(2, 60)
    spaced = [(question.replace(" ", "\n"), "none") for question, _ in pairs]
    records = [pair for row in range(1200) for pair in (others[row % 60], pairs[row % 40])] + spaced
    together = hits(records, items(pairs))
    assert {row for row, _, _ in together} == {*range(1, 2400, 2), *range(2400, 2440)}
    for size in (1, 1000, 50_000):
        monkeypatch.setattr(contaminated, "SCANNED_BYTES", size)
        assert hits(records[-500:], items(pairs)) == [(row - 1940, *rest) for row, *rest in together if row >= 1940]


def test_calculator_marks_do_not_hide_a_solution() -> None:
    pairs = problems(1, 50)
    marked = [("Compute.", answer.replace(" = ", " = <<1+1=2>>")) for _, answer in pairs]
    assert {row for row, _, _ in hits(marked, items(pairs))} == set(range(50))


def test_a_short_question_is_found_only_as_a_whole_instruction_with_its_answer() -> None:
    records = [
        ("name the largest planet", "It is jupiter."),
        ("Name the largest planet.", "Saturn"),
        ("Name the largest planet. Then name the smallest one.", "Jupiter and Mercury"),
    ]
    assert hits(records, items(PROSE)) == [(0, "held-2", "question")]


STEM = "Which of these things is the one that a plant needs most in order to make its own food from air?"
SHORT_STEM = "What does a plant need most?"
OPTIONS = ("moonlight", "sunlight", "sandstone", "woollen blankets")


def choice(stem: str, options: tuple[str, ...] = OPTIONS, label: str = "{}. ") -> str:
    lines = (label.format("ABCD"[place]) + option for place, option in enumerate(options))
    return stem + "\n\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("instruction", "response"),
    [
        (f"{STEM} Answer1: moonlight Answer2: sunlight Answer3: sandstone Answer4: woollen blankets", "answer2"),
        (f"{STEM}\n(a) steel (b) glass (c) paper", "paper"),
        (STEM, "It is chalk."),
        (choice(STEM, OPTIONS[::-1], "({}) "), "(C)"),
        (STEM.replace(" ", "_"), "The light of the sun."),
        (STEM.replace(" ", "&nbsp;"), "The light of the sun."),
        (STEM.replace(" ", "\n"), "The light of the sun."),
        (STEM.replace("plant", "pla-\nnt"), "The light of the sun."),
        (" ".join(f"**{word}**" for word in STEM.split()), "Das Sonnenlicht."),
        (f"{PROSE[1][0]} {STEM} {PROSE[0][0]}" * 3, "No idea."),
        ("Write a quiz.", f"Here you are: {STEM}"),
    ],
)
def test_a_long_stem_is_found_whatever_the_options_and_the_answer_are(instruction: str, response: str) -> None:
    assert hits([(instruction, response)], items([(choice(STEM), "sunlight")])) == [(0, "held-0", "question")]


LONG_STEM = (
    "Which of the things that a gardener keeps in a shed near the house would most likely help a young tree that does "
    "not get 3 hours of light to make its own food in Norway after a long winter?"
)
CYRILLIC = str.maketrans("aceopxyACEHOPTX", "асеорхуАСЕНОРТХ")
GREEK = str.maketrans("aoivAOI", "αοινΑΟΙ")
MARKS = str.maketrans("aeiouy", "áèïöūý")


@pytest.mark.parametrize(
    "instruction",
    [
        LONG_STEM.replace(" ", ""),
        "\n".join(LONG_STEM[at : at + 30] for at in range(0, len(LONG_STEM), 30)),
        " ".join(LONG_STEM.replace(" ", "")),
        LONG_STEM.replace("gardener", "gard ener").replace("likely", "like\n\nly"),
        LONG_STEM.translate(CYRILLIC),
        LONG_STEM.upper().translate(CYRILLIC),
        LONG_STEM.translate(GREEK),
        LONG_STEM.translate(MARKS),
        LONG_STEM.replace("e", "e\u0301").replace("o", "ø"),
        LONG_STEM.replace("gardener", "farmer"),
        LONG_STEM.replace("gardener", "farmer").replace("most likely", "likely"),
        LONG_STEM.replace("near the house", "near the red house"),
        "Q: " + LONG_STEM.replace("gardener", "farmer") + "\n(a) steel (b) glass",
        " ".join(LONG_STEM.split()[:18]),
        " ".join(LONG_STEM.split()[:16]) + "\n(a) steel (b) glass",
        " ".join(LONG_STEM.split()[-18:]),
    ],
)
def test_a_long_stem_is_found_in_any_spacing_in_lookalike_letters_with_a_changed_word_and_by_half(
    instruction: str,
) -> None:
    common = [
        ("In the hands of a most likely person that would help to make it, near the red one?", str(n)) for n in range(3)
    ]
    held = items([(choice(LONG_STEM), "sunlight"), *PROSE, *common])
    assert hits([(instruction, "It is chalk.")], held) == [(0, "held-0", "question")]


BREAKABLE = (
    "In the year 2012 a merchant and a child had 1,500 beans, 3.5 cups of rice and x - 4 = 12 - 7 red pears. A friend "
    "of theirs found a lid. The merchant sold half of a bag of it. If a cup weighs 0.25 kg, how many did Cleo sell?"
)


def broken(text: str, width: int) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


def test_a_stem_is_found_with_lines_broken_anywhere_in_words_numbers_and_formulas_and_before_lone_letters() -> None:
    held = items([(BREAKABLE, "17"), *PROSE])
    records = [(broken(BREAKABLE, width), "No idea.") for width in range(5, 90)]
    records += [
        (f"{broken(BREAKABLE[:at], 9)}\n{broken(BREAKABLE[at:], 11)}", "No idea.") for at in range(1, len(BREAKABLE))
    ]
    found = {row for row, item, _ in hits(records, held) if item == "held-0"}
    assert [text for row, (text, _) in enumerate(records) if row not in found] == []


@pytest.mark.parametrize(
    ("old", "new"), [("2012", "2013"), ("1,500", "1 500"), ("3.5", "35"), ("12 - 7", "12 + 7"), ("0.25", "0 25")]
)
def test_another_number_or_sign_is_another_question_in_broken_lines_too(old: str, new: str) -> None:
    records = [(broken(BREAKABLE.replace(old, new), width).replace(f"{new[0]}\n", new[0]), "No.") for width in (9, 200)]
    records = [(text, answer) for text, answer in records if new in text]
    assert records
    assert hits(records, items([(BREAKABLE, "17"), *PROSE])) == []


def test_a_broken_stem_is_found_in_all_of_many_sets_that_have_it() -> None:
    held = pl.concat([items([(BREAKABLE, "17"), *PROSE], source=f"set-{number}") for number in range(8)])
    assert {item for _, item, _ in hits([(broken(BREAKABLE, 11), "No idea.")], held)} == {
        f"set-{n}-0" for n in range(8)
    }
    changed = BREAKABLE.replace("merchant sold", "dealer sold")
    assert {item for _, item, _ in hits([(changed, "No idea.")], held)} == {f"set-{n}-0" for n in range(8)}


def test_a_short_stem_in_other_spacing_is_found_with_all_its_options_or_its_answer_and_not_alone() -> None:
    stem = "What does a healthy plant need most?"
    held = items([(choice(stem), "sunlight"), *PROSE])
    records = [
        (broken(choice(stem), 13), "(C)"),
        (choice(stem, OPTIONS[::-1], "({}) ").replace(" ", ""), "(C)"),
        (broken(stem, 13), "It needs sunlight."),
        (broken(stem, 13), "It needs water."),
        (broken(choice(stem, ("moonlight", "sunshine", "sandstone", "woollen blankets")), 13), "(B)"),
    ]
    assert {row for row, _, _ in hits(records, held)} == {0, 1, 2}


@pytest.mark.parametrize(
    "instruction",
    [
        LONG_STEM.replace("3", "5"),
        LONG_STEM.replace("3", "5").replace(" ", ""),
        LONG_STEM.replace("3", "13").replace(" ", ""),
        LONG_STEM.replace("does not get", "does get"),
        LONG_STEM.replace("would most", "would not"),
        LONG_STEM.replace("Norway", "Chile"),
        LONG_STEM.replace("gardener", "farmer").replace("shed", "cellar"),
        LONG_STEM.replace("gardener", "farmer").replace("young", "old").replace("house", "barn"),
        LONG_STEM.replace("winter", "summer"),
        " ".join(LONG_STEM.split()[:18]) + " that is ill after a storm?",
        "I have read about " + " ".join(LONG_STEM.split()[-18:]),
        " ".join(LONG_STEM.split()[:8]),
    ],
)
def test_a_long_stem_with_another_number_name_negation_or_end_is_another_question(instruction: str) -> None:
    assert hits([(instruction, "It is chalk.")], items([(choice(LONG_STEM), "sunlight"), *PROSE])) == []


def test_half_a_short_question_and_whole_sentences_of_an_item_are_not_the_item() -> None:
    passage = "The old mill by the river was built in the years when nobody else lived in the long green valley."
    held = items([(f"{passage} Who was it that built the mill there?", "Nobody knows."), (SHORT_STEM, "sunlight")])
    assert (
        hits([(passage, "A text."), (" ".join(SHORT_STEM.split()[:4]), "Water."), ("Which mill?", passage)], held) == []
    )


def test_a_changed_word_makes_another_question_where_an_item_of_the_set_differs_in_one() -> None:
    stem = "Which of the doors in the long corridor leads to the {} room where the king keeps his old books and maps?"
    held = items([(stem.format(word), "The first.") for word in ("blue", "green")])
    records = [(stem.format(word), "I do not know.") for word in ("blue", "red")]
    assert {(row, item) for row, item, _ in hits(records, held)} == {(0, "held-0")}


def test_words_of_languages_with_other_letters_stay_apart() -> None:
    words = word_lists("нет не кот ток мой моя νέα νέο が か कि की")
    assert len(set(words[0])) == len(words[0])
    assert same_words("НЕТ ΚΌΣΜΟΣ Élève", "нет κόσμος élève") == [True, True]


def puzzle(draw: random.Random) -> tuple[str, str]:
    """Premises and question of a puzzle, of which each stretch is in many others, without options."""
    colours = draw.sample(["yellow", "green", "gray", "blue", "orange", "black", "white"], 5)
    premises = [f"The {a} book is to the left of the {b} book." for a, b in pairwise(colours)]
    draw.shuffle(premises)
    shelf = ", ".join(f"a {colour} book" for colour in draw.sample(colours, 5))
    return (
        "The following paragraphs each describe a set of five objects arranged in a fixed order.\n\n"
        f"On a shelf, there are five books: {shelf}. {' '.join(premises)}\n"
        "Which of the following statements is consistent with the situation above?",
        "\n\n"
        + "\n".join(f"{label}. The {c} book is the leftmost." for label, c in zip("ABCDE", colours, strict=True)),
    )


def test_the_premises_of_a_puzzle_are_found_without_its_options_although_all_their_words_are_common() -> None:
    draw = random.Random(7)
    puzzles = [puzzle(draw) for _ in range(400)]
    held = items([(f"{stem}{options}\nAnswer:", "B") for stem, options in puzzles])
    found = hits([(stem, "answer2") for stem, _ in puzzles], held)
    assert {(row, item) for row, item, _ in found} >= {(row, f"held-{row}") for row in range(400)}
    others = [puzzle(draw)[0] for _ in range(400)]
    known = {stem for stem, _ in puzzles}
    assert hits([(stem, "answer2") for stem in others if stem not in known], held) == []


LIST_TASK = (
    "Let's do some find-the-common-concept problems, in which your goal is to identify the theme of some things."
)


def test_a_stem_of_few_own_words_is_found_with_the_words_of_its_template_before_it() -> None:
    draw = random.Random(3)
    kinds = [" ".join(draw.sample(THINGS, 4)) for _ in range(60)]
    stems = [f"{LIST_TASK}\nWhat do the following have in common? {kind}" for kind in kinds]
    held = items([(f"{stem}\nA:\n\nA. One is a {stem[-5:]}.\nB. All are sold.", "A") for stem in stems])
    found = {(row, item) for row, item, _ in hits([(stem, "The second one.") for stem in stems], held)}
    assert found >= {(row, f"held-{row}") for row in range(60)}
    other = [(f"Here is what I bought for the journey: {kind}, and much else that I need.", "Well.") for kind in kinds]
    assert hits(other, held) == []


TITLES = """Pulp Fiction
Schindler's List
The Lord of the Rings The Return of the King
Star Wars Episode IV - A New Hope
Star Wars Episode V - The Empire Strikes Back
Forrest Gump
The Lion King
The Fugitive
Jurassic Park
The Silence of the Lambs
Dances with Wolves
Apollo 13
The Usual Suspects
Raiders of the Lost Ark
Terminator 2 Judgment Day""".splitlines()
CITIES = """Paris
London
Berlin
Madrid
Lisbon
Vienna
New York City
Rio de Janeiro
San Francisco
Buenos Aires
Delhi
Beijing
Hanoi
Mexico City
Santiago de Chile""".splitlines()
FORMULAS = """x^2 + 1
sin(x)
cos(2x)
x^3 - x
e^x
ln(x + 1)
1/(x + 2)
sqrt(x)
tan(x)
2x + 3
x^2 - 4x + 4
x^4""".splitlines()


@pytest.mark.parametrize(
    ("pool", "ask"),
    [
        (TITLES, "Find a movie similar to {}, {}, {}, {}:\nOptions:\n(A) {} {}\n(B) {} {}\n(C) {} {}\n(D) {} {}"),
        (TITLES, "Which of these movies is the oldest?\n\nA. {}\nB. {}\nC. {}\nD. {}"),
        (CITIES, "Which of these cities is the furthest north?\n\nA. {}\nB. {}\nC. {}\nD. {}"),
        (CITIES, "How far is it by train from {} to {} if the train has to stop in {}?"),
        (FORMULAS, "Which of the following functions has the largest value at x = 1?\n(A) {}\n(B) {}\n(C) {}\n(D) {}"),
    ],
)
def test_lists_from_the_pool_of_titles_names_or_formulas_of_a_task_are_no_items(pool: list[str], ask: str) -> None:
    draw = random.Random(8)
    rare = [f"{thing} {name}" for thing in THINGS for name in NAMES]
    questions: dict[str, None] = {}
    while len(questions) < 200:
        drawn = draw.sample(pool, 4)
        drawn += [word for text in draw.sample(rare, 4) for word in text.split()] if ask.count("{}") > 4 else []
        questions.setdefault(ask.format(*drawn), None)
    held = items([(question, "A") for question in questions])
    lists = [*([text] for text in pool), *permutations(pool, 2)]
    records = [("Name some of them.", "\n".join(f"{n}. {text}" for n, text in enumerate(each, 1))) for each in lists]
    records += [(f"I like {', '.join(each)} very much.", "Why?") for each in lists]
    assert hits(records, held) == []
    found = {(row, item) for row, item, _ in hits([(f"Q: {text}\nA:", "B") for text in questions], held)}
    assert sum((row, f"held-{row}") in found for row in range(200)) >= 0.97 * 200


@pytest.mark.parametrize("end", ["", "\n\nAnswer format: answer1/answer2/answer3/answer4", "\nAnswer:"])
def test_permuted_options_are_found_in_whatever_layout_the_item_has_them(end: str) -> None:
    draw = random.Random(4)
    ask = "Please choose the correct answer to the question:"
    questions = []
    for number in range(80):
        stem = f"Why do {' '.join(f'w{draw.randrange(10**6)}' for _ in range(5))} weigh that much?"
        questions.append((stem, [f"because of {number} {' '.join(draw.sample(THINGS, 3))}" for _ in range(4)]))
    held = items(
        [
            (f"{ask} {stem}\n\n" + " ".join(f"Answer{n}: {text}" for n, text in enumerate(options, 1)) + end, "answer2")
            for stem, options in questions
        ]
    )

    def asked(stem: str, options: list[str]) -> tuple[str, str]:
        return f"{stem}\n" + "\n".join(f"({label}) {text}" for label, text in zip("abcd", options, strict=True)), "(c)"

    found = {(row, item) for row, item, _ in hits([asked(stem, options[::-1]) for stem, options in questions], held)}
    assert found >= {(row, f"held-{row}") for row in range(80)}
    longer = [(f"{ask} {stem[:-1]} on the day on which the market by the river opens?", "No.") for stem, _ in questions]
    assert hits(longer, held) == []


def test_a_template_is_no_hit_where_an_item_seems_to_have_nothing_but_options() -> None:
    task = "In this task you are given sentences from movie reviews. Classify a sentence as POS if its sentiment is "
    task += "positive or as NEG if the sentiment of the sentence is negative."
    draw = random.Random(2)
    reviews = [" ".join(draw.choices(THINGS + NAMES, k=9)) for _ in range(300)]
    held = items([(f"{task}\n\n{text}", "POS") for text in [*reviews, "( A ) soulless , stupid sequel ( B ) ..."]])
    others = [" ".join(draw.choices(THINGS + NAMES, k=9)) for _ in range(100)]
    assert hits([(f"{task}\n\n{text}", "NEG") for text in others], held) == []


def test_a_short_stem_is_found_with_its_options_in_any_order_but_not_with_others() -> None:
    held = items([(choice(SHORT_STEM), "sunlight")])
    records = [
        (choice(SHORT_STEM, OPTIONS[::-1], "({}) "), "(C)"),
        (choice(SHORT_STEM, (OPTIONS[2], OPTIONS[0], OPTIONS[3], OPTIONS[1]), "- "), "the fourth"),
        (choice(SHORT_STEM, ("steel", "glass", "paper", "wood")), "glass"),
    ]
    assert {row for row, _, _ in hits(records, held)} == {0, 1}


def test_a_stem_of_three_words_is_found_with_all_its_options_in_any_order_and_not_with_one_less() -> None:
    options = ("creek beds may be spilling over", "water will be in short supply", "flowers will wilt", "ponds may dry")
    held = items([(choice("After a storm,", options), options[0])])
    records = [
        (choice("After a storm:", options[::-1], "({}) "), "(D)"),
        (choice("After a storm:", (*options[:3], "ponds may freeze"), "({}) "), "(A)"),
    ]
    assert {row for row, _, _ in hits(records, held)} == {0}


def test_a_sentence_of_a_passage_that_is_the_question_must_be_there_as_the_question_too() -> None:
    passage = " ".join(question for question, _ in PROSE[:2])
    held = items([(f"{passage}\n\nSentence: How high up does it reach?", "up")])
    records = [
        (f"{passage}\n\nSentence: How high up does it reach?", "Nowhere."),
        (f"{passage}\n\nSentence: Why does the moon look larger?", "Nowhere."),
    ]
    assert {row for row, _, _ in hits(records, held)} == {0}


def test_another_question_about_the_passage_of_an_item_is_no_hit() -> None:
    passage = " ".join(question for question, _ in PROSE[:2])
    held = items([(f"{passage}\n\nWho does the passage say looks at the moon?", "Nobody.")])
    records = [
        (f"{passage}\n\nWho does the passage say looks at the moon?", "I do not know."),
        (f"{passage}\n\nWhat is the ladder made of?", "Wood."),
        (f"{passage}\n\nWho does the passage say stands on the ladder?", "Nobody."),
    ]
    assert {row for row, _, _ in hits(records, held)} == {0}


def test_items_that_only_options_tell_apart_are_found_with_their_options_alone() -> None:
    asked = ("Which one of the following must be true?", "Which one of the following could be false?")
    passages = [
        "Seven clowns perform at a village fair on Sunday, each once, and the youngest never follows the tallest.",
        "A gardener plants roses, tulips and lilies along two fences so that no bed has flowers of one kind only.",
        "Five ferries cross the wide bay before noon; those with cars take the northern route unless fog comes up.",
        "Every librarian of the old town shelves either maps or novels, and whoever shelves maps works near a window.",
        "Six bakers share three ovens overnight, no oven is ever empty, and rye bread needs the largest of them.",
        "Tourists may climb the tower in groups whose guide speaks Welsh or Basque, though never both languages.",
        "Four engineers inspect bridges upstream from the mill, each on another weekday and always in pairs.",
        "Dancers enter the stage from left or right, those in green shoes last, while musicians remain seated.",
    ]

    def item(passage: str, number: int, choices: list[str]) -> str:
        lines = [f"{letter}.) {choice}" for letter, choice in zip("ABC", choices, strict=True)]
        return "\n".join([f"{passage} {asked[number]}", "Choices:", *lines])

    choices = [
        [f"{name} {verb} {place}" for name in ("Nora", "Omar", "Pia")]
        for verb in ("sings before", "leaves after", "sits beside", "paints below")
        for place in ("the second guest", "the third judge", "her own cousin", "the oldest baker")
    ]
    held = items([(item(passage, n, choices[2 * k + n]), "A") for k, passage in enumerate(passages) for n in (0, 1)])
    records = [
        (item(passages[0], 0, choices[0]), "B"),
        (item(passages[1], 1, choices[3][::-1]), "C"),
        (f"{passages[2]} {asked[0]}", "It is not stated."),
        (item(passages[3], 0, ["Kim eats a pear", "Lea has a red hat", "Max went home early"]), "A"),
    ]
    assert {row for row, _, _ in hits(records, held)} == {0, 1}


def test_number_words_are_the_same_as_digits_but_other_numbers_are_not() -> None:
    question = (
        "Two trains with twelve wagons each leave the old station for the harbour. How many wagons are on the way?"
    )
    held = items([(question, "24")])
    records = [
        (question.replace("Two", "2").replace("twelve", "12"), "24"),
        (question.replace("Two", "Three"), "36"),
        (question.replace("twelve", "11"), "22"),
    ]
    assert {row for row, _, _ in hits(records, held)} == {0}


def test_prompts_without_a_reference_are_found() -> None:
    prompts = items([(question, "") for question, _ in PROSE])
    assert hits([(PROSE[0][0], "Anything at all.")], prompts) == [(0, "held-0", "question")]


def test_one_record_may_contain_several_items() -> None:
    pairs = problems(1, 30)
    shots = "\n\n".join(f"Q: {question}\nA: {answer}" for question, answer in pairs[:4])
    assert {item for _, item, _ in hits([(shots, "Next?")], items(pairs))} == {f"held-{n}" for n in range(4)}


def test_coverage_sets_how_much_of_a_question_must_be_there() -> None:
    sentence = (
        "the old grey bridge over a narrow stream was built by people who came from far away long before anyone "
        "wrote about such things in books that others could read and keep"
    )
    words = sentence.split()
    part = " ".join(words[: len(words) * 3 // 4]) + ", as I was told"
    held = items([(sentence, "")])
    assert hits([(part, "yes")], held, coverage=0.9) == []
    assert hits([(sentence, "yes")], held, coverage=1.0) == [(0, "held-0", "question")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A build with two leaks: a question in a train row, and a solution in another file."""
    folder = tmp_path_factory.mktemp("decontaminate")
    held, train = problems(1, 40), problems(2, 120)
    rows = [{"instruction": a, "response": b} for a, b in train]
    rows[7] = {"instruction": f"Question: {held[3][0]}", "response": "I do not know."}
    write_jsonl(folder / "a.jsonl", rows[:60])
    write_jsonl(folder / "b.jsonl", [*rows[60:], {"instruction": "Show your work.", "response": held[5][1]}])
    write_jsonl(folder / "held.jsonl", [{"question": a, "answer": b} for a, b in held])
    write_jsonl(folder / "prompts.jsonl", [{"text": PROSE[0][0]}])
    (folder / "mix.yaml").write_text(
        """
name: leaks
sources:
  - {name: train, path: [a.jsonl, b.jsonl]}
  - {name: held, path: held.jsonl, role: eval}
  - {name: prompts, path: prompts.jsonl, role: eval, map: {instruction: "{text}"}}
tokenizer: {vocab_size: 400, sample_bytes: 100kB}
"""
    )
    dataset = run_build(folder / "mix.yaml", folder / "out")
    return {"folder": folder, "dataset": dataset}


@pytest.mark.slow
def test_a_build_drops_the_leaks_and_nothing_else(built: dict[str, Any]) -> None:
    ledger = pl.read_parquet(built["folder"] / "out/ledger/rows-*.parquet")
    lost = ledger.filter(pl.col("outcome") == "contaminated").sort("file")
    assert lost.select("file", "row").rows() == [("a.jsonl", 7), ("b.jsonl", 60)]
    assert lost["score"].to_list() == [1.0, 1.0]
    assert [detail.split(" of item ")[0] for detail in lost["detail"]] == ["holds the question", "holds the solution"]
    assert built["dataset"]["counts"]["train"]["kept"] == 119


@pytest.mark.slow
def test_the_report_counts_each_eval_source_and_shows_hits_side_by_side(built: dict[str, Any]) -> None:
    report = built["folder"] / "out/report"
    sets = pl.read_parquet(report / "contamination.parquet")
    assert sets.rows() == [("held", 40, 40, 2, 2), ("prompts", 1, 1, 0, 0)]
    hits = pl.read_parquet(report / "contamination_hits.parquet")
    assert sorted(hits["part"]) == ["question", "solution"]
    examples = pl.read_parquet(report / "contamination_examples.parquet").sort("part")
    question = problems(1, 40)[3][0]
    assert examples["item_text"][0].startswith(question)
    assert examples["record_text"][0].startswith(question)
    assert question in unescape((report / "index.html").read_text())


@pytest.mark.slow
def test_a_mix_can_switch_decontamination_off(built: dict[str, Any], tmp_path: Path) -> None:
    dataset = run_build(built["folder"] / "mix.yaml", tmp_path / "out", overrides=("decontaminate.enabled=false",))
    assert dataset["counts"]["train"]["kept"] == 121
