"""Conversions between decimal units of length, mass, volume, money and area."""

from random import Random

from corpus.generators.family import Family, Text

FACTORS = {
    ("km", "m"): 1000,
    ("m", "cm"): 100,
    ("cm", "mm"): 10,
    ("m", "mm"): 1000,
    ("kg", "g"): 1000,
    ("t", "kg"): 1000,
    ("l", "ml"): 1000,
    ("l", "cl"): 100,
    ("cl", "ml"): 10,
    ("euros", "cents"): 100,
    ("dollars", "cents"): 100,
    ("dm", "cm"): 10,
}
"""How many of the second unit make one of the first."""

Problem = tuple[int, str, str]
"""How many of the larger unit; larger unit; smaller unit."""


def draw(rng: Random) -> Problem:
    return rng.randint(1, 999), *rng.choice(list(FACTORS))


def phrase(problem: Problem, rng: Random) -> Text:
    amount, large, small = problem
    many = amount * FACTORS[large, small]
    if rng.random() < 0.5:
        question = rng.choice((f"Convert {amount} {large} to {small}.", f"How many {small} are {amount} {large}?"))
        return Text(question, f"{many} {small}")
    question = rng.choice((f"Convert {many} {small} to {large}.", f"How many {large} are {many} {small}?"))
    return Text(question, f"{amount} {large}")


UNITS = Family(
    name="units",
    about="Convert a whole amount between two units, either way.",
    problems=11_000,
    draw=draw,
    phrase=phrase,
    schema="completion",
)
