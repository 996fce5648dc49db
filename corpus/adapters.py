"""From a row with named columns to instruction–response pairs.

An adapter is a pure function `(row, context) -> drafts`, where context holds the
fields beside the list of rows in a JSON object. `guess` takes the first adapter
in `ADAPTERS` that fits a file's first rows; the order is most specific first:

| adapter             | fits rows with                                  | pairs of a row |
|---------------------|-------------------------------------------------|----------------|
| `kto`               | boolean `label` beside a conversation or prompt | the last answer, if the label is true |
| `dpo`               | `chosen`                                        | `chosen`, after the whole conversation |
| `chat`              | `messages` or `conversations`                   | one for each assistant turn |
| `superni`           | `input`, `output` in a file's list `Instances`  | Definition + input; each distinct output |
| `nested_instances`  | `instruction` and a list `instances`            | one for each distinct output of each |
| `choices`           | question, options, which option is right        | question + lettered options; that option |
| `prompt_completion` | `prompt`, `completion`                          | one; a closing `<|endoftext|>` is removed |
| `pairs`             | instruction and response under any usual names  | one for each distinct response |

Column names are compared without case, `-`, `_` and blanks. Where a row has
several columns that could be the response, the first in `RESPONSE_NAMES` is it
(so model predictions that carry `response` and a gold `target` yield `response`).

The rule for conversations: each assistant turn yields a pair, whose instruction
is the whole conversation before it. The system text and the declared tools come
first, then, if the user's turn is the only one, its bare text; else every turn
with its role ("User:", "Assistant:", "Tool call:", "Tool result:"), separated by
blank lines. A function call is a response too; a tool's result is not.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from corpus.formats.base import LIST_KEY, Row, RowError, shorten
from corpus.outcome import Outcome

INSTRUCTION_NAMES = (
    "instruction",
    "instructions",
    "definition",
    "prompt",
    "question",
    "query",
    "problem",
    "squestion",
    "originaltext",
    "input",
    "inputs",
    "context",
    "source",
)
"""Columns that can be the instruction, most likely first."""

RESPONSE_NAMES = (
    "response",
    "output",
    "outputs",
    "completion",
    "generatedsolution",
    "solution",
    "answer",
    "answers",
    "target",
    "targets",
    "continuation",
    "canonicalsolution",
    "ans",
    "lsolutions",
)
"""Columns that can be the response, most likely first."""

INPUT_NAMES = ("input", "inputs", "context")
"""Columns joined after an instruction by a blank line (`instruction`, `definition`)."""

PASSAGE_NAMES = ("context", "passage", "body")
"""Columns joined before a question by a blank line (`question`, `query`, `problem`, `squestion`)."""

MAX_ROW_CHARS = 64 << 20
"""Characters of the instructions that one row may yield together."""

_INSTRUCTIONS = frozenset({"instruction", "instructions", "definition"})
_QUESTIONS = frozenset({"question", "query", "problem", "squestion"})


class Draft(NamedTuple):
    """One pair as an adapter makes it."""

    instruction: str
    response: str


class Adapted(NamedTuple):
    """A row's pairs, and the columns they were made from."""

    drafts: Sequence[Draft]
    used: frozenset[str]


Adapter = Callable[[Row, Mapping[str, Any]], Adapted]
"""Raises `RowError` when the row yields no pair."""


@dataclass(frozen=True, slots=True)
class KnownAdapter:
    """An adapter and the test whether it is the one for rows with these columns."""

    adapt: Adapter
    fits: Callable[[Row, Mapping[str, Any]], bool]


# Values


