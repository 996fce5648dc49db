"""Rows whose columns are an instruction and a response under any usual names: a pair for each distinct response.

Of several columns that could be the instruction or the response, the first that is not blank is taken; so model
predictions with a `response` and a gold `target` yield the `response`. A passage precedes a question or prompt and
follows an instruction; the input comes after both, then options. Either side may be a list of turns, also as JSON text;
`answers` and other names in the plural may be a list of texts as JSON text.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.adapters.base import (
    Adapted,
    Adapter,
    Draft,
    Dropped,
    as_json,
    as_text,
    as_texts,
    from_json,
    is_filled,
    join,
    list_columns,
    passage_text,
    plain,
)
from corpus.adapters.columns import PASSAGE_NAMES, columns, gather, pair, with_context
from corpus.adapters.conversation import Turn, answer_turns, is_turns, parse_turns
from corpus.adapters.options import find_options, read_options, show_options
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
    "inputspretokenized",
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
    "responses",
    "completions",
    "generations",
    "generation",
    "generatedsolution",
    "solution",
    "answer",
    "answers",
    "solutions",
    "targetspretokenized",
    "target",
    "targets",
    "continuation",
    "canonicalsolution",
    "ans",
    "lsolutions",
    "correctanswer",
    "bestanswer",
    "groundtruth",
)
"""Columns that can be the response, most likely first."""

_LISTS = frozenset({"outputs", "responses", "completions", "generations", "answers", "targets", "solutions"})
"""Those of them whose text may be a list as JSON."""

_SPEAKERS = (frozenset({"user", "human"}), frozenset({"assistant", "gpt", "bot"}))
"""Names of an instruction and of its response if both are there; each alone is mostly something else."""

_INSTRUCTIONS = ("instruction", "instructions", "definition")
_PROMPTS = ("prompt",)
_QUESTIONS = ("question", "query", "problem", "squestion")
_INPUTS = ("input", "inputs", "inputtext", "userinput", "exampleinput")
_REPEATED_CHARS = 20
"""A passage of at least this length that the prompt contains is not joined to it again."""


class _Columns(NamedTuple):
    mains: tuple[str, ...]
    """Columns that can be the instruction."""
    instructions: frozenset[str]
    """Those of them that the passage follows."""
    prompts: frozenset[str]
    """Those of them that may contain the passage already."""
    questions: tuple[str, ...]
    """Questions that follow an instruction."""
    passages: tuple[str, ...]
    inputs: tuple[str, ...]
    responses: tuple[str, ...]
    simple: bool
    """Whether there is no other context."""
    parts: tuple[str, ...]
    """Columns joined for the first of `mains` if `simple`, in the order of the text."""
    used: frozenset[str]
    """`parts`, and the first of `responses`."""
    whole: bool
    """Whether `simple`, and these are all columns."""


@lru_cache(maxsize=4096)
def _columns(names: tuple[str, ...]) -> _Columns | None:
    found = columns(names)
    by_name = found.plain

    def known(candidates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(by_name[name] for name in candidates if name in by_name)

    mains, responses = known(INSTRUCTION_NAMES), known(RESPONSE_NAMES)
    if not mains and not responses and _SPEAKERS[0] & by_name.keys() and _SPEAKERS[1] & by_name.keys():
        mains, responses = known(tuple(sorted(_SPEAKERS[0]))), known(tuple(sorted(_SPEAKERS[1])))
    if not mains or not responses:
        return None
    passages = known((*PASSAGE_NAMES, "text") if set(_QUESTIONS) & by_name.keys() else PASSAGE_NAMES)
    simple = "text" not in by_name and not (found.system or found.tools or found.history or find_options(names))
    main, response = mains[0], responses[0]
    instructions, questions, inputs = known(_INSTRUCTIONS), known(_QUESTIONS), known(_INPUTS)
    around = tuple(name for name in passages if name not in (main, response))
    if main in instructions:
        order = (main, *around, *(name for name in questions if name != response))
    else:
        order = (*around, main)
    if main not in inputs:
        order += tuple(name for name in inputs if name != response)
    used = frozenset({*order, response})
    return _Columns(
        mains,
        frozenset(instructions),
        frozenset(known(_PROMPTS)),
        questions,
        passages,
        inputs,
        responses,
        simple,
        order,
        used,
        simple and used.issuperset(names),
    )


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    found = _columns(tuple(row))
    if found is None:
        raise _no_columns(row, context)
    if found.simple and (draft := _plain_pair(row, found)) is not None:
        return Adapted((draft,), found.used)
    return join_columns(row, context, _first_filled(row, found.mains), _first_filled(row, found.responses))


def _plain_pair(row: Row, found: _Columns) -> Draft | None:
    """Return the pair of a `simple` row whose columns are texts that need no further look; None for any other."""
    main, response = row[found.mains[0]], row[found.responses[0]]
    if (
        type(main) is str and type(response) is str and main and response and main[0] != "[" and response[0] not in "[{"
    ):  # most rows of most files
        if len(found.parts) == 1:
            return Draft(main, response)
        texts = [row[name] for name in found.parts]
        if found.mains[0] not in found.prompts and all(text is None or type(text) is str for text in texts):
            return Draft(join(*texts), response)
    return None


def whole_pair(row: Row, names: tuple[str, ...]) -> Draft | None:
    """Return what `PAIRS` makes of a row, if it uses all columns, which are `names`; None if that is not certain."""
    found = _columns(names)
    return _plain_pair(row, found) if found is not None and found.whole else None


class WholeColumns(NamedTuple):
    """The columns of rows of texts from which `whole_pair` makes a pair."""

    main: str
    """Must not be empty, nor begin like a list."""
    parts: tuple[str, ...]
    """Joined for the instruction, in the order of the text; `main` is one of them."""
    response: str
    """Must not be empty, nor begin like a list or an object."""


def whole_columns(names: tuple[str, ...]) -> WholeColumns | None:
    """Return from which of the columns `names` of a row of texts `whole_pair` makes a pair; None if it makes none."""
    found = _columns(names)
    if found is None or not found.whole or (len(found.parts) > 1 and found.mains[0] in found.prompts):
        return None
    return WholeColumns(found.mains[0], found.parts, found.responses[0])


def is_formatted_copy(column: str, passage: Any, question: str) -> bool:
    """Whether a column `text` is no passage, but the whole pair in a template."""
    question = question.strip()
    return column.lower() == "text" and isinstance(passage, str) and question != "" and question in passage


def is_bare(row: Row) -> bool:
    """Whether a row with a prompt has no column with context for it."""
    found = _columns(tuple(row))
    return found is not None and found.simple and not found.passages and not found.inputs


def _no_columns(row: Row, context: Mapping[str, Any]) -> RowError:
    by_name = columns(tuple(row)).plain
    prompt = next((by_name[name] for name in INSTRUCTION_NAMES if name in by_name), None)
    missing = "instruction and response" if prompt is None else f"response to {prompt}"
    remedy = "state them in the source's `map:`, or the turns of a conversation in its `chat:`"
    inside = next((name for name, value in row.items() if _has_pair(value)), None)
    if inside is not None:
        list_key = context.get(LIST_KEY)
        path = f"{list_key}.*.{inside}" if list_key else inside
        remedy = f"{shorten(inside)} has such columns: state `rows: {path}`"
    elif len(row) < 2 and not any(isinstance(value, list | dict) for value in row.values()):
        remedy = "expected an instruction and a response; only an eval source may have a `map:` without a response"
    return RowError(
        Outcome.MISSING_FIELD, f"no columns that are known as {missing}; found {list_columns(row)}; {remedy}"
    )


def _has_pair(value: Any) -> bool:
    """Whether a value is an object, or a list of such, with columns that are an instruction and a response."""
    found = value[0] if isinstance(value, list) and value else value
    return isinstance(found, dict) and _columns(tuple(map(str, found))) is not None


def join_columns(row: Row, context: Mapping[str, Any], main: str, response_column: str) -> Adapted:
    """Make the pairs of the instruction in column `main` and its response, with the context of the other columns."""
    found = _columns(tuple(row))
    assert found is not None
    response = row[response_column]
    used = frozenset({main, response_column})
    value = row[main]
    if _is_conversation(value) or _is_conversation(response):
        return _adapt_turns(row, context, main, response_column)
    text = as_text(value, main) if not isinstance(value, dict) else passage_text(value, main)
    before: list[str] = []
    after: list[str] = []
    for column in found.passages:
        if column in (main, response_column) or row[column] is None or isinstance(row[column], bool | int | float):
            continue
        if is_formatted_copy(column, row[column], text):
            continue
        passage = passage_text(row[column], column)
        used |= {column}
        if main in found.prompts and len(passage) >= _REPEATED_CHARS and passage in text:
            continue
        (after if main in found.instructions else before).append(passage)
    if main in found.instructions:
        for column in found.questions:
            if row[column] is not None and column not in used:
                after.append(as_text(row[column], column))
                used |= {column}
    if main not in found.inputs:
        for column in found.inputs:
            if row[column] is not None and column != response_column:
                used |= {column}
                if isinstance(row[column], list) and all(isinstance(item, int) for item in row[column]):
                    continue  # the tokens of a text in another column
                given = passage_text(row[column], column)
                if main not in found.prompts or len(given) < _REPEATED_CHARS or given not in text:
                    after.append(given)
    if not found.simple:
        options = read_options(row, exclude=used)
        if options is not None:
            used |= options.columns
            if not all(option in text for option in options.texts):
                after.append(show_options(options))
    if before or after:
        text = join(*before, text, *after)
    responses = _responses(_calls(row, response), response_column)
    if found.simple:
        return Adapted([Draft(text, response) for response in responses], used)
    return pair(row, context, text, responses, used)


def _is_conversation(value: Any) -> bool:
    """Whether a value is a list of turns, one message, or an object with such a list."""
    if isinstance(value, dict):
        return is_turns([value]) if "content" in value else any(map(is_turns, value.values()))
    return is_turns(value)


def _turns(value: Any, column: str) -> list[Turn]:
    if not isinstance(value, dict) or "content" in value:
        return parse_turns(value, column)
    key = next(key for key in value if is_turns(value[key]))
    return with_context(gather(value, exclude=frozenset({key})), parse_turns(value[key], f"{column}.{key}"))


def _calls(row: Row, response: Any) -> Any:
    """Return a response that is calls of the tools that the row declares as JSON; any other as it is."""
    if not isinstance(response, list | dict) or not any(is_filled(row[name]) for name in columns(tuple(row)).tools):
        return response
    items = response if isinstance(response, list) else [response]
    are_calls = items and all(isinstance(item, dict) and not {"text", "content"} & item.keys() for item in items)
    return as_json(response) if are_calls else response


def _responses(value: Any, column: str) -> list[str]:
    """Return the distinct responses of a cell."""
    if not isinstance(value, str):
        return as_texts(value, column)
    if value[:1] not in ("[", "{") or plain(column) not in _LISTS:
        return [value]
    if "array(" in value and "dtype=" in value:
        detail = f"{column} is {shorten(value)}, an array as numpy prints it; write the file again from lists"
        raise RowError(Outcome.WRONG_TYPE, detail)
    found = from_json(value)
    if isinstance(found, dict):
        return as_texts(found, column) if "text" in found else [value]
    is_list = isinstance(found, list) and found != [] and all(isinstance(item, str) for item in found)
    return as_texts(found, column) if is_list else [value]


def _first_filled(row: Row, names: tuple[str, ...]) -> str:
    """Return the first column that is not blank, else the first that is not null, else the first."""
    filled = (name for name in names if is_filled(row[name]))
    return next(filled, None) or next((name for name in names if row[name] is not None), names[0])


def _adapt_turns(row: Row, context: Mapping[str, Any], main: str, response_column: str) -> Adapted:
    """Make the pairs of a prompt and a response of which one at least is a list of turns."""
    prompt, response = row[main], row[response_column]
    used = frozenset({main, response_column})
    found = gather(row, exclude=used)
    turns = with_context(
        found, _turns(prompt, main) if _is_conversation(prompt) else [Turn("user", as_text(prompt, main))]
    )
    if _is_conversation(response):
        answers = [_turns(response, response_column)]
    else:
        answers = [[Turn("assistant", text)] for text in _responses(_calls(row, response), response_column)]
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    for answer in answers:
        # A response may repeat its prompt.
        turns_of_answer = answer if answer[: len(turns)] == turns else [*turns, *answer]
        made, out = answer_turns(turns_of_answer, context, first=len(turns))
        dropped += [item._replace(part=item.part + len(drafts) + len(dropped)) for item in out]
        drafts += made
    return Adapted(drafts, used | found.used, dropped)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _columns(tuple(row)) is not None


PAIRS = Adapter(name="pairs", rank=80, fits=_fits, adapt=_adapt)
