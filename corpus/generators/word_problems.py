"""Small stories with numbers, answered directly or step by step.

Both families draw the same problems, and the split depends on story and numbers
only: a problem that is held out from one family is held out from the other,
whatever name and things the story has.
"""

from random import Random

from corpus.generators.family import Family, Text
from corpus.generators.words import NAMES, THINGS

Problem = tuple[str, int, int, int]
"""Story, and its three numbers."""


def draw(rng: Random) -> Problem:
    story = rng.choice(("buys and gives", "gives and buys", "boxes and more", "shares"))
    if story == "boxes and more":
        return story, rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 40)
    if story == "shares":
        people, each = rng.randint(2, 9), rng.randint(2, 9)
        first = rng.randint(1, people * each - 1)
        return story, first, people * each - first, people
    have, more = rng.randint(2, 50), rng.randint(2, 40)
    most = have + more if story == "buys and gives" else have
    return story, have, more, rng.randint(1, most - 1)


def narrate(problem: Problem, rng: Random) -> tuple[str, list[str], int]:
    """Return the question, the steps of its solution, and the answer."""
    story, a, b, c = problem
    who, things = rng.choice(NAMES), rng.choice(THINGS)
    if story == "buys and gives":
        text = f"{who} has {a} {things}, buys {b} and gives away {c}."
        return f"{text} How many are left?", [f"{a} + {b} = {a + b}", f"{a + b} - {c} = {a + b - c}"], a + b - c
    if story == "gives and buys":
        text = f"{who} has {a} {things}, gives away {c} and buys {b}."
        return f"{text} How many are there now?", [f"{a} - {c} = {a - c}", f"{a - c} + {b} = {a - c + b}"], a - c + b
    if story == "boxes and more":
        text = f"{who} has {a} boxes of {b} {things} and {c} more."
        return f"{text} How many is that?", [f"{a} * {b} = {a * b}", f"{a * b} + {c} = {a * b + c}"], a * b + c
    text = f"{who} has {a} {things}, finds {b} and shares all among {c}."
    each = (a + b) // c
    return f"{text} How many does each get?", [f"{a} + {b} = {a + b}", f"{a + b} / {c} = {each}"], each


def phrase_direct(problem: Problem, rng: Random) -> Text:
    question, _, answer = narrate(problem, rng)
    return Text(question, str(answer))


def phrase_steps(problem: Problem, rng: Random) -> Text:
    question, steps, answer = narrate(problem, rng)
    return Text(question, "\n".join((*steps, f"Answer: {answer}")), "cot")


_SIZE = 140_000

WORD_PROBLEMS = Family(
    name="word_problems",
    about="Two-step stories with whole numbers; only the answer is given.",
    problems=_SIZE,
    draw=draw,
    phrase=phrase_direct,
    schema="question",
)

WORD_PROBLEMS_COT = Family(
    name="word_problems_cot",
    about="The same stories, answered step by step.",
    problems=_SIZE,
    draw=draw,
    phrase=phrase_steps,
    schema="messages",
)
