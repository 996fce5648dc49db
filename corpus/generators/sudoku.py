"""Sudoku of 4 × 4 cells: each row, column and 2 × 2 block holds 1 to 4.

The split depends on the solved grid: no puzzle whose solution is held out is a
training row, whichever of its cells are open.
"""

from functools import cache, reduce
from itertools import permutations
from operator import and_
from random import Random

from corpus.generators.family import Family, Text

Problem = tuple[str, tuple[int, ...]]
"""The solved grid as 16 digits, row by row; and which cells are open, ascending."""

_ROW_STARTS = (0, 4, 8, 12)


@cache
def grids() -> tuple[str, ...]:
    """Return all 288 solved grids."""
    found: list[str] = []

    def extend(rows: tuple[str, ...]) -> None:
        if len(rows) == 4:
            found.append("".join(rows))
            return
        for row in map("".join, permutations("1234")):
            columns_differ = all(row[i] != above[i] for above in rows for i in range(4))
            blocks_differ = len(rows) % 2 == 0 or all(
                len(set(rows[-1][i : i + 2] + row[i : i + 2])) == 4 for i in (0, 2)
            )
            if columns_differ and blocks_differ:
                extend((*rows, row))

    extend(())
    return tuple(found)


@cache
def _grids_with() -> dict[tuple[int, str], int]:
    """Map a cell and a digit to the grids that have it there, as a bit mask: bit i is grid i."""
    return {
        (cell, digit): sum(1 << number for number, grid in enumerate(grids()) if grid[cell] == digit)
        for cell in range(16)
        for digit in "1234"
    }


def draw(rng: Random) -> Problem:
    while True:
        number = rng.randrange(len(grids()))
        grid = grids()[number]
        given = set(rng.sample(range(16), rng.randint(10, 12)))
        candidates = reduce(and_, (_grids_with()[cell, grid[cell]] for cell in given))
        if candidates == 1 << number:
            return grid, tuple(cell for cell in range(16) if cell not in given)


def phrase(problem: Problem, rng: Random) -> Text:
    grid, opened = problem
    puzzle = "".join("0" if cell in opened else digit for cell, digit in enumerate(grid))
    question = rng.choice(("Solve the Sudoku.", "Fill in the Sudoku."))
    return Text(f"{question}\n{_lines(puzzle)}", _lines(grid))


def _lines(cells: str) -> str:
    return "\n".join(cells[start : start + 4] for start in _ROW_STARTS)


SUDOKU = Family(
    name="sudoku",
    about="Solve a 4 × 4 Sudoku with four to six open cells (0) and one solution.",
    problems=1_000_000,
    draw=draw,
    phrase=phrase,
    schema="alpaca",
    identity=lambda problem: problem[0],
)
