"""Options of multiple-choice questions: a list, an object, or a column for each; and which of them is right.

Options are shown one a line as "A. text". The right option is stated by its label, its letter, its text, or its
number, or the name of its column; or a list has a mark for each. Numbers that the options themselves state as labels
are these labels; others count from 0; numbers in text count from 1, unless the columns are numbered from 0 or the
column is called `label` or `gold`, or an index, beside a list. A file in which that is impossible is read by the
adapter `choices_from_0` or `choices_from_1`, which count as their names say.
"""

import re
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.adapters.base import as_text, from_json, is_filled, plain
from corpus.adapters.columns import columns
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_CONTAINER_NAMES = (
    "choices",
    "options",
    "endings",
    "answerchoices",
    "answeroptions",
    "choice",
    "optionlist",
    "alternatives",
    "candidates",
    "possibleanswers",
    "multiplechoiceoptions",
    "mctargets",
    "mc1targets",
    "targetscores",
)
"""Columns with all options, most likely first."""

_PREFIXES = (
    "",
    "option",
    "options",
    "opt",
    "op",
    "choice",
    "choices",
    "answer",
    "ending",
    "sol",
    "solution",
    "alternative",
    "candidate",
    "ans",
    "hypothesis",
)
"""What precedes the letter or number in the names of columns with one option each."""

_LABELLED = re.compile(r"\s*\(?([A-Za-z]|\d{1,2})\s*[).:、．]\s*(.*)", re.DOTALL)
_IN_TEXT = re.compile(r"(?:^|[\n,;]|\s)\s*\(?([A-Ja-j])\s?[).:]\s*")
_NUMBERED_LINE = re.compile(r"(?:^|\n)\s*\(?(\d{1,2})\s?[).:]\s+")
_TEXT_KEYS = (
    *("text", "content", "value", "option_text", "answer_text", "choice_text", "atext", "option", "choice", "answer"),
    *("body", "ending"),
)
_LABEL_KEYS = ("label", "key", "id", "letter", "index", "option_id", "optionid", "aid", "name", "option")
_MARKS = ("is_correct", "isCorrect", "correct", "is_answer", "isAnswer", "is_right", "right")
_LETTER = re.compile(r"(?i)(?:option|choice|answer)?[\s:]*[(\[]?([A-Z])(?:[)\].:]+\s*(.*))?", re.DOTALL)
"""The letter of the right option, and its text if that follows."""
_WORDS_BEFORE = re.compile(
    r"(?i)^(?:the\s+)?(?:correct\s+|right\s+|final\s+)?(?:answer|option|choice)\s*(?:is)?\s*:?\s+"
)
"""Words before the letter of the right option, as in "The answer is B."."""


class Options(NamedTuple):
    """The options of one question."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    """Own labels of the options; empty if they have none."""
    columns: frozenset[str]
    flags: tuple[bool, ...] = ()
    """Whether each option is right, if the options state it themselves."""
    from_0: bool = False
    """Whether the columns are numbered from 0."""
    names: tuple[str, ...] = ()
    """Plain names of the columns with one option each."""


class _Place(NamedTuple):
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    """Empty for one column with all options."""


@lru_cache(maxsize=4096)
def find_options(names: tuple[str, ...]) -> tuple[_Place, ...]:
    """Return the places among a row's columns that may hold options, most likely first."""
    by_name = columns(names).plain
    places = [_Place((by_name[name],), ()) for name in _CONTAINER_NAMES if name in by_name]
    for prefix in _PREFIXES:
        for labels in (string.ascii_uppercase, [str(n) for n in range(26)], [str(n) for n in range(1, 27)]):
            found = []
            for label in labels:
                if prefix + label.lower() not in by_name:
                    break
                found.append(by_name[prefix + label.lower()])
            if len(found) >= 2 and (prefix or labels[0] != "0"):
                places.append(_Place(tuple(found), tuple(labels[: len(found)])))
    return tuple(places)


def read_options(row: Row, *, exclude: frozenset[str] = frozenset()) -> Options | None:
    """Return the options of a row, or None if no column holds two texts or more."""
    for place in find_options(tuple(row)):
        if exclude & set(place.columns):
            continue
        if place.labels:
            filled = [
                (label, as_text(row[column], column), plain(column))
                for label, column in zip(place.labels, place.columns, strict=True)
                if row[column] is not None and row[column] != ""
            ]
            if len(filled) >= 2:
                labels, texts, own = zip(*filled, strict=True)
                names = () if own == labels else own  # a column called "1" is a label of the data
                return Options(texts, labels, frozenset(place.columns), (), place.labels[0] == "0", names)
        elif (options := parse_options(row[place.columns[0]], place.columns[0])) is not None:
            return options
    return None


