"""Reading comprehension in nested rows: a pair for each question about a passage.

| layout | row |
|---|---|
| SQuAD | `paragraphs`, a list of `context` and `qas`; or such a paragraph |
| QuAC | the same, the questions of a paragraph being a dialogue; or `context` beside lists `questions` and `answers` |
| CoQA | `story` beside lists `questions` and `answers` |

In a dialogue (QuAC, CoQA) the earlier questions and answers are turns between the passage and the question. A question
with several accepted answers has the first. A question without an answer yields no pair, and is dropped by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from corpus.adapters.base import Adapted, Adapter, Draft, Dropped, as_text, check_size, is_filled, list_columns
from corpus.adapters.columns import columns, passage_text
from corpus.adapters.conversation import Turn, answer_turns
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_PASSAGES = ("story", "context", "passage", "paragraph", "document", "article")
_NO_ANSWER = ("cannotanswer", "unanswerable", "noanswer")


class _Item(NamedTuple):
    question: str
    answer: str | None
    where: str


def first_text(value: Any) -> str | None:
    """Return the first text of an answer, in any nesting, or None if it has none."""
    if isinstance(value, dict):
        for key in ("text", "texts", "input_text", "answer", "value", "span_text"):
            if key in value and (found := first_text(value[key])) is not None:
                return found
        return None
    if isinstance(value, list):
        return next((text for item in value if (text := first_text(item)) is not None), None)
    if value is None or value == "":
        return None
    text = as_text(value, "answer")
    return None if text.casefold().replace(" ", "").replace("_", "") in _NO_ANSWER else text


def _qas(items: Sequence[Any], where: str) -> Iterator[_Item]:
    for index, item in enumerate(items):
        place = f"{where}.{index}"
        if not isinstance(item, dict) or not isinstance(item.get("question"), str):
            raise RowError(Outcome.WRONG_TYPE, f"{place} is {shorten(item)}; expected question and answers")
        impossible = item.get("is_impossible") is True
        given = item.get("orig_answer") or item.get("answers") or item.get("answer")
        yield _Item(item["question"], None if impossible else first_text(given), place)


def _lists(questions: Sequence[Any], answers: Any, where: str) -> list[_Item]:
    """Match a list of questions with a list of answers, or with an object of lists."""
    if isinstance(answers, dict):
        answers = next(
            (answers[key] for key in ("input_text", "texts", "text") if isinstance(answers.get(key), list)), []
        )
    if not isinstance(answers, list) or len(answers) != len(questions):
        found = len(answers) if isinstance(answers, list) else shorten(answers)
        raise RowError(
            Outcome.WRONG_TYPE, f"{where} has {len(questions)} questions and {found} answers; expected one for each"
        )
    texts = [first_text(question) if isinstance(question, dict) else question for question in questions]
    return [
        _Item(as_text(text, f"{where}.{index}"), first_text(answer), f"{where}.{index}")
        for index, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]


def _passages(row: Row) -> tuple[list[tuple[str, bool, list[_Item]]], frozenset[str]] | None:
    """Return each passage, whether its questions are a dialogue, and the questions; None for another layout."""
    plain = columns(tuple(row)).plain
    if "paragraphs" in plain and isinstance(row[plain["paragraphs"]], list):
        paragraphs = row[plain["paragraphs"]]
        if all(isinstance(item, dict) and isinstance(item.get("qas"), list) for item in paragraphs):
            found = [_paragraph(item, f"paragraphs.{index}") for index, item in enumerate(paragraphs)]
            return found, frozenset({plain["paragraphs"]})
    passage = next((plain[name] for name in _PASSAGES if name in plain and is_filled(row[plain[name]])), None)
    if passage is None:
        return None
    if "qas" in plain and isinstance(row[plain["qas"]], list):
        return [_paragraph(row, plain["qas"])], frozenset({passage, plain["qas"]})
    if "questions" in plain and "answers" in plain and isinstance(row[plain["questions"]], list):
        questions, answers = plain["questions"], plain["answers"]
        used = frozenset({passage, questions, answers})
        items = _lists(row[questions], row[answers], questions)
        return [(passage_text(row[passage], passage), True, items)], used
    return None


def _paragraph(item: Mapping[str, Any], where: str) -> tuple[str, bool, list[_Item]]:
    qas = item["qas"]
    name = next((name for name in _PASSAGES if is_filled(item.get(name))), None)
    if name is None:
        raise RowError(Outcome.MISSING_FIELD, f"{where} has no context; found {list_columns(dict(item))}")
    is_dialogue = any(isinstance(qa, dict) and ("followup" in qa or "orig_answer" in qa) for qa in qas)
    return passage_text(item[name], name), is_dialogue, list(_qas(qas, where))


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    found = _passages(row)
    if found is None:
        raise RowError(Outcome.MISSING_FIELD, f"no passage with a list of questions; found {list_columns(row)}")
    passages, used = found
    check_size(sum(len(passage) * len(items) for passage, _, items in passages))
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    for passage, is_dialogue, items in passages:
        turns = [Turn("system", passage)]
        for item in items:
            question = Turn("user", item.question)
            if item.answer is None:
                part = len(drafts) + len(dropped)
                dropped.append(Dropped(part, Outcome.NO_PAIR, f"{item.where}: the question has no answer"))
            else:
                answer = Turn("assistant", item.answer)
                drafts += answer_turns([*turns, question, answer], context, last_only=True)[0]
            if is_dialogue:
                turns += [question, Turn("assistant", item.answer or "CANNOTANSWER")]
    if not drafts and not dropped:
        raise RowError(Outcome.NO_PAIR, "the row has no question")
    return Adapted(drafts, used, dropped)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    try:
        return _passages(row) is not None
    except RowError:
        return True


READING = Adapter(name="reading", rank=45, fits=_fits, adapt=_adapt)
