"""Which of two numbers is larger or smaller, and what is the largest or smallest of several."""

from random import Random

from corpus.generators.family import Family, Text

Problem = tuple[str, tuple[int, ...]]
"""What is asked for ("larger" or "smaller"), and the numbers in ascending order."""


def draw(rng: Random) -> Problem:
    return rng.choice(("larger", "smaller")), tuple(sorted(rng.sample(range(10, 1000), 2)))


def phrase(problem: Problem, rng: Random) -> Text:
    asked, numbers = problem
    answer = numbers[-1] if asked == "larger" else numbers[0]
    a, b = rng.sample(numbers, 2)
    question = rng.choice((f"Which is {asked}: {a} or {b}?", f"Give the {asked} of {a} and {b}."))
    return Text(question, str(answer))


COMPARISONS = Family(
    name="comparisons",
    about="Name the larger or the smaller of two numbers below 1,000.",
    problems=970_000,
    draw=draw,
    phrase=phrase,
    schema="question",
)
