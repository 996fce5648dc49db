"""Row schemas: the field names of the families' rows, as varied as those of real data sets."""

from collections.abc import Callable, Mapping
from typing import Any

from corpus.generators.family import Text

Row = dict[str, Any]


def _pair(text: Text) -> Row:
    return {"instruction": text.instruction, "response": text.response, "condition": [text.condition]}


def _completion(text: Text) -> Row:
    return {"prompt": text.instruction, "completion": text.response, "condition": text.condition}


def _question(text: Text) -> Row:
    return {"question": text.instruction, "answer": text.response, "condition": [text.condition]}


def _messages(text: Text) -> Row:
    turns = [{"role": "user", "content": text.instruction}, {"role": "assistant", "content": text.response}]
    return {"messages": turns, "condition": [text.condition]}


def _conversations(text: Text) -> Row:
    turns = [{"from": "human", "value": text.instruction}, {"from": "gpt", "value": text.response}]
    return {"conversations": turns, "condition": text.condition}


def _alpaca(text: Text) -> Row:
    # The instruction's first line is the task, the rest what it is about.
    task, _, about = text.instruction.partition("\n")
    return {"instruction": task, "input": about, "output": text.response, "condition": [text.condition]}


SCHEMAS: Mapping[str, Callable[[Text], Row]] = {
    "pair": _pair,
    "completion": _completion,
    "question": _question,
    "messages": _messages,
    "conversations": _conversations,
    "alpaca": _alpaca,
}
