"""Lists of letters: sort, reverse, count, and small edits."""

import string
from random import Random

from corpus.generators.family import Family, Text

LETTERS = string.ascii_lowercase

Count = tuple[str, str]
"""The letter to count, and the letters."""

Edit = tuple[str, str, str, str]
"""Operation, the letter it applies to, the letter that replaces it (or ""), and the letters."""


def _spaced(letters: str) -> str:
    return " ".join(letters)


def draw_sorting(rng: Random) -> str:
    # The answer does not depend on the order, so the problem is the set of letters.
    return "".join(sorted(rng.sample(LETTERS, rng.randint(3, 6))))


def phrase_sorting(letters: str, rng: Random) -> Text:
    shuffled = _spaced("".join(rng.sample(letters, len(letters))))
    if rng.random() < 0.5:
        return Text(rng.choice((f"Sort: {shuffled}", f"Put in order: {shuffled}")), _spaced(letters))
    question = rng.choice((f"Sort from z to a: {shuffled}", f"Put in backward order: {shuffled}"))
    return Text(question, _spaced(letters[::-1]))


def draw_reversal(rng: Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(3, 7)))


def phrase_reversal(letters: str, rng: Random) -> Text:
    question = rng.choice(("Reverse", "Write backwards", "Turn around"))
    return Text(f"{question}: {_spaced(letters)}", _spaced(letters[::-1]))


def draw_counting(rng: Random) -> Count:
    # Few different letters, so that counts vary.
    few = rng.sample(LETTERS, 3)
    letter = rng.choice(few)
    return letter, "".join(rng.choices(few, k=rng.randint(3, 6)))


def phrase_counting(problem: Count, rng: Random) -> Text:
    letter, letters = problem
    question = rng.choice((f"Count the letter {letter}", f"How often does {letter} occur"))
    return Text(f"{question}: {_spaced(letters)}", str(letters.count(letter)))


def draw_edit(rng: Random) -> Edit:
    letters = "".join(rng.choices(LETTERS, k=rng.randint(3, 6)))
    what = rng.choice(("replace", "delete", "double", "append"))
    if what == "append":
        return what, rng.choice(LETTERS), "", letters
    new = rng.choice(LETTERS) if what == "replace" else ""
    return what, rng.choice(letters), new, letters


def phrase_edit(problem: Edit, rng: Random) -> Text:
    what, letter, new, letters = problem
    if what == "replace":
        question, result = f"Replace {letter} by {new}", letters.replace(letter, new)
    elif what == "delete":
        question, result = f"{rng.choice(('Delete', 'Remove'))} {letter}", letters.replace(letter, "")
    elif what == "double":
        question, result = f"Double {letter}", letters.replace(letter, letter * 2)
    else:
        question, result = f"Append {letter}", letters + letter
    return Text(f"{question}:\n{_spaced(letters)}", _spaced(result) or "nothing")


SORTING = Family(
    name="sorting",
    about="Sort three to six different letters, upwards or downwards.",
    problems=313_000,
    draw=draw_sorting,
    phrase=phrase_sorting,
    schema="completion",
)

REVERSAL = Family(
    name="reversal",
    about="Write three to seven letters in reverse order.",
    problems=8_000_000_000,
    draw=draw_reversal,
    phrase=phrase_reversal,
    schema="conversations",
)

COUNTING = Family(
    name="counting",
    about="Count a letter in a list of three to six.",
    problems=4_000_000,
    draw=draw_counting,
    phrase=phrase_counting,
    schema="question",
)

EDITS = Family(
    name="edits",
    about="Replace, delete, double or append a letter in a list of three to six.",
    problems=8_000_000_000,
    draw=draw_edit,
    phrase=phrase_edit,
    schema="alpaca",
)
