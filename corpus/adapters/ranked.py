"""Preference data with a list of answers of which one is best: one pair, and the others dropped by name.

The answers are a list of objects with a score or rank, or a list beside a list of scores or ranks, or beside the index
or letter of the best. The highest score or the lowest rank is best; of equal ones, the first in the row. An answer that
is marked as accepted comes first.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from corpus.adapters.base import Adapted, Adapter, as_rows, from_json, is_filled, list_columns
from corpus.adapters.columns import columns
from corpus.adapters.preferences import as_number, best_answer, is_good, not_scored
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_ANSWERS = ("completions", "responses", "answers", "outputs", "candidates", "generations", "summaries", "replies")
_RANKS = ("rank", "ranking", "ranks", "rankings", "order")
_SCORES = (
    "overall_score",
    "score",
    "scores",
    "rating",
    "ratings",
    "reward",
    "rewards",
    "fine-grained_score",
    "pm_score",
    "votes",
    "upvotes",
    "likes",
    "quality_scores",
    "reward_scores",
    "preference_score",
)
_BEST = ("chosen", "best", "best_index", "best_idx", "best_answer_index", "chosen_index", "chosen_idx", "chosen_id")
"""Columns with the index of the best answer, from 0, or its letter."""
_UNCLEAR = ("preference", "preferred", "better", "winner")
"""Columns whose numbers may count from 0 or 1."""
_ACCEPTED = ("selected", "accepted", "is_accepted", "is_best", "is_selected")


def _goodness(answer: Mapping[str, Any]) -> float | None:
    """Return the score of an answer, higher is better, or None if it has none."""
    for key in _ACCEPTED:
        if answer.get(key) is not None and is_good(answer[key]):
            return math.inf
    for key in _RANKS:
        if (rank := as_number(answer.get(key))) is not None:
            return -rank
    for key in _SCORES:
        if (score := as_number(answer.get(key))) is not None:
            return score
    annotations = answer.get("annotations")  # UltraFeedback: {"helpfulness": {"Rating": "4"}, …}
    if isinstance(annotations, dict):
        ratings = [as_number(item.get("Rating")) for item in annotations.values() if isinstance(item, dict)]
        found = [rating for rating in ratings if rating is not None]
        return mean(found) if found else None
    return None


def _find(row: Row) -> tuple[str, list[Any], list[float | None], frozenset[str]] | None:
    """Return the column of the answers, the answers, the score of each, and the columns used."""
    plain = columns(tuple(row)).plain
    for name in _ANSWERS:
        if name not in plain:
            continue
        column = plain[name]
        answers = as_rows(from_json(row[column]) if isinstance(row[column], str) else row[column])
        if not isinstance(answers, list) or not answers:
            continue
        if all(isinstance(item, dict) for item in answers):
            scores = [_goodness(item) for item in answers]
            if any(score is not None for score in scores):
                return column, answers, scores, frozenset({column})
        for sign, names in ((-1.0, _RANKS), (1.0, _SCORES)):
            for key in names:
                beside = plain.get(key.replace("_", "").replace("-", ""))
                if beside is None or not is_filled(row[beside]):
                    continue
                values = from_json(row[beside]) if isinstance(row[beside], str) else row[beside]
                if isinstance(values, list):
                    found: list[float | None]
                    found = [None if (number := as_number(value)) is None else sign * number for value in values]
                    return column, answers, found, frozenset({column, beside})
        for key in (*_BEST, *_UNCLEAR):
            beside = plain.get(key.replace("_", ""))
            value = None if beside is None else row[beside]
            if beside is None or not is_filled(value) or isinstance(value, bool | list | dict) or len(answers) < 2:
                continue
            index = _index(value, len(answers), is_number=key in _BEST)
            if index is None:
                expected = "the number of an answer in a column such as best_index, from 0, or its letter"
                raise not_scored(beside, value, expected)
            found = [float(place == index) for place in range(len(answers))]
            used = {column, beside, *(plain[name] for name in ("rejected", "rejectedindex") if name in plain)}
            return column, answers, found, frozenset(used)
    return None


def _index(value: Any, count: int, *, is_number: bool) -> int | None:
    """Return the index that a number, or a letter, states; None if it states none."""
    text = str(value).strip().removesuffix(".0").upper()
    if len(text) == 1 and "A" <= text <= "Z":
        index = ord(text) - ord("A")
    elif text.isdecimal() and is_number:
        index = int(text)
    else:
        return None
    return index if index < count else None


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    found = _find(row)
    if found is None:
        raise RowError(
            Outcome.MISSING_FIELD, f"no list of answers with a score or rank for each; found {list_columns(row)}"
        )
    column, answers, scores, used = found
    if len(scores) != len(answers):
        raise RowError(
            Outcome.WRONG_TYPE, f"{column} has {len(answers)} answers and {len(scores)} scores; expected one for each"
        )
    best = _best(scores)
    if best is None:
        raise RowError(Outcome.WRONG_TYPE, f"{column} is {shorten(answers)}; expected a number as score of each answer")
    worse = [f"{column}.{place}: {column}.{best} is the best answer" for place in range(len(answers)) if place != best]
    return best_answer(row, context, answers[best], f"{column}.{best}", used, worse)


def _best(scores: Sequence[float | None]) -> int | None:
    known = [index for index, score in enumerate(scores) if score is not None]
    return max(known, key=lambda index: (scores[index], -index)) if known else None


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    try:
        return _find(row) is not None
    except RowError:
        return True


RANKED = Adapter(name="ranked", rank=25, fits=_fits, adapt=_adapt)
