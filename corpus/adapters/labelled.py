"""Several answers, each with a label: a pair for each that is marked as good; the others are dropped by name.

The answers are a list of objects with a label, or a list beside a list of labels, such as `correctness`. Labels are
those of `corpus.adapters.kto`.
"""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, Draft, Dropped, as_rows, from_json, list_columns, plain
from corpus.adapters.choices import CHOICES
from corpus.adapters.columns import columns
from corpus.adapters.preferences import best_answer, is_good
from corpus.formats.base import Row, RowError
from corpus.outcome import Outcome

_ANSWERS = ("completions", "responses", "generations", "outputs", "candidates", "solutions", "samples", "answers")
_LABELS = (
    *("label", "labels", "correct", "iscorrect", "correctness", "correctnessmathverify", "correctnessllama"),
    *("isgood", "passed", "ispassed", "desirable"),
)


def _find(row: Row) -> tuple[str, list[Any], list[bool], frozenset[str]] | None:
    """Return the column of the answers, the answers, whether each is good, and the columns used."""
    by_name = columns(tuple(row)).plain
    for name in _ANSWERS:
        answers = _list(row[by_name[name]]) if name in by_name else None
        if not answers:
            continue
        column = by_name[name]
        if all(isinstance(item, dict) for item in answers):
            key = next((key for key in answers[0] if plain(key) in _LABELS), None)
            labels = None if key is None else [item.get(key) for item in answers]
            found = [(labels, frozenset({column}))]
        else:
            beside = (by_name[label] for label in _LABELS if label in by_name)
            found = [(_list(row[label]), frozenset({column, label})) for label in beside]
        for labels, used in found:
            if labels is not None and len(labels) == len(answers):
                good = [is_good(label) for label in labels]
                if None not in good:
                    return column, answers, [bool(mark) for mark in good], used
    return None


def _list(value: Any) -> list[Any] | None:
    value = as_rows(from_json(value) if isinstance(value, str) else value)
    return value if isinstance(value, list) else None


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    found = _find(row)
    if found is None:
        raise RowError(Outcome.MISSING_FIELD, f"no list of answers with a label for each; found {list_columns(row)}")
    column, answers, good, decisive = found
    used = decisive
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    for part, (answer, is_kept) in enumerate(zip(answers, good, strict=True)):
        if is_kept:
            adapted = best_answer(row, context, answer, f"{column}.{part}", decisive)
            drafts += adapted.drafts[-1:]
            used |= adapted.used
        else:
            dropped.append(Dropped(part, Outcome.REJECTED_LABEL, f"{column}.{part}: the answer is marked as bad"))
    return Adapted(drafts, used, dropped)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _find(row) is not None and not CHOICES.fits(row, context)


LABELLED = Adapter(name="labelled", rank=12, fits=_fits, adapt=_adapt)