def as_text(value: Any, column: str) -> str:
    """Text of a cell: numbers without a needless ".0", booleans in lower case.

    Raises
    ------
    RowError
        The cell is null, a list or an object.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RowError(Outcome.MISSING_FIELD, f"{column} is null; expected text")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowError(Outcome.WRONG_TYPE, f"{column} is {value}; expected text or a number")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, list | dict | bytes | tuple):
        kind = "an object" if isinstance(value, dict) else "binary" if isinstance(value, bytes) else "a list"
        raise RowError(Outcome.WRONG_TYPE, f"{column} is {kind}; expected text or a number")
    return str(value)


def as_texts(value: Any, column: str) -> list[str]:
    """Distinct texts of a cell that holds one text, a list of them, or an object with such a `text`."""
    if isinstance(value, dict) and "text" in value:
        return as_texts(value["text"], f"{column}.text")
    if not isinstance(value, list):
        return [as_text(value, column)]
    texts = [as_text(item, f"{column}.{index}") for index, item in enumerate(value)]
    if not texts:
        raise RowError(Outcome.NO_PAIR, f"{column} is an empty list")
    return list(dict.fromkeys(texts))


def _field(row: Row, name: str, column: str | None = None) -> Any:
    if name not in row:
        raise RowError(Outcome.MISSING_FIELD, f"there is no {column or name}; found {_names(row)}")
    return row[name]


def _names(row: Row) -> str:
    return "no columns" if not row else "the columns " + ", ".join(shorten(name, 40) for name in list(row)[:20])


def _join(*parts: str) -> str:
    """Texts separated by a blank line; blank ones are left out."""
    return "\n\n".join(part for part in parts if part and not part.isspace())


# Rows whose columns are an instruction and a response


class _Columns(NamedTuple):
    main: str
    parts: tuple[str, ...]
    """`main`, and what is joined to it, in the order of the text."""
    response: str
    used: frozenset[str]


@lru_cache(maxsize=4096)
def _columns(names: tuple[str, ...]) -> _Columns | None:
    """Which columns are the instruction's parts, in order, and which one is the response."""
    plain = {re.sub(r"[-_\s]", "", name).casefold(): name for name in reversed(names)}
    response = next((plain[name] for name in RESPONSE_NAMES if name in plain), None)
    main = next((name for name in INSTRUCTION_NAMES if name in plain), None)
    if response is None or main is None:
        return None
    parts = [plain[main]]
    if main in _INSTRUCTIONS:
        parts += [plain[name] for name in INPUT_NAMES if name in plain][:1]
    elif main in _QUESTIONS:
        parts = [plain[name] for name in PASSAGE_NAMES if name in plain][:1] + parts
    return _Columns(plain[main], tuple(parts), response, frozenset({*parts, response}))


def _pairs(row: Row, context: Mapping[str, Any]) -> Adapted:
    columns = _columns(tuple(row))
    if columns is None:
        raise RowError(
            Outcome.MISSING_FIELD,
            f"no columns that are known as instruction and response; found {_names(row)}; "
            "state them in the source's `map:`",
        )
    parts = [row[name] for name in columns.parts]
    if len(parts) == 1:
        instruction = as_text(parts[0], columns.parts[0])
    else:
        # The further part may be null: many rows of such sets have none.
        texts = [
            "" if part is None and name != columns.main else as_text(part, name)
            for part, name in zip(parts, columns.parts, strict=True)
        ]
        instruction = _join(*texts)
    response = row[columns.response]
    if isinstance(response, str):
        return Adapted((Draft(instruction, response),), columns.used)
    return Adapted([Draft(instruction, text) for text in as_texts(response, columns.response)], columns.used)


def _is_pairs(row: Row, context: Mapping[str, Any]) -> bool:
    return _columns(tuple(row)) is not None


_END_OF_TEXT = "<|endoftext|>"


def _prompt_completion(row: Row, context: Mapping[str, Any]) -> Adapted:
    prompt = as_text(_field(row, "prompt"), "prompt")
    completion = as_text(_field(row, "completion"), "completion")
    used = frozenset({"prompt", "completion"})
    return Adapted((Draft(prompt, completion.rstrip().removesuffix(_END_OF_TEXT)),), used)


def _is_prompt_completion(row: Row, context: Mapping[str, Any]) -> bool:
    return isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)


# Rows that hold several pairs


def _superni(row: Row, context: Mapping[str, Any]) -> Adapted:
    definition = context.get("Definition")
    if isinstance(definition, RowError):
        raise RowError(definition.reason, f"the file's Definition cannot be read: {definition.detail}")
    texts = definition if isinstance(definition, list) else [definition]
    head = " ".join(text for text in texts if isinstance(text, str))
    instruction = _join(head, as_text(_field(row, "input"), "input"))
    outputs = as_texts(_field(row, "output"), "output")
    return Adapted([Draft(instruction, output) for output in outputs], frozenset({"input", "output"}))


def _is_superni(row: Row, context: Mapping[str, Any]) -> bool:
    return context.get(LIST_KEY) == "Instances" and {"input", "output"} <= row.keys()


