"""Calendar dates: other ways to write them, and a few days later or earlier."""

from datetime import date, timedelta
from random import Random

from corpus.generators.family import Family, Text

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

Day = tuple[int, int, int]
"""Year, month, day."""

Shift = tuple[int, int, int, int]
"""Year, month, day, and by how many days (negative: earlier)."""


def _day(rng: Random) -> date:
    first = date(1900, 1, 1)
    return first + timedelta(days=rng.randrange((date(2100, 1, 1) - first).days))


def _words(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def draw_format(rng: Random) -> Day:
    day = _day(rng)
    return day.year, day.month, day.day


def phrase_format(problem: Day, rng: Random) -> Text:
    year, month, day = problem
    words, numbers = _words(date(year, month, day)), f"{year}-{month:02}-{day:02}"
    if rng.random() < 0.5:
        return Text(rng.choice((f"Write {words} as numbers.", f"{words} as year-month-day?")), numbers)
    return Text(rng.choice((f"Write {numbers} in words.", f"Which day is {numbers}?")), words)


def draw_shift(rng: Random) -> Shift:
    day = _day(rng)
    return day.year, day.month, day.day, rng.randint(1, 9) * rng.choice((1, -1))


def phrase_shift(problem: Shift, rng: Random) -> Text:
    year, month, day, by = problem
    start = date(year, month, day)
    days = f"{abs(by)} day{'s' if abs(by) > 1 else ''}"
    way = "after" if by > 0 else "before"
    question = rng.choice((f"What is {days} {way} {_words(start)}?", f"Which date is {days} {way} {_words(start)}?"))
    return Text(question, _words(start + timedelta(days=by)))


DATE_FORMATS = Family(
    name="date_formats",
    about="Write a date of 1900 to 2099 in numbers or in words.",
    problems=73_000,
    draw=draw_format,
    phrase=phrase_format,
    schema="pair",
)

CALENDAR = Family(
    name="calendar",
    about="Name the date up to nine days after or before another.",
    problems=1_300_000,
    draw=draw_shift,
    phrase=phrase_shift,
    schema="question",
)
