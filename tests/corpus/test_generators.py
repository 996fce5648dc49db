"""Generated families: answers are right, held-out problems are not in training rows, and defects are as documented."""

import json
import re
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import ConfigError
from corpus.generators import FAMILIES, open_generator
from corpus.generators.dirt import RATES, Dirt, disguise
from corpus.generators.family import HELDOUT_PERCENT, Text, split_of

families = pytest.mark.parametrize("name", FAMILIES)


def pair_of(line: bytes) -> tuple[str, str]:
    """Return instruction and response of a clean line of any schema."""
    row = json.loads(line)
    if turns := row.get("messages") or row.get("conversations"):
        question, answer = (turn.get("content", turn.get("value")) for turn in turns)
        return question, answer
    instruction = next(row[field] for field in ("instruction", "prompt", "question") if field in row)
    if "input" in row:
        instruction = f"{instruction}\n{row['input']}"
    return instruction, next(row[field] for field in ("response", "completion", "answer", "output") if field in row)


def plain(instruction: str) -> str:
    return " ".join(instruction.split()).casefold()


# Each check derives the answer from the instruction's text, by another method than the family.

MONTHS = re.findall("[A-Z][a-z]+", "JanuaryFebruaryMarchAprilMayJuneJulyAugustSeptemberOctoberNovemberDecember")


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def letters_of(instruction: str) -> list[str]:
    return re.split(r":\s", instruction, maxsplit=1)[1].split()


def read_date(words: str) -> date:
    day, month, year = re.search(rf"(\d+) ({'|'.join(MONTHS)}) (\d{{4}})", words).groups()
    return date(int(year), MONTHS.index(month) + 1, int(day))


def solve_arithmetic(question: str, answer: str) -> bool:
    a, operation, b = re.search(r"(\d+) ([-+*]) (\d+)", question).groups()
    return int(answer) == eval(f"{a}{operation}{b}")


def solve_equations(question: str, answer: str) -> bool:
    left, right = re.search(r"(?:Solve |: )(.*) = (-?\d+)", question).groups()
    name, value = answer.split(" = ")
    return eval(re.sub(rf"(\d){name}", rf"\1*{name}", left), {name: int(value)}) == int(right)


def solve_sequences(question: str, answer: str) -> bool:
    terms = [*numbers(question), int(answer)]
    return len({later - earlier for earlier, later in pairwise(terms)}) == 1


def solve_units(question: str, answer: str) -> bool:
    sizes = {"km": 10**6, "m": 1000, "dm": 100, "cm": 10, "mm": 1, "t": 10**6, "kg": 1000, "g": 1, "l": 1000}
    sizes |= {"cl": 10, "ml": 1, "euros": 100, "dollars": 100, "cents": 1}
    if converted := re.fullmatch(r"Convert (\d+) (\w+) to (\w+)\.", question):
        amount, given, wanted = converted.groups()
    else:
        wanted, amount, given = re.fullmatch(r"How many (\w+) are (\d+) (\w+)\?", question).groups()
    many, unit = answer.split()
    return unit == wanted and int(many) * sizes[wanted] == int(amount) * sizes[given]


def solve_extremes(question: str, answer: str) -> bool:
    return int(answer) == (max if "larg" in question else min)(numbers(question))


def solve_sorting(question: str, answer: str) -> bool:
    down = "z to a" in question or "backward" in question
    return answer.split() == sorted(letters_of(question), reverse=down)


def solve_reversal(question: str, answer: str) -> bool:
    return answer.split() == list(reversed(letters_of(question)))


def solve_counting(question: str, answer: str) -> bool:
    letter = re.search(r"\b([a-z])( occur)?:", question)[1]
    return int(answer) == Counter(letters_of(question))[letter]


def solve_edits(question: str, answer: str) -> bool:
    command, letters = question.split(":")[0].split(), letters_of(question)
    edit = {
        "Replace": lambda letter: [command[-1]] if letter == command[1] else [letter],
        "Delete": lambda letter: [] if letter == command[1] else [letter],
        "Remove": lambda letter: [] if letter == command[1] else [letter],
        "Double": lambda letter: [letter, letter] if letter == command[1] else [letter],
        "Append": lambda letter: [letter],
    }[command[0]]
    result = [new for letter in letters for new in edit(letter)] + ([command[1]] if command[0] == "Append" else [])
    return answer == (" ".join(result) or "nothing")


def solve_date_formats(question: str, answer: str) -> bool:
    if found := re.search(r"\d{4}-\d\d-\d\d", question):
        return read_date(answer) == date.fromisoformat(found[0])
    return read_date(question) == date.fromisoformat(answer)


