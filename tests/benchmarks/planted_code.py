"""Programs and algebra that differ in one sign, literal, name, indentation or letter case: none is a duplicate."""

import random
import re
from collections.abc import Callable, Mapping

Pair = tuple[str, str]

NAMES = (
    "total", "count", "price", "width", "height", "value", "index", "left", "right", "start", "begin", "end", "first",
    "item", "items", "rows", "big", "small", "main", "the_sum", "a", "b", "n", "x", "y", "z", "name", "text", "data",
)  # fmt: skip
OPERATORS = ("+", "-", "*", "/", "%", "//", "**")
COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")


def program(draw: random.Random) -> Pair:
    """A task and a function of a few lines."""
    a, b, c, d = draw.sample(NAMES, 4)
    one, two = draw.sample(OPERATORS, 2)
    lines = [
        f"def compute({a}, {b}, {c}):",
        f"    {d} = ({a} {one} {b}) {two} {c}",
        f"    for item in {a}[{draw.randint(1, 9)}:]:",
        f"        if item {draw.choice(COMPARISONS)} {draw.randint(2, 99)}:",
        f"            {d} = {d} {draw.choice(OPERATORS)} item",
        f'        print("{draw.choice(NAMES)} is", {d})',
        f"    return {d}",
    ]
    tasks = ("Write a function that computes the {} of the {}.", "Implement {} for every {} of a list in Python.")
    return draw.choice(tasks).format(a, b), "\n".join(lines)


def algebra(draw: random.Random) -> Pair:
    """An exercise with its result."""
    x, y, z = draw.sample("abcmnpqxyz", 3)
    one, two = draw.choice("+-"), draw.choice("+-")
    task = draw.choice(("Expand", "Factor", "Simplify", "Write as one fraction:"))
    formula = f"({x} {one} {draw.randint(2, 9)}{y})({x} {two} {z})"
    return (
        f"{task} {formula} and explain every step of it in full sentences.",
        f"We multiply each term of the one bracket by each of the other, and collect what is alike. It gives {formula}"
        f" = {x}^2 {one} {x}{y} {two} {x}{z}, which is the result that was to be shown.",
    )


def _swapped(text: str, pattern: str, other: Callable[[str], str], draw: random.Random) -> str | None:
    """The text with one match of a pattern replaced."""
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    match = draw.choice(found)
    changed = other(match[0])
    return None if changed == match[0] else text[: match.start()] + changed + text[match.end() :]


def operator(code: str, draw: random.Random) -> str | None:
    """Another operator between blanks."""
    signs = "|".join(re.escape(sign) for sign in (*OPERATORS, *COMPARISONS))
    every = (*OPERATORS, *COMPARISONS)
    return _swapped(code, rf"(?<= )({signs})(?= )", lambda old: draw.choice([s for s in every if s != old]), draw)


def bracket(code: str, draw: random.Random) -> str | None:
    """The brackets around another part of the expression."""
    return re.sub(r"\((\w+) (\S+) (\w+)\) (\S+) (\w+)", r"\1 \2 (\3 \4 \5)", code, count=1)


def slice_end(code: str, draw: random.Random) -> str | None:
    """The other end of a slice."""
    return re.sub(r"\[(\d+):\]", r"[:\1]", code, count=1)


def indentation(code: str, draw: random.Random) -> str | None:
    """One line more or less deep."""
    lines = code.split("\n")
    place = draw.randrange(2, len(lines))
    lines[place] = draw.choice(("    " + lines[place], lines[place].removeprefix("    ")))
    return "\n".join(lines)


def literal(code: str, draw: random.Random) -> str | None:
    """Another number or string."""
    if draw.random() < 0.5:
        return _swapped(code, r"\b\d+\b", lambda old: str(int(old) + 1), draw)
    return _swapped(code, r'(?<=")\w+', lambda old: draw.choice([name for name in NAMES if name != old]), draw)


def identifier(code: str, draw: random.Random) -> str | None:
    """Another name in one place."""
    names = "|".join(NAMES)
    return _swapped(code, rf"\b({names})\b", lambda old: draw.choice([n for n in NAMES if n != old]), draw)


def letter_case(code: str, draw: random.Random) -> str | None:
    """One name with a capital."""
    return _swapped(code, rf"\b({'|'.join(NAMES)})\b", str.capitalize, draw)


CODE: Mapping[str, Callable[[str, random.Random], str | None]] = {
    "operator": operator,
    "bracket": bracket,
    "slice": slice_end,
    "indentation": indentation,
    "literal": literal,
    "identifier": identifier,
    "letter case": letter_case,
}


def planted_code(count: int, draw: random.Random) -> list[tuple[str, Pair, Pair]]:
    """Kind, record, and the record that differs from it, `count` of each kind."""
    rows: list[tuple[str, Pair, Pair]] = []
    for kind, change in CODE.items():
        left = count
        while left:
            base = program(draw)
            changed = change(base[1], draw)
            if changed is not None and changed != base[1]:
                rows.append((f"code: {kind}", base, (base[0], changed)))
                left -= 1
    for _ in range(count):
        base = algebra(draw)
        place = draw.choice([m.start() for m in re.finditer(r"(?<= )[+-](?= )", base[0])])
        turned = "-" if base[0][place] == "+" else "+"
        rows.append(("algebra: sign", base, (base[0][:place] + turned + base[0][place + 1 :], base[1])))
    return rows
