"""Comparing numbers: the larger or smaller of two, the largest or smallest of several."""

from random import Random

from corpus.generators.family import Family, Text

Problem = tuple[int, ...]
"""The numbers in ascending order."""


def draw_two(rng: Random) -> Problem:
    return tuple(sorted(rng.sample(range(10, 1000), 2)))


def draw_several(rng: Random) -> Problem:
    return tuple(sorted(rng.sample(range(10, 100), rng.randint(3, 5))))


def phrase(problem: Problem, rng: Random) -> Text:
    ending = "er" if len(problem) == 2 else "est"
    superlative, answer = rng.choice(((f"larg{ending}", problem[-1]), (f"small{ending}", problem[0])))
    shuffled = [str(number) for number in rng.sample(problem, len(problem))]
    either = ", ".join(shuffled[:-1]) + f" or {shuffled[-1]}"
    both = ", ".join(shuffled[:-1]) + f" and {shuffled[-1]}"
    question = rng.choice((f"Which is {superlative}: {either}?", f"Give the {superlative} of {both}."))
    return Text(question, str(answer))


COMPARISONS = Family(
    name="comparisons",
    about="Name the larger or the smaller of two numbers below 1,000.",
    problems=489_000,
    draw=draw_two,
    phrase=phrase,
    schema="question",
)

EXTREMES = Family(
    name="extremes",
    about="Name the largest or the smallest of three to five numbers below 100.",
    problems=46_000_000,
    draw=draw_several,
    phrase=phrase,
    schema="messages",
)