def _nested_instances(row: Row, context: Mapping[str, Any]) -> Adapted:
    head = as_text(_field(row, "instruction"), "instruction")
    instances = _field(row, "instances")
    if not isinstance(instances, list):
        raise RowError(Outcome.WRONG_TYPE, f"instances is {shorten(instances)}; expected a list of input and output")
    _check_size(len(head) * len(instances))
    drafts = []
    for index, instance in enumerate(instances):
        where = f"instances.{index}"
        if not isinstance(instance, dict):
            raise RowError(Outcome.WRONG_TYPE, f"{where} is {shorten(instance)}; expected input and output")
        given = instance.get("input")
        instruction = _join(head, "" if given is None else as_text(given, f"{where}.input"))
        outputs = as_texts(_field(instance, "output", f"{where}.output"), f"{where}.output")
        drafts += [Draft(instruction, output) for output in outputs]
    if not drafts:
        raise RowError(Outcome.NO_PAIR, "instances is an empty list")
    return Adapted(drafts, frozenset({"instruction", "instances"}))


def _is_nested_instances(row: Row, context: Mapping[str, Any]) -> bool:
    return "instruction" in row and isinstance(row.get("instances"), list)


def _check_size(chars: int) -> None:
    """Raise `RowError` for a row that says its context again in so many pairs that they would fill the memory."""
    if chars > MAX_ROW_CHARS:
        raise RowError(
            Outcome.TOO_LARGE, f"a row whose pairs have {chars:,} characters together; the limit is {MAX_ROW_CHARS:,}"
        )


# Multiple choice


_GOLD_NAMES = ("gold", "answer", "label", "answerkey", "lsolutions")


class _ChoiceColumns(NamedTuple):
    question: str
    options: tuple[str, ...]
    gold: str
    used: frozenset[str]


@lru_cache(maxsize=4096)
def _choice_columns(names: tuple[str, ...]) -> _ChoiceColumns | None:
    plain = {re.sub(r"[-_\s]", "", name).casefold(): name for name in reversed(names)}
    question = next((plain[name] for name in ("question", "query", "squestion") if name in plain), None)
    gold = next((plain[name] for name in _GOLD_NAMES if name in plain), None)
    options = tuple(plain[name] for name in ("choices", "options") if name in plain)[:1]
    if not options:
        numbered = [plain.get(f"choice{number}") for number in range(26)]
        options = tuple(name for name in numbered if name is not None)
    if question is None or gold is None or not options:
        return None
    return _ChoiceColumns(question, options, gold, frozenset({question, gold, *options}))


def _choices(row: Row, context: Mapping[str, Any]) -> Adapted:
    columns = _choice_columns(tuple(row))
    if columns is None:
        raise RowError(
            Outcome.MISSING_FIELD, f"no columns that are a question, options and answer; found {_names(row)}"
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
    if gold in labels:  # the options' own labels, which may be numbers from 1
        index = labels.index(gold)
    else:
        index = int(gold) if gold.isdecimal() and len(gold) < 3 else ord(gold) - ord("A") if len(gold) == 1 else -1
    if not 0 <= index < len(options):
        detail = f"{columns.gold} is {shorten(gold)}; expected the number or letter of one of {len(options)} options"
        raise RowError(Outcome.WRONG_TYPE, detail)
    lettered = [f"{chr(ord('A') + number)}. {option}" for number, option in enumerate(options)]
    question = as_text(row[columns.question], columns.question)
    return Adapted((Draft(_join(question, "\n".join(lettered)), options[index]),), columns.used)


def _is_choices(row: Row, context: Mapping[str, Any]) -> bool:
    return _choice_columns(tuple(row)) is not None


# Conversations


class Turn(NamedTuple):
    """One turn of a conversation; role is system, user, assistant, call or tool."""

    role: str
    text: str


_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "functioncall": "call",
    "toolcall": "call",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "toolresponse": "tool",
    "functionresponse": "tool",
}
_LABELS = {"user": "User", "assistant": "Assistant", "call": "Tool call", "tool": "Tool result"}
_ANSWERS = ("assistant", "call")
_CONVERSATION_NAMES = ("messages", "conversations", "conversation")


def _turn(item: Any, where: str) -> list[Turn]:
    if not isinstance(item, dict):
        raise RowError(Outcome.WRONG_TYPE, f"{where} is {shorten(item)}; expected an object with role and content")
    role_key = "role" if "role" in item else "from"
    name = _field(item, role_key, f"{where}.role or {where}.from")
    role = _ROLES.get(re.sub(r"[-_\s]", "", name).casefold()) if isinstance(name, str) else None
    if role is None:
        known = "system, user, assistant, tool or one of their usual other names"
        raise RowError(Outcome.WRONG_TYPE, f"{where}.{role_key} is {shorten(name)}; expected {known}")
    text_key = "content" if "content" in item else "value"
    content = item.get(text_key)
    calls = item.get("tool_calls")
    turns = []
    if content is not None or not calls:
        turns.append(Turn(role, _content(content, f"{where}.{text_key}")))
    if calls:
        turns.append(Turn("call", json.dumps(calls, ensure_ascii=False, default=str)))
    return turns


