"""Preference data with scored or ranked answers: one pair, the best answer.

The answers are a list of objects with a score or rank, or a list beside a list of scores or ranks. The highest score
or the lowest rank is best; of equal ones, the first in the row. An answer that is marked as accepted comes first.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from corpus.adapters.base import Adapted, Adapter, from_json, is_filled, list_columns
from corpus.adapters.columns import columns
from corpus.adapters.preferences import as_number, best_answer, is_good
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
)
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
        answers = from_json(row[column]) if isinstance(row[column], str) else row[column]
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
                    found = [None if (number := as_number(value)) is None else sign * number for value in values]
                    return column, answers, found, frozenset({column, beside})
    return None


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
    return best_answer(row, context, answers[best], f"{column}.{best}", used)


def _best(scores: Sequence[float | None]) -> int | None:
    known = [index for index, score in enumerate(scores) if score is not None]
    return max(known, key=lambda index: (scores[index], -index)) if known else None


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _find(row) is not None


RANKED = Adapter(name="ranked", rank=25, fits=_fits, adapt=_adapt)
