"""Sums, differences and products of small whole numbers."""

from random import Random

from corpus.generators.family import Family, Text

Problem = tuple[str, int, int]
"""Operation and operands; of a sum or product the larger operand first."""


def draw(rng: Random) -> Problem:
    operation = rng.choice("++--*")
    if operation == "*":
        a, b = rng.randint(2, 99), rng.randint(2, 9)
    else:
        a, b = rng.randint(1, 199), rng.randint(1, 99)
    return operation, max(a, b), min(a, b)


def phrase(problem: Problem, rng: Random) -> Text:
    operation, a, b = problem
    answer = {"+": a + b, "-": a - b, "*": a * b}[operation]
    if operation != "-" and rng.random() < 0.5:
        a, b = b, a
    question = rng.choice(
        (f"{a} {operation} {b} =", f"Calculate {a} {operation} {b}.", f"What is {a} {operation} {b}?")
    )
    return Text(question, str(answer))


ARITHMETIC = Family(
    name="arithmetic",
    about="Add, subtract or multiply two whole numbers.",
    problems=30_000,
    draw=draw,
    phrase=phrase,
    schema="pair",
)
