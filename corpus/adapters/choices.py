"""Multiple choice: question + lettered options, answered by the text of the right option.

The right option is a number from 0, a letter, or one of the labels that the options carry.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.adapters.base import Adapted, Adapter, Draft, as_text, join, list_columns, plain_names
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_QUESTION_NAMES = ("question", "query", "squestion")
_OPTIONS_NAMES = ("choices", "options")
_GOLD_NAMES = ("gold", "answer", "label", "answerkey", "lsolutions")


class _Columns(NamedTuple):
    question: str
    options: tuple[str, ...]
    gold: str
    used: frozenset[str]


@lru_cache(maxsize=4096)
def _columns(names: tuple[str, ...]) -> _Columns | None:
    plain = plain_names(names)
    question = next((plain[name] for name in _QUESTION_NAMES if name in plain), None)
    gold = next((plain[name] for name in _GOLD_NAMES if name in plain), None)
    options = tuple(plain[name] for name in _OPTIONS_NAMES if name in plain)[:1]
    if not options:
        options = tuple(plain[name] for name in (f"choice{number}" for number in range(26)) if name in plain)
    if question is None or gold is None or not options:
        return None
    return _Columns(question, options, gold, frozenset({question, gold, *options}))


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    columns = _columns(tuple(row))
    if columns is None:
        raise RowError(
            Outcome.MISSING_FIELD, f"no columns that are a question, options and answer; found {list_columns(row)}"
        )
    first = row[columns.options[0]]
    labels: list[str] = []
    if isinstance(first, dict) and isinstance(first.get("text"), list):
        if isinstance(first.get("label"), list):
            labels = [str(label) for label in first["label"]]
        first = first["text"]
    if len(columns.options) == 1 and isinstance(first, list):
        options = [as_text(option, f"{columns.options[0]}.{index}") for index, option in enumerate(first)]
    else:
        options = [as_text(row[name], name) for name in columns.options]
    gold = as_text(row[columns.gold], columns.gold).strip()
    if gold in labels:  # labels may be numbers from 1, so they come before numbers from 0
        index = labels.index(gold)
    else:
        index = int(gold) if gold.isdecimal() and len(gold) < 3 else ord(gold) - ord("A") if len(gold) == 1 else -1
    if not 0 <= index < len(options):
        detail = f"{columns.gold} is {shorten(gold)}; expected the number or letter of one of {len(options)} options"
        raise RowError(Outcome.WRONG_TYPE, detail)
    lettered = [f"{chr(ord('A') + number)}. {option}" for number, option in enumerate(options)]
    question = as_text(row[columns.question], columns.question)
    return Adapted((Draft(join(question, "\n".join(lettered)), options[index]),), columns.used)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _columns(tuple(row)) is not None


CHOICES = Adapter(name="choices", rank=60, fits=_fits, adapt=_adapt)