def parse_options(value: Any, column: str) -> Options | None:
    """Parse options in one column: a list of texts or objects, an object of texts by label, or one of lists."""
    used = frozenset({column})
    if isinstance(value, str):
        parsed = from_json(value)
        if isinstance(parsed, str):
            return _split(parsed, used)
        value = parsed
    if isinstance(value, dict):
        texts = next((value[key] for key in (*_TEXT_KEYS, "choices") if isinstance(value.get(key), list)), None)
        if texts is not None:
            labels = next((value[key] for key in (*_LABEL_KEYS, "labels") if isinstance(value.get(key), list)), None)
            return _of_lists(texts, labels, used, column)
        filled = {label: text for label, text in value.items() if text is not None and text != ""}
        if column and plain(column) == "targetscores" and all(text in (0, 1) for text in filled.values()):
            return Options(tuple(filled), (), used, tuple(bool(mark) for mark in filled.values()))
        if len(filled) < 2 or any(isinstance(text, list | dict) for text in filled.values()):
            return None
        return Options(tuple(as_text(text, f"{column}.{label}") for label, text in filled.items()), tuple(filled), used)
    if not isinstance(value, list) or len(value) < 2:
        return None
    if all(isinstance(item, dict) for item in value):
        text_key = next((key for key in _TEXT_KEYS if key in value[0]), None)
        label_key = next((key for key in _LABEL_KEYS if key in value[0] and key != text_key), None)
        if text_key is None:
            if not all(len(item) == 1 for item in value):
                return None
            return parse_options({key: text for item in value for key, text in item.items()}, column)
        texts = [item.get(text_key) for item in value]
        options = _of_lists(texts, [item.get(label_key) for item in value] if label_key else None, used, column)
        marks = next((key for key in _MARKS if key in value[0]), None)
        if marks is not None:
            options = options._replace(flags=tuple(item.get(marks) in (True, 1, "true", "True", "1") for item in value))
        return options
    if all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in value):
        labels, texts = [item[0] for item in value], [item[1] for item in value]
        return _of_lists(texts, labels, used, column) if all(len(label) <= 2 for label in labels) else None
    if any(isinstance(item, dict | list) for item in value):
        return None
    return _of_lists(value, None, used, column)


def _of_lists(texts: Sequence[Any], labels: Sequence[Any] | None, used: frozenset[str], column: str) -> Options:
    found = tuple(as_text(text, f"{column}.{index}") for index, text in enumerate(texts))
    if labels is not None and len(labels) == len(found) and all(isinstance(label, str | int) for label in labels):
        if len(set(labels)) < len(labels) and set(labels) <= {0, 1}:  # not labels, but which are right
            return Options(found, (), used, tuple(bool(label) for label in labels))
        return Options(found, tuple(str(label) for label in labels), used)
    own = [_LABELLED.fullmatch(text) for text in found]
    letters = [match[1].upper() if match else "" for match in own]
    if letters in (list(string.ascii_uppercase[: len(found)]), [str(n) for n in range(1, len(found) + 1)]) and all(
        match and match[2] for match in own
    ):
        return Options(tuple(match[2] for match in own if match), tuple(letters), used)
    return Options(found, (), used)


def _split(text: str, used: frozenset[str]) -> Options | None:
    """Split a text such as "A. red B. blue", or lines such as "1. red", at its labels."""
    letters, numbers = string.ascii_uppercase, tuple(str(number) for number in range(1, 27))
    for pattern, labels in ((_IN_TEXT, letters), (_NUMBERED_LINE, numbers)):
        marks: list[re.Match[str]] = []
        for match in pattern.finditer(text):
            if len(marks) < 26 and match[1].upper() == labels[len(marks)]:
                marks.append(match)
        if len(marks) < 2 or text[: marks[0].start()].strip(" [('\""):
            continue
        ends = [match.start() for match in marks[1:]] + [len(text)]
        texts = [text[match.end() : end].strip().rstrip(",;").strip() for match, end in zip(marks, ends, strict=True)]
        if all(texts):
            return Options(tuple(texts), tuple(labels[: len(texts)]), used)
    return None


def show_options(options: Options) -> str:
    """Return the options one a line, with their own letters if they have ascending ones, else A, B, C, …"""
    letters = [label.upper() for label in options.labels]
    if not all(len(letter) == 1 and "A" <= letter <= "Z" for letter in letters) or letters != sorted(set(letters)):
        letters = []
    letters = letters or [letter_of(index) for index in range(len(options.texts))]
    return "\n".join(f"{letter}. {text}" for letter, text in zip(letters, options.texts, strict=True))


