"""Transcripts: a whole conversation as one text, with a mark before each turn, in the column `text` or alike."""

import re
from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, list_columns
from corpus.adapters.columns import columns, gather, with_context
from corpus.adapters.conversation import Turn, answer_turns, role_of
from corpus.formats.base import Row, RowError
from corpus.outcome import Outcome

_NAMES = ("text", "chat", "conversation", "conversations", "dialogue", "dialog", "transcript", "messages")

_ROLE = (
    r"(system|user|human|prompter|assistant|bot|gpt|ai|model|(?:tool|function)(?:[ _]?(?:call|response|result|output))?"
    r"|ipython|observation)"
)
_MARKS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"<\|im_start\|>{_ROLE}[ \t]*\n",
        rf"<\|start_header_id\|>{_ROLE}<\|end_header_id\|>\s*",
        rf"<start_of_turn>{_ROLE}\n",
        rf"<\|start_of_role\|>{_ROLE}<\|end_of_role\|>",
        rf"<\|{_ROLE}\|>:?[ \t]*\n?",
        rf"(?:\A|\n|(?<=[^#\s]))[ \t]*###[ \t]*{_ROLE}:[ \t]*",
        rf"(?:\A|\n){_ROLE}:[ \t]*",
        r"(?:\A|\n)[ \t]*###[ \t]*(instruction|response):?[ \t]*\n",
        rf"\[\|{_ROLE}\|\]:?[ \t]*",
        rf"(?:\A|(?<=\s))<{_ROLE}>:[ \t]*",
        r"(?:\A|(?<=[\s>]))(?-i:(USER|ASSISTANT|SYSTEM|TOOL)):[ \t]*",
    )
)
_ALPACA = {"instruction": "user", "response": "assistant"}
_SPACE = re.compile(r"^(?:<\|begin_of_text\|>|<s>|<bos>|\s)*")
_INST = re.compile(r"<s>|\[INST\]|\[/INST\]")
_SYSTEM = re.compile(r"<<SYS>>\s*(.*?)\s*<</SYS>>\s*", re.DOTALL)


def parse_transcript(text: str) -> list[Turn]:
    """Return the turns of a transcript; an empty list for a text that is none.

    A transcript begins with a mark, or with a preamble that becomes its system text, and has marks of a user and of
    the assistant in one style: ChatML, Llama, Gemma, Granite, `<|user|>`, `### Human:`, `Human:`, `### Instruction:`,
    `[INST]`, `[|Human|]`, `<human>:` or `USER:`.
    """
    text = _SPACE.sub("", text)
    if "[INST]" in text:
        return _parse_inst(text)
    for mark in _MARKS:
        found = list(mark.finditer(text))
        ends = [match.start() for match in found[1:]] + [len(text)]
        turns = [
            Turn(_ALPACA.get(match[1].lower()) or role_of(match[1]) or "", text[match.end() : end].strip())
            for match, end in zip(found, ends, strict=False)
        ]
        if {"user", "assistant"} <= {turn.role for turn in turns}:
            preamble = text[: found[0].start()].strip()
            return [Turn("system", preamble), *turns] if preamble else turns
    return []


def _parse_inst(text: str) -> list[Turn]:
    preamble, *blocks = text.split("[INST]")
    preamble = preamble.replace("<s>", "").strip()
    turns = [Turn("system", preamble)] if preamble else []
    for block in blocks:
        user, mark, answer = block.partition("[/INST]")
        if system := _SYSTEM.search(user):
            turns.append(Turn("system", system[1]))
            user = user[: system.start()] + user[system.end() :]
        turns.append(Turn("user", user.strip()))
        if mark:
            turns.append(Turn("assistant", answer.replace("<s>", "").strip()))
    return turns


def _find(row: Row) -> tuple[str, list[Turn]] | None:
    plain = columns(tuple(row)).plain
    for name in _NAMES:
        value = row[plain[name]] if name in plain else None
        if isinstance(value, str) and (turns := parse_transcript(value)):
            return plain[name], turns
    return None


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    found = _find(row)
    if found is None:
        raise RowError(Outcome.NO_PAIR, f"no text with the marks of a user and an assistant; found {list_columns(row)}")
    column, turns = found
    used = frozenset({column})
    around = gather(row, exclude=used)
    drafts, dropped = answer_turns(with_context(around, turns), context)
    return Adapted(drafts, used | around.used, dropped)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _find(row) is not None


TRANSCRIPT = Adapter(name="transcript", rank=90, fits=_fits, adapt=_adapt)
