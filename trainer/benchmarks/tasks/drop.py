"""DROP: questions about a passage, after three solved examples; exact match, and F1, which is quoted.

The metrics follow section 5 of "DROP: A Reading Comprehension Benchmark Requiring Discrete Reasoning Over Paragraphs"
(arXiv 1903.00161): texts are compared as bags of normalized words, an answer of several spans by the best alignment
of spans, and of several reference answers the one that scores highest counts. A generation is one span.
"""

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from corpus.eval_sets import EVAL_SETS, usual
from trainer.benchmarks.files import Row, TaskDataError, TaskFiles
from trainer.benchmarks.task import PUBLISHED, Question, Task, Verdict

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read the original layout (qa_pairs below passages), or rows with passage, question and answers."""
    questions = _flattened(files.rows("validation", EVAL_SETS["drop"].files))
    before = "".join(f"{_prompt(row)} {', '.join(_answers(row)[0])}\n\n" for row in _examples(files, shots))
    return [
        Question(id=str(row.get("query_id", number)), text=_prompt(row), answer=_answers(row), shots=before)
        for number, row in enumerate(questions)
    ]


def score(question: Question, generation: str) -> Verdict:
    """Compute exact match and F1 against the best of the reference answers."""
    extracted = generation.strip()
    pairs = [(exact_match(extracted, spans), f1(extracted, spans)) for spans in question.answer]
    scores = {"exact_match": max(match for match, _ in pairs), "f1": max(value for _, value in pairs)}
    return Verdict(extracted=extracted, scores=scores, is_valid=extracted != "")


def exact_match(found: str, spans: Sequence[str]) -> float:
    """1 if the reference answer is one span with the same normalized words in the same order, otherwise 0."""
    return float({normalized(found)} == {normalized(span) for span in spans} and len(spans) == 1)


def f1(found: str, spans: Sequence[str]) -> float:
    """F1 of the bags of words with the best span of the reference answer, divided by its number of spans.

    A span that has numbers scores 0 unless the found text shares one of them. Rounded to two decimals.
    """
    bag = set(normalized(found).split())
    return round(max(_bag_f1(bag, set(normalized(span).split())) for span in spans) / len(spans), 2)


def normalized(text: str) -> str:
    """Lower-case words without articles and punctuation; numbers as floating-point numbers."""
    words = (_ARTICLE.sub(" ", _word(word)) for word in re.split(r"[ \-]", text.lower()))
    return " ".join(" ".join(words).split())


def _word(word: str) -> str:
    if not _is_number(word):
        word = word.translate(_NO_PUNCTUATION)
    return str(float(word)) if _is_number(word) else word


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _bag_f1(found: set[str], gold: set[str]) -> float:
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & found:
        return 0.0
    common = len(found & gold)
    precision = common / len(found) if found else 1.0
    recall = common / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _examples(files: TaskFiles, count: int) -> list[Row]:
    """Solved examples: the first of the split `shots` if the user names one, otherwise drawn from the train split."""
    if not count:
        return []
    if files.has("shots"):
        rows = _flattened(files.rows("shots"))
    else:
        rows = _flattened(files.rows("train", (*usual("train", "drop", "DROP"), "**/drop_dataset_train.json")))
        order = sorted(range(len(rows)), key=lambda i: hashlib.sha256(f"{files.seed} drop {i}".encode()).digest())
        rows = [rows[i] for i in order[:count]]
    if len(rows) < count:
        raise TaskDataError(f"drop: found {len(rows)} solved examples; expected {count}: `--shots drop=N` sets it")
    return rows[:count]


def _flattened(rows: Sequence[Row]) -> list[Row]:
    """One row for each question: in the original layout a row is a passage with its questions."""
    flat: list[Row] = []
    for row in rows:
        pairs = row.get("qa_pairs")
        flat += [row] if pairs is None else [{**pair, "passage": row["passage"]} for pair in pairs]
    for number, row in enumerate(flat, 1):
        if not {"passage", "question"} <= row.keys() or not {"answer", "answers_spans", "answers"} & row.keys():
            raise TaskDataError(
                f"drop: question {number} has the columns {', '.join(map(str, row))}; expected passage, question, and "
                f"answer (with validated_answers), answers_spans or answers"
            )
    return flat


def _prompt(row: Row) -> str:
    return f"{row['passage']}\nQ: {row['question']}\nA:"


def _answers(row: Row) -> list[list[str]]:
    """Reference answers, each a list of spans, without repeats and empty ones."""
    if "answers" in row:
        answers = [[a] if isinstance(a, str) else list(a) for a in row["answers"]]
    elif "answers_spans" in row:
        answers = _of_spans(row["answers_spans"])
    else:
        validated = row.get("validated_answers") or []
        if isinstance(validated, Mapping):  # a table: column to its values
            validated = [dict(zip(validated, values, strict=True)) for values in zip(*validated.values(), strict=True)]
        answers = [_spans(answer) for answer in (row["answer"], *validated)]
    distinct = [list(spans) for spans in dict.fromkeys(tuple(spans) for spans in answers) if any(map(str.strip, spans))]
    if not distinct:
        raise TaskDataError(f"drop: a question has no answer: {row['question']}")
    return distinct


def _spans(answer: Mapping[str, Any]) -> list[str]:
    if str(answer.get("number") or ""):
        return [str(answer["number"])]
    if answer.get("spans"):
        return list(answer["spans"])
    date = answer.get("date") or {}
    return [" ".join(str(date.get(part) or "") for part in ("day", "month", "year")).strip()]


def _of_spans(listed: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Hugging Face's layout: several different texts are one answer of several spans; repeats are other annotators'."""
    distinct = list(dict.fromkeys(listed["spans"]))
    if all(kind == "span" for kind in listed.get("types", ())):
        return [distinct]
    return [[span] for span in distinct]


TASK = Task(
    name="drop",
    metric="f1",
    conditions=("direct",),
    context=3072,
    read=read,
    score=score,
    shots=3,
    size=9536,
    protocol=PUBLISHED,
)