def solve_calendar(question: str, answer: str) -> bool:
    days = timedelta(days=numbers(question)[0])
    start = read_date(question)
    return read_date(answer) == (start + days if " after " in question else start - days)


def solve_logic(question: str, answer: str) -> bool:
    words = question.split(": ")[1].replace("not true", "False").replace("not false", "True").title().split()
    formula = "(" * (len(words) // 2) + words[0]
    for connective, term in zip(words[1::2], words[2::2], strict=True):
        formula += f" {connective.lower()} {term})"
    return answer == str(bool(eval(formula))).lower()


def solve_ranking(question: str, answer: str) -> bool:
    above = re.findall(r"(\w+) is \w+ than (\w+)\.", question)
    first = ({a for a, _ in above} - {b for _, b in above}).pop()
    last = ({b for _, b in above} - {a for a, _ in above}).pop()
    return answer == (last if re.search("youngest|shortest|slowest|poorest", question) else first)


def solve_lookup(question: str, answer: str) -> bool:
    asked = re.search(r"What does (\w+) have\?", question)[1]
    return re.findall(rf"{asked} has (\d+ \w+)\.", question) == [answer]


def solve_sudoku(question: str, answer: str) -> bool:
    puzzle, grid = "".join(question.split("\n")[-4:]), answer.replace("\n", "")
    groups = [[4 * row + column for column in range(4)] for row in range(4)]
    groups += [[4 * row + column for row in range(4)] for column in range(4)]
    groups += [[8 * (b // 2) + 2 * (b % 2) + offset for offset in (0, 1, 4, 5)] for b in range(4)]
    kept = all(shown in ("0", digit) for shown, digit in zip(puzzle, grid, strict=True))
    return kept and all({grid[cell] for cell in group} == set("1234") for group in groups)


def solve_word_problems(question: str, answer: str) -> bool:
    a, b, c = numbers(question)
    if "boxes" in question:
        return int(answer) == a * b + c
    if "shares" in question:
        return int(answer) * c == a + b
    return int(answer) == (a + b - c if "are left" in question else a - b + c)


def solve_word_problems_cot(question: str, answer: str) -> bool:
    *steps, last = answer.split("\n")
    sides = [step.split(" = ") for step in steps]
    return all(eval(left) == int(right) for left, right in sides) and (
        last == f"Answer: {sides[-1][1]}" and solve_word_problems(question, sides[-1][1])
    )


SOLVERS = {
    "arithmetic": solve_arithmetic,
    "equations": solve_equations,
    "sequences": solve_sequences,
    "units": solve_units,
    "comparisons": solve_extremes,
    "extremes": solve_extremes,
    "sorting": solve_sorting,
    "reversal": solve_reversal,
    "counting": solve_counting,
    "edits": solve_edits,
    "date_formats": solve_date_formats,
    "calendar": solve_calendar,
    "logic": solve_logic,
    "ranking": solve_ranking,
    "lookup": solve_lookup,
    "sudoku": solve_sudoku,
    "word_problems": solve_word_problems,
    "word_problems_cot": solve_word_problems_cot,
}


@families
def test_answers_are_right_by_an_independent_check(name: str) -> None:
    for line in open_generator(name, rows=300, seed=1, split="heldout"):
        instruction, response = pair_of(line)
        assert SOLVERS[name](instruction, response), (instruction, response)


@families
def test_no_heldout_problem_is_in_training_rows_in_any_wording(name: str) -> None:
    family = FAMILIES[name]

    def problems(split: Any, seed: int) -> set[str]:
        return {repr(family.identity(family.draw_from(split, Random(f"{seed} {draw}")))) for draw in range(2_000)}

    assert not problems("train", 0) & problems("heldout", 1)


def test_no_heldout_instruction_is_in_training_rows_of_any_family() -> None:
    heldout, trained = set(), set()
    for name in FAMILIES:
        heldout |= {plain(pair_of(line)[0]) for line in open_generator(name, rows=200, seed=0, split="heldout")}
        for line in open_generator(name, rows=1_000, seed=0, split="train"):
            try:
                trained.add(plain(pair_of(line)[0]))
            except (ValueError, StopIteration):
                continue  # Deliberately broken: it yields no pair.
    assert len(trained) > 1_000
    assert not heldout & trained


def test_direct_and_stepwise_word_problems_share_one_split() -> None:
    direct, steps = FAMILIES["word_problems"], FAMILIES["word_problems_cot"]
    for seed in range(200):
        problem = direct.draw(Random(seed))
        assert problem == steps.draw(Random(seed))
        assert direct.identity(problem) == steps.identity(problem)


@families
def test_problem_space_is_as_large_as_stated(name: str) -> None:
    family = FAMILIES[name]
    assert family.problems >= 10_000
    # With far fewer problems than stated, random draws would coincide far more often.
    drawn = Counter(family.draw(Random(seed)) for seed in range(2_000))
    assert len(drawn) > 1_500


def test_a_tenth_of_all_problems_is_held_out() -> None:
    share = sum(split_of(number) == "heldout" for number in range(20_000)) / 20_000
    assert share == pytest.approx(HELDOUT_PERCENT / 100, abs=0.01)


@given(
    name=st.sampled_from(sorted(FAMILIES)),
    seed=st.integers(0, 2**32),
    split=st.sampled_from(["train", "heldout"]),
    start=st.integers(0, 60),
    rows=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_any_range_of_rows_is_that_slice_of_the_file(name: str, seed: int, split: Any, start: int, rows: int) -> None:
    whole = list(open_generator(name, rows=start + rows, seed=seed, split=split))
    assert list(open_generator(name, rows=rows, seed=seed, split=split, start=start)) == whole[start:]


@given(st.text(), st.integers())
def test_a_disguised_duplicate_differs_only_in_white_space_and_case(instruction: str, seed: int) -> None:
    text = Text(instruction, "answer")
    other = disguise(text, Random(seed))
    assert other.instruction != instruction
    assert other.response == "answer"
    if instruction.isascii():
        assert plain(other.instruction) == plain(instruction)


def kind_of(line: bytes, seen: set[tuple[str, str]]) -> Dirt | None:
    """Detect a line's defect from the line and the pairs before it."""
    try:
        instruction, response = pair_of(line)
    except json.JSONDecodeError:
        return Dirt.BROKEN_JSON
    except (ValueError, StopIteration):
        return Dirt.MISSING_FIELD
    if not instruction.strip():
        return Dirt.EMPTY_INSTRUCTION
    if not response.strip():
        return Dirt.EMPTY_RESPONSE
    if "<think>" in response:
        return Dirt.THINK if "</think>" in response else Dirt.UNCLOSED_THINK
    if len(instruction) > 5_000:
        return Dirt.OVER_LONG
    if len(response) > 200:
        return Dirt.REPETITIVE
    if instruction != instruction.strip() or "  " in instruction or instruction.isupper():
        return Dirt.DUPLICATE if (plain(instruction), response) in seen else None
    return None


@pytest.mark.parametrize("name", ["lookup", "word_problems_cot"])
def test_dirt_of_training_rows_has_the_stated_rates(name: str) -> None:
    rows, seen, found = 8_000, set(), Counter()
    for line in open_generator(name, rows=rows, seed=3, split="train"):
        kind = kind_of(line, seen)
        found[kind] += 1
        if kind is None:
            instruction, response = pair_of(line)
            seen.add((plain(instruction), response))
    for kind, rate in RATES.items():
        spread = 4 * (rows * rate) ** 0.5
        assert found[kind] == pytest.approx(rows * rate, abs=spread), kind


@families
def test_heldout_rows_are_clean(name: str) -> None:
    for line in open_generator(name, rows=300, seed=2, split="heldout"):
        assert kind_of(line, set()) is None
        assert json.loads(line)["condition"] in (["direct"], ["cot"], "direct", "cot")


def test_rows_come_in_every_schema() -> None:
    shapes = {frozenset(json.loads(next(open_generator(name, 1, 0, "heldout")))) for name in FAMILIES}
    fields = frozenset().union(*shapes)
    assert fields == {
        *("instruction", "response", "prompt", "completion", "question", "answer"),
        *("messages", "conversations", "input", "output", "condition"),
    }


def test_embedded_mix_trains_on_every_family_and_evaluates_each_on_heldout_rows() -> None:
    sources = yaml.safe_load((Path(__file__).parents[2] / "manifests" / "mix.yaml").read_text())["sources"]
    trained = {source["generator"] for source in sources if source.get("split", "train") == "train"}
    evaluated = {source["generator"] for source in sources if source.get("role") == "eval"}
    assert trained == evaluated == set(FAMILIES)
    assert all((source.get("role") == "eval") == (source.get("split") == "heldout") for source in sources)


def test_an_unknown_family_names_the_closest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'arithmetic'"):
        open_generator("arithmetics", rows=1, seed=0, split="train")


def test_an_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="train, heldout"):
        open_generator("units", rows=1, seed=0, split="test")  # type: ignore[arg-type]