def _content(content: Any, where: str) -> str:
    """Text of a message: a text, or a list of parts of which every one must be text."""
    if not isinstance(content, list):
        return as_text(content, where)
    texts = []
    for index, part in enumerate(content):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, str):
            texts.append(part)
        else:
            raise RowError(Outcome.WRONG_TYPE, f"{where}.{index} is {shorten(part)}; expected a part of type text")
    return "".join(texts)


def _conversation(row: Row) -> tuple[list[Turn], frozenset[str]]:
    """All turns of a row, system text and tools first, and the columns they come from."""
    name = next((name for name in _CONVERSATION_NAMES if name in row), None)
    if name is None:
        raise RowError(Outcome.MISSING_FIELD, f"there is no messages or conversations; found {_names(row)}")
    items = row[name]
    if not isinstance(items, list):
        raise RowError(Outcome.WRONG_TYPE, f"{name} is {shorten(items)}; expected a list of turns")
    turns = [turn for index, item in enumerate(items) for turn in _turn(item, f"{name}.{index}")]
    used = {name}
    head = []
    for column in ("system", "tools"):
        if row.get(column):
            value = row[column]
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            head.append(Turn("system", text))
            used.add(column)
    return head + turns, frozenset(used)


def _instruction(history: Sequence[Turn]) -> str:
    system = [turn.text for turn in history if turn.role == "system"]
    others = [turn for turn in history if turn.role != "system"]
    if len(others) == 1 and others[0].role == "user":
        return _join(*system, others[0].text)
    return _join(*system, *(f"{_LABELS[turn.role]}: {turn.text}" for turn in others))


def _answers(turns: Sequence[Turn]) -> list[int]:
    """Positions of the turns that answer something."""
    asked = next((index for index, turn in enumerate(turns) if turn.role in ("user", "tool")), len(turns))
    return [index for index, turn in enumerate(turns) if turn.role in _ANSWERS and index > asked]


def _chat(row: Row, context: Mapping[str, Any]) -> Adapted:
    turns, used = _conversation(row)
    answers = _answers(turns)
    before = list(accumulate((len(turn.text) for turn in turns), initial=0))
    _check_size(sum(before[index] for index in answers))
    drafts = [Draft(_instruction(turns[:index]), turns[index].text) for index in answers]
    if not drafts:
        raise RowError(Outcome.NO_PAIR, f"a conversation of {len(turns)} turns without a user turn and its answer")
    return Adapted(drafts, used)


def _is_chat(row: Row, context: Mapping[str, Any]) -> bool:
    return any(isinstance(row.get(name), list) for name in _CONVERSATION_NAMES)


def _last_answer(turns: Sequence[Turn]) -> Draft:
    answers = _answers(turns)
    if not answers:
        raise RowError(Outcome.NO_PAIR, f"a conversation of {len(turns)} turns without a user turn and its answer")
    return Draft(_instruction(turns[: answers[-1]]), turns[answers[-1]].text)


# Preferences


def _dpo(row: Row, context: Mapping[str, Any]) -> Adapted:
    chosen = _field(row, "chosen")
    used = frozenset({"chosen", "rejected"})
    if isinstance(chosen, list):
        turns = [turn for index, item in enumerate(chosen) for turn in _turn(item, f"chosen.{index}")]
        if any(turn.role == "user" for turn in turns):
            return Adapted((_last_answer(turns),), used | {"prompt"})
    else:
        turns = _turn(chosen, "chosen") if isinstance(chosen, dict) else [Turn("assistant", as_text(chosen, "chosen"))]
    if any(name in row for name in _CONVERSATION_NAMES):
        history, columns = _conversation(row)
        return Adapted((_last_answer([*history, *turns]),), used | columns)
    prompt_column = next((name for name in ("prompt", "question", "instruction", "input") if name in row), None)
    if prompt_column is None:
        raise RowError(Outcome.MISSING_FIELD, f"chosen without a prompt or conversations; found {_names(row)}")
    prompt = row[prompt_column]
    if isinstance(prompt, list):
        history = [turn for index, item in enumerate(prompt) for turn in _turn(item, f"{prompt_column}.{index}")]
    else:
        history = [Turn("user", as_text(prompt, prompt_column))]
        if prompt_column != "input" and row.get("input"):
            history = [Turn("user", _join(history[0].text, as_text(row["input"], "input")))]
    system = row.get("system")
    if isinstance(system, str) and system:
        history.insert(0, Turn("system", system))
    return Adapted((_last_answer([*history, *turns]),), used | {prompt_column, "system", "input"})