def letter_of(index: int) -> str:
    """Return A, B, …, Z, 27, 28, …"""
    return string.ascii_uppercase[index] if index < 26 else str(index + 1)


def right_options(options: Options, gold: Any, column: str, base: int | None) -> list[int]:
    """Return the indices of the right options.

    Parameters
    ----------
    options
        The options.
    gold
        What states the right one; a list states several.
    column
        Its column.
    base
        What numbers count from; None for the rule in the module's docstring.

    Raises
    ------
    RowError
        `gold` is none of the options, or could be one or another.
    """
    if isinstance(gold, str) and gold.startswith("["):
        gold = from_json(gold)
    if isinstance(gold, list) and gold:
        if len(gold) == len(options.texts) > 1 and all(not isinstance(item, str) and item in (0, 1) for item in gold):
            if not any(gold):
                raise RowError(Outcome.NO_PAIR, f"{column} is {shorten(gold)}: no option is marked as right")
            return [index for index, item in enumerate(gold) if item]
        found = [index for item in gold for index in right_options(options, item, column, base)]
        return list(dict.fromkeys(found))
    if isinstance(gold, dict):
        gold = next((gold[key] for key in (*_LABEL_KEYS, *_TEXT_KEYS) if is_filled(gold.get(key))), None)
    text = as_text(gold, column).strip()
    if options.names and plain(text) in options.names and len(plain(text)) > 1:
        return [options.names.index(plain(text))]
    if re.fullmatch(r"\d+\.0", text) and text not in options.texts:
        text = text.removesuffix(".0")
    count = len(options.texts)
    # Columns are numbered by their names, whose numbers need not be those of the answer.
    if text in options.labels and not (
        options.labels[0].isdecimal() and (base is not None or (bool(options.names) and not isinstance(gold, str)))
    ):
        labelled = [options.labels.index(text)]
    else:
        labelled = []
    stripped = [option.strip() for option in options.texts]
    by_text = [index for index, option in enumerate(stripped) if option == text] if isinstance(gold, str) else []
    by_text = by_text[:1]
    numbered = []
    digits = re.fullmatch(r"(?i)(?:option|choice|answer|ending|solution)?[\s_]*\(?(\d{1,2})\)?\.?", text)
    if digits is not None:
        index = int(digits[1]) - number_base(options, gold, column, base)
        numbered = [index] if 0 <= index < count else []
    for found in (labelled, by_text):
        if found and numbered and found != numbered and found is by_text:
            raise RowError(
                Outcome.WRONG_TYPE,
                f"{column} is {shorten(gold)}, which is the text of one option and the number of another; "
                "state `map:`, or `adapter: choices_from_0` or `choices_from_1`",
            )
        if found:
            return found
    if numbered:
        return numbered
    text = re.sub(r"\\(?:boxed|text)\{([^{}]*)\}", r"\1", text)
    text = _WORDS_BEFORE.sub("", text) or text
    several = re.fullmatch(r"[A-Z](?:(?:[\s,;/&+|、]|\band\b)*[A-Z])+", text)
    if several is not None:
        indices = [_by_letter(options, letter) for letter in re.findall(r"[A-Z]", text)]
        if None not in indices and len(set(indices)) == len(indices):
            return [index for index in indices if index is not None]
    alike = [index for index, option in enumerate(stripped) if _folded(option) == _folded(text)]
    if alike and (len(text) > 2 or not _LETTER.fullmatch(text)):
        return alike[:1]
    lettered = _LETTER.fullmatch(text)
    if lettered is not None and (by_letter := _by_letter(options, lettered[1])) is not None:
        others = [index for index, option in enumerate(stripped) if _folded(option) == _folded(lettered[2] or "")]
        if by_letter in others or not others:
            return [by_letter]
    if alike:
        return alike[:1]
    raise RowError(
        Outcome.WRONG_TYPE,
        f"{column} is {shorten(gold)}; expected the number, letter or text of one of {count} options",
    )


def _folded(text: str) -> str:
    return text.casefold().strip(" .")


def _by_letter(options: Options, letter: str) -> int | None:
    labels = [label.upper() for label in options.labels]
    if letter.upper() in labels:
        return labels.index(letter.upper())
    if labels and not labels[0].isdecimal():
        return None
    index = ord(letter.upper()) - ord("A")
    return index if index < len(options.texts) else None


def number_base(options: Options, gold: Any, column: str, base: int | None) -> int:
    """Return what the number `gold` counts from."""
    if base is not None:
        return base
    if not isinstance(gold, str) or options.from_0:
        return 0
    beside_list = not (options.labels and len(options.columns) > 1)
    return 0 if beside_list and re.search(r"(?i)label|gold|idx|index|cop$", column) else 1
