"""Linear equations in one unknown with a whole solution."""

from random import Random

from corpus.generators.family import Family, Text

Problem = tuple[str, int, int]
"""Form ("x+a", "x-a", "a-x", "ax"), its number a, and the solution."""


def draw(rng: Random) -> Problem:
    form = rng.choice(("x+a", "x-a", "a-x", "ax"))
    if form == "ax":
        return form, rng.randint(2, 9), rng.randint(2, 99)
    a, x = rng.randint(1, 99), rng.randint(1, 99)
    return (form, max(a, x), min(a, x)) if form == "a-x" else (form, a, x)


def phrase(problem: Problem, rng: Random) -> Text:
    form, a, x = problem
    name = rng.choice("xyzn")
    if form == "x+a":
        left, right = rng.choice((f"{name} + {a}", f"{a} + {name}")), x + a
    elif form == "x-a":
        left, right = f"{name} - {a}", x - a
    elif form == "a-x":
        left, right = f"{a} - {name}", a - x
    else:
        left, right = f"{a}{name}", a * x
    question = rng.choice((f"Solve {left} = {right}.", f"Find {name}: {left} = {right}"))
    return Text(question, f"{name} = {x}")


EQUATIONS = Family(
    name="equations",
    about="Solve a linear equation with one operation.",
    problems=20_000,
    draw=draw,
    phrase=phrase,
    schema="pair",
)