def _is_dpo(row: Row, context: Mapping[str, Any]) -> bool:
    return "chosen" in row


def _kto(row: Row, context: Mapping[str, Any]) -> Adapted:
    label = _field(row, "label")
    if not _is_label(label):
        raise RowError(Outcome.WRONG_TYPE, f"label is {shorten(label)}; expected true or false")
    if str(label).lower() == "false":
        raise RowError(Outcome.REJECTED_LABEL, "label is false: the response is marked as bad")
    if _is_chat(row, context):
        turns, used = _conversation(row)
        return Adapted((_last_answer(turns),), used | {"label"})
    adapted = _prompt_completion(row, context)
    return Adapted(adapted.drafts, adapted.used | {"label"})


def _is_label(label: Any) -> bool:
    return isinstance(label, bool) or (isinstance(label, str) and label.lower() in ("true", "false"))


def _is_kto(row: Row, context: Mapping[str, Any]) -> bool:
    return _is_label(row.get("label")) and (_is_chat(row, context) or _is_prompt_completion(row, context))


# The table


ADAPTERS: Mapping[str, KnownAdapter] = {
    "kto": KnownAdapter(_kto, _is_kto),
    "dpo": KnownAdapter(_dpo, _is_dpo),
    "chat": KnownAdapter(_chat, _is_chat),
    "superni": KnownAdapter(_superni, _is_superni),
    "nested_instances": KnownAdapter(_nested_instances, _is_nested_instances),
    "choices": KnownAdapter(_choices, _is_choices),
    "prompt_completion": KnownAdapter(_prompt_completion, _is_prompt_completion),
    "pairs": KnownAdapter(_pairs, _is_pairs),
}
"""Adapters by name, in the order in which `guess` tries them."""


def guess(rows: Sequence[Row], context: Mapping[str, Any]) -> str | None:
    """Name of the adapter that fits most of `rows`; of equal ones, the first in `ADAPTERS`. None when none fits any."""
    best, most = None, 0
    for name, adapter in ADAPTERS.items():
        count = sum(adapter.fits(row, context) for row in rows)
        if count > most:
            best, most = name, count
    return best


# Templates


_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


def template_columns(template: str) -> tuple[str, ...]:
    """Columns that a template of a manifest's `map:` names.

    Raises
    ------
    ValueError
        A brace stands alone.
    """
    columns = []
    for match in _PLACE.finditer(template):
        if match.group(1) is not None:
            columns.append(match.group(1).removesuffix("?"))
        elif match.group() not in ("{{", "}}"):
            raise ValueError(
                f"the template {template!r} has a single {match.group()!r} at character {match.start()}; "
                "expected {column}, or {{ and }} for literal braces"
            )
    return tuple(columns)


def look_up(row: Row, path: str) -> Any:
    """Value of the column `path`, or of `a.b` inside it; raises `RowError` when there is none."""
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise RowError(Outcome.MISSING_FIELD, f"there is no {path}; found {_names(row)}")
    return value


def fill(template: str, row: Row) -> str:
    """`template` with each `{column}` replaced by the column's text; raises `RowError` when one has none."""

    def text(match: re.Match[str]) -> str:
        column = match.group(1)
        if column is None:
            return match.group()[0]
        if not column.endswith("?"):
            return as_text(look_up(row, column), column)
        try:
            value = look_up(row, column[:-1])
        except RowError:
            return ""
        return "" if value is None else as_text(value, column[:-1])

    return _PLACE.sub(text, template)


def mapped(instruction: str, response: str | None) -> Adapter:
    """The adapter that a manifest's `map:` declares by its templates; without a response, every pair's is empty."""
    response = response or ""
    used = frozenset(column.split(".")[0] for column in template_columns(instruction) + template_columns(response))
    alone = re.fullmatch(r"\{([^{}?]+)\}", response)

    def adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
        filled = fill(instruction, row)
        if alone is None:
            return Adapted((Draft(filled, fill(response, row)),), used)
        column = alone.group(1)
        return Adapted([Draft(filled, text) for text in as_texts(look_up(row, column), column)], used)

    return adapt
