"""Number sequences with a constant step: which term comes next."""

from random import Random

from corpus.generators.family import Family, Text

Problem = tuple[int, int]
"""The next term, and the step to it."""


def draw(rng: Random) -> Problem:
    step = rng.choice((1, 2, 3, 4, 5, 6, 10, 11, 20, 50, 100)) * rng.choice((1, -1))
    first = rng.randint(1, 999)
    return (first, step) if first - 4 * step > 0 else (first + 4 * step, step)


def phrase(problem: Problem, rng: Random) -> Text:
    answer, step = problem
    shown = ", ".join(str(answer - step * back) for back in range(rng.choice((3, 4)), 0, -1))
    question = rng.choice((f"What comes next: {shown}?", f"Continue: {shown}, ..."))
    return Text(question, str(answer))


SEQUENCES = Family(
    name="sequences",
    about="Name the next term of a sequence with a constant step.",
    problems=20_000,
    draw=draw,
    phrase=phrase,
    schema="messages",
)
