"""Preference data with a chosen answer: one pair, the chosen answer after the whole conversation."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, is_filled, list_columns
from corpus.adapters.columns import columns
from corpus.adapters.preferences import as_number, best_answer, not_scored
from corpus.formats.base import Row, RowError
from corpus.outcome import Outcome

_CHOSEN = {
    "chosen": "rejected",
    "chosenmessages": "rejectedmessages",
    "chosenresponse": "rejectedresponse",
    "chosenconversations": "rejectedconversations",
    "chosentext": "rejectedtext",
    "chosenanswer": "rejectedanswer",
    "chosenoutput": "rejectedoutput",
    "responsechosen": "responserejected",
    "answerchosen": "answerrejected",
    "preferredoutput": "nonpreferredoutput",
    "preferred": "dispreferred",
    "preferredresponse": "dispreferredresponse",
    "accepted": "rejected",
    "winner": "loser",
    "betterresponse": "worseresponse",
    "goodresponse": "badresponse",
}
"""Names of the good and the bad answer."""

_TWO = ("response", "output", "completion", "conversation", "humanref", "generation", "messages", "answer", "text")
"""What precedes 0/1, 1/2 or a/b in the names of two answers."""

_OPTION_PREFIXES = ("answer", "text")
"""Those that may also name the options of a question, whose `label` or `choice` is no preference."""

_BETTER = (
    "betterresponseid",
    "better",
    "preference",
    "preferredresponse",
    "preferred",
    "overallpreference",
    "choice",
    "chosen",
    "winner",
    "label",
    "labels",
)
"""Columns that state which of two answers is the better."""

_SCORES = ("score", "rating", "reward")


def _pick(row: Row) -> tuple[str, frozenset[str]] | None:
    """Return the column of the good answer, and the columns that decide; None if the row has no two answers."""
    plain = columns(tuple(row)).plain
    for good, bad in _CHOSEN.items():
        if good in plain and is_filled(row[plain[good]]) and (bad in plain or good.startswith("chosen")):
            return plain[good], frozenset({plain[good], plain.get(bad, plain[good])})
    for prefix in _TWO:
        for first, second, third in (("0", "1", "2"), ("1", "2", "3"), ("a", "b", "c")):
            if prefix + first in plain and prefix + second in plain and prefix + third not in plain:
                decided = _decide(row, plain, (first, second), is_option=prefix in _OPTION_PREFIXES)
                if decided is not None:
                    index, decisive = decided
                    two = (plain[prefix + first], plain[prefix + second])
                    return two[index], frozenset({*two, *decisive})
    return None


def _decide(
    row: Row, plain: Mapping[str, str], names: tuple[str, str], *, is_option: bool
) -> tuple[int, tuple[str, ...]] | None:
    """Return which of two answers is the better, 0 or 1, and the columns that say so."""
    for score in _SCORES:
        scored = [plain[f"{score}{name}"] for name in names if f"{score}{name}" in plain]
        if len(scored) == 2:
            one, two = (as_number(row[column]) for column in scored)
            if one is None or two is None:
                raise not_scored(scored[one is not None], row[scored[one is not None]], "a number")
            return int(two > one), tuple(scored)
    for name in _BETTER:
        if (
            name not in plain
            or not is_filled(row[plain[name]])
            or (is_option and name in ("label", "labels", "choice"))
        ):
            continue
        column = plain[name]
        value = row[column]
        if name == "overallpreference" and isinstance(value, int | float):  # negative: the first is better
            if value == 0:
                raise RowError(Outcome.NO_PAIR, f"{column} is 0: neither answer is better")
            return int(value > 0), (column,)
        if name == "labels" and names == ("a", "b") and value in (0, 1):  # SHP: 1 if A is better
            return 1 - int(value), (column,)
        text = str(value).strip().casefold().removesuffix(".0")
        for index, own in enumerate(names):
            if text in (own, f"model_{own}", f"response_{own}", f"output_{own}", f"answer_{own}", f"assistant_{own}"):
                return index, (column,)
        if text.startswith("tie") or text in ("both", "neither"):
            raise RowError(Outcome.NO_PAIR, f"{column} is {value!r}: neither answer is better")
        raise not_scored(column, value, f"{names[0]} or {names[1]}")
    return None


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    picked = _pick(row)
    if picked is None:
        raise RowError(
            Outcome.MISSING_FIELD, f"no chosen answer, nor two and which is the better; found {list_columns(row)}"
        )
    column, used = picked
    return best_answer(row, context, row[column], column, used)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    try:
        return _pick(row) is not None
    except RowError:
        return True


DPO = Adapter(name="dpo", rank=20, fits=_fits, adapt=_adapt)
