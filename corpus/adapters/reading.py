"""Reading comprehension in nested rows: a pair for each question about a passage.

| layout | row |
|---|---|
| SQuAD | `paragraphs`, a list of `context` and `qas`; or such a paragraph |
| QuAC | the same, the questions of a paragraph being a dialogue; or `context` beside lists `questions` and `answers` |
| CoQA | `story` beside lists `questions` and `answers` |
| RACE | `article` beside lists `questions`, `options` and `answers`; or each question has its options and gold label |

In a dialogue (QuAC, CoQA) the earlier questions and answers are turns between the passage and the question. A question
with several accepted answers has the first; one whose answers are marked as right or wrong the first right one; one
with options the text of the right one, as in `corpus.adapters.choices`. A question without an answer yields no pair,
and is dropped by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from corpus.adapters.base import (
    Adapted,
    Adapter,
    Draft,
    Dropped,
    as_rows,
    as_text,
    check_size,
    is_filled,
    list_columns,
    passage_text,
    plain,
)
from corpus.adapters.choices import CHOICES, CHOICES_FROM_0, CHOICES_FROM_1
from corpus.adapters.columns import columns
from corpus.adapters.conversation import Turn, answer_turns
from corpus.adapters.preferences import is_good
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_PASSAGES = ("story", "context", "passage", "paragraph", "document", "article", "dialogue", "dialog", "text")
_QUESTIONS = ("qas", "qapairs", "qa", "questionanswers", "questionanswerpairs", "questions")
_ASKED = ("question", "query", "input_text", "q")
_ANSWERED = ("orig_answer", "answers", "answer", "a", "response", "output")
_MARKS = ("is_correct", "isCorrect", "correct", "isAnswer", "is_answer", "label")
"""Keys that mark an answer as right or wrong."""
_OPTION_NAMES = frozenset({"options", "choices", "choice", "endings", "answerchoices"})
_NO_ANSWER = ("cannotanswer", "unanswerable", "noanswer")


class _Item(NamedTuple):
    question: str
    """With its options."""
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
        mark = next((key for key in _MARKS if any(isinstance(item, dict) and key in item for item in value)), None)
        if mark is not None and all(isinstance(item, dict) and is_good(item.get(mark)) is not None for item in value):
            value = [item for item in value if is_good(item[mark])]
        return next((text for item in value if (text := first_text(item)) is not None), None)
    if value is None or value == "":
        return None
    text = as_text(value, "answer")
    return None if text.casefold().replace(" ", "").replace("_", "") in _NO_ANSWER else text


def _qas(items: Sequence[Any], where: str) -> Iterator[_Item]:
    choices: Adapter | None = None
    for index, item in enumerate(items):
        place = f"{where}.{index}"
        asked = (
            next((item[key] for key in _ASKED if isinstance(item.get(key), str)), None) if _is_object(item) else None
        )
        if asked is None:
            raise RowError(Outcome.WRONG_TYPE, f"{place} is {shorten(item)}; expected question and answers")
        if any(name in _OPTION_NAMES for name in map(plain, item)):
            # Numbers of options count in one way in all questions of a passage.
            kinds = (CHOICES, CHOICES_FROM_0, CHOICES_FROM_1)
            choices = choices or max(kinds, key=lambda kind: sum(kind.fits(item, {}) for item in items))
            draft = choices.adapt({**item, "question": asked}, {}).drafts[0]
            yield _Item(draft.instruction, draft.response, place)
            continue
        given = next((item[key] for key in _ANSWERED if is_filled(item.get(key))), None)
        yield _Item(asked, None if item.get("is_impossible") is True else first_text(given), place)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _lists(questions: Sequence[Any], answers: Any, options: Any, where: str) -> list[_Item]:
    """Match a list of questions with a list of answers, or with an object of lists, and with a list of options."""
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
    if isinstance(options, list) and len(options) == len(questions) and all(isinstance(item, list) for item in options):
        rows = zip(texts, options, answers, strict=True)
        return list(_qas([{"question": text, "options": own, "answer": gold} for text, own, gold in rows], where))
    return [
        _Item(as_text(text, f"{where}.{index}"), first_text(answer), f"{where}.{index}")
        for index, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]


def _passages(row: Row) -> tuple[list[tuple[str, bool, list[_Item]]], frozenset[str]] | None:
    """Return each passage, whether its questions are a dialogue, and the questions; None for another layout."""
    by_name = columns(tuple(row)).plain
    if "paragraphs" in by_name and isinstance(row[by_name["paragraphs"]], list):
        paragraphs = row[by_name["paragraphs"]]
        if all(
            isinstance(item, dict) and isinstance(item.get("qas", item.get("questions")), list) for item in paragraphs
        ):
            found = [_paragraph(item, f"paragraphs.{index}") for index, item in enumerate(paragraphs)]
            return found, frozenset({by_name["paragraphs"]})
    passage = next((by_name[name] for name in _PASSAGES if name in by_name and is_filled(row[by_name[name]])), None)
    if passage is None:
        return None
    text = passage_text(row[passage], passage)
    if isinstance(row[passage], dict) and isinstance(row[passage].get("questions"), list):  # MultiRC
        return [_paragraph(row[passage], passage)], frozenset({passage})
    for name in _QUESTIONS:
        items = as_rows(row[by_name[name]]) if name in by_name else None
        if isinstance(items, list) and items and all(map(_is_object, items)) and not _is_coqa(items, by_name):
            is_dialogue = any("followup" in item or "orig_answer" in item for item in items)
            return [(text, is_dialogue, list(_qas(items, by_name[name])))], frozenset({passage, by_name[name]})
    if "questions" in by_name and "answers" in by_name and isinstance(row[by_name["questions"]], list):
        questions, answers = by_name["questions"], by_name["answers"]
        used = frozenset({passage, questions, answers})
        options = next((by_name[name] for name in ("options", "choices") if name in by_name), None)
        with_options = options is not None and is_filled(row[options])
        items = _lists(row[questions], row[answers], row[options] if options is not None else None, questions)
        return [(text, not with_options, items)], used | {options} if options is not None and with_options else used
    return None


def _is_coqa(items: Sequence[Mapping[str, Any]], by_name: Mapping[str, str]) -> bool:
    """Whether the answers are in a column of their own."""
    return "answers" in by_name and not any(key in item for item in items for key in _ANSWERED)


def _paragraph(item: Mapping[str, Any], where: str) -> tuple[str, bool, list[_Item]]:
    qas = as_rows(item["qas"] if "qas" in item else item["questions"])
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
