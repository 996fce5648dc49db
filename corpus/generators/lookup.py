"""Finding one fact among several."""

from random import Random

from corpus.generators.family import Family, Text
from corpus.generators.words import NAMES, THINGS

Problem = tuple[tuple[str, int, str], ...]
"""Who has how many of what, ordered by name."""


def draw(rng: Random) -> Problem:
    people = sorted(rng.sample(NAMES, rng.randint(2, 3)))
    return tuple((name, rng.randint(2, 99), rng.choice(THINGS)) for name in people)


def phrase(problem: Problem, rng: Random) -> Text:
    facts = " ".join(f"{name} has {many} {things}." for name, many, things in rng.sample(problem, len(problem)))
    name, many, things = rng.choice(problem)
    return Text(f"{facts} What does {name} have?", f"{many} {things}")


LOOKUP = Family(
    name="lookup",
    about="Two or three people have some things each: what does one of them have?",
    problems=100_000_000,
    draw=draw,
    phrase=phrase,
    schema="messages",
)
