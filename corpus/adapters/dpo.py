"""Preference data with a chosen answer: one pair, the chosen answer after the whole conversation."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, is_filled, list_columns
from corpus.adapters.columns import columns
from corpus.adapters.preferences import as_number, best_answer, is_good, not_scored
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
    "chosencompletion": "rejectedcompletion",
    "preferredcompletion": "rejectedcompletion",
    "preferredanswer": "rejectedanswer",
    "acceptedanswer": "rejectedanswer",
    "bestresponse": "worstresponse",
    "responsej": "responsek",
    "responsew": "responsel",
    "yw": "yl",
    "win": "lose",
    "good": "bad",
}
"""Names of the good and the bad answer."""
_ALSO_BAD = ("rejected", "rejectedresponse", "rejectedoutput")
"""Other names of the bad answer."""

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
    "preferencestrength",
    "choice",
    "chosen",
    "winner",
    "label",
    "labels",
)
"""Columns that state which of two answers is the better."""

_SCORES = ("score", "rating", "reward")


def _pick(row: Row) -> tuple[str, str | None, frozenset[str]] | None:
    """Return the columns of the good and the bad answer, and those that decide; None if the row has no two answers."""
    plain = columns(tuple(row)).plain
    for good, usual in _CHOSEN.items():
        if good not in plain or not is_filled(row[plain[good]]) or isinstance(row[plain[good]], bool | int | float):
            continue
        bad = next((plain[name] for name in (usual, *_ALSO_BAD) if name in plain), None)
        if bad is None and (not good.startswith("chosen") or is_good(row[plain[good]]) is not None):
            continue
        found = bad if bad is not None and is_filled(row[bad]) else None
        return plain[good], found, frozenset({plain[good], *([bad] if bad is not None else [])})
    for prefix in _TWO:
        for first, second, third in (("0", "1", "2"), ("1", "2", "3"), ("a", "b", "c")):
            if prefix + first in plain and prefix + second in plain and prefix + third not in plain:
                decided = _decide(row, plain, prefix, (first, second))
                if decided is not None:
                    index, decisive = decided
                    two = (plain[prefix + first], plain[prefix + second])
                    return two[index], two[1 - index], frozenset({*two, *decisive})
    return None


def _decide(
    row: Row, plain: Mapping[str, str], prefix: str, names: tuple[str, str]
) -> tuple[int, tuple[str, ...]] | None:
    """Return which of two answers is the better, 0 or 1, and the columns that say so."""
    is_option = prefix in _OPTION_PREFIXES
    wins = [plain[f"winnermodel{name}"] for name in names if f"winnermodel{name}" in plain]
    if len(wins) == 2:
        one, two = (as_number(row[column]) for column in wins)
        if one == two:
            raise RowError(Outcome.NO_PAIR, f"{wins[0]} and {wins[1]} are equal: neither answer is better")
        return int((two or 0) > (one or 0)), tuple(wins)
    for score in _SCORES:
        scored = [plain[f"{score}{name}"] for name in names if f"{score}{name}" in plain]
        scored = scored or [plain[f"{prefix}{name}{score}"] for name in names if f"{prefix}{name}{score}" in plain]
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
        if name in ("overallpreference", "preferencestrength") and isinstance(
            value, int | float
        ):  # negative: the first is better
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
    column, worse, used = picked
    others = [] if worse is None else [f"{worse}: {column} is the better answer"]
    return best_answer(row, context, row[column], column, used, others)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    try:
        return _pick(row) is not None
    except RowError:
        return True


DPO = Adapter(name="dpo", rank=20, fits=_fits, adapt=_adapt)
