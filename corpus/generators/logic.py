"""Truth values of small formulas, and the order of people who are compared in pairs."""

from itertools import pairwise
from random import Random

from corpus.generators.family import Family, Text
from corpus.generators.words import NAMES

Formula = tuple[tuple[str, ...], tuple[bool, ...], tuple[bool, ...]]
"""Connectives between the terms (read from left to right); the terms' truth values; which terms are negated."""

Ranking = tuple[str, tuple[str, ...]]
"""Comparative, and the people from most to least."""

ENDS = {
    "older": ("oldest", "youngest"),
    "taller": ("tallest", "shortest"),
    "faster": ("fastest", "slowest"),
    "richer": ("richest", "poorest"),
}
"""What the first and the last of a ranking are called."""


def draw_formula(rng: Random) -> Formula:
    terms = rng.randint(4, 6)
    connectives = tuple(rng.choice(("and", "or")) for _ in range(terms - 1))
    values, negated = (tuple(rng.random() < 0.5 for _ in range(terms)) for _ in range(2))
    return connectives, values, negated


def phrase_formula(problem: Formula, rng: Random) -> Text:
    connectives, values, negated = problem
    words = [("not " if no else "") + ("true" if yes else "false") for yes, no in zip(values, negated, strict=True)]
    result = values[0] != negated[0]
    for connective, value, no in zip(connectives, values[1:], negated[1:], strict=True):
        term = value != no
        result = (result and term) if connective == "and" else (result or term)
    formula = words[0] + "".join(f" {c} {w}" for c, w in zip(connectives, words[1:], strict=True))
    question = rng.choice(("From left to right:", "Evaluate from the left:"))
    return Text(f"{question} {formula}", "true" if result else "false")


def draw_ranking(rng: Random) -> Ranking:
    people = tuple(rng.sample(NAMES, 3))
    return rng.choice(list(ENDS)), people


def phrase_ranking(problem: Ranking, rng: Random) -> Text:
    comparative, people = problem
    facts = [f"{a} is {comparative} than {b}." for a, b in pairwise(people)]
    rng.shuffle(facts)
    end = rng.randrange(2)
    return Text(f"{' '.join(facts)} Who is the {ENDS[comparative][end]}?", people[-end])


LOGIC = Family(
    name="logic",
    about="Evaluate a formula of four to six truth values from left to right.",
    problems=149_000,
    draw=draw_formula,
    phrase=phrase_formula,
    schema="completion",
)

RANKING = Family(
    name="ranking",
    about="Three people are compared in pairs: who is at one end?",
    problems=27_000,
    draw=draw_ranking,
    phrase=phrase_ranking,
    schema="conversations",
)
