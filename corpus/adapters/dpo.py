"""Preference data with `chosen`: one pair, the chosen response after the whole conversation."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, as_text, field, join, list_columns
from corpus.adapters.chat import CONVERSATION_NAMES, Turn, last_answer, parse_conversation, parse_turn, parse_turns
from corpus.formats.base import Row, RowError
from corpus.outcome import Outcome


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    chosen = field(row, "chosen")
    used = frozenset({"chosen", "rejected"})
    if isinstance(chosen, list):
        turns = parse_turns(chosen, "chosen")
        if any(turn.role == "user" for turn in turns):
            return Adapted((last_answer(turns),), used | {"prompt"})
    elif isinstance(chosen, dict):
        turns = parse_turn(chosen, "chosen")
    else:
        turns = [Turn("assistant", as_text(chosen, "chosen"))]
    if any(name in row for name in CONVERSATION_NAMES):
        history, columns = parse_conversation(row)
        return Adapted((last_answer([*history, *turns]),), used | columns)
    prompt_column = next((name for name in ("prompt", "question", "instruction", "input") if name in row), None)
    if prompt_column is None:
        raise RowError(Outcome.MISSING_FIELD, f"chosen without a prompt or conversations; found {list_columns(row)}")
    prompt = row[prompt_column]
    if isinstance(prompt, list):
        history = parse_turns(prompt, prompt_column)
    else:
        history = [Turn("user", as_text(prompt, prompt_column))]
        if prompt_column != "input" and row.get("input"):
            history = [Turn("user", join(history[0].text, as_text(row["input"], "input")))]
    system = row.get("system")
    if isinstance(system, str) and system:
        history.insert(0, Turn("system", system))
    return Adapted((last_answer([*history, *turns]),), used | {prompt_column, "system", "input"})


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return "chosen" in row


DPO = Adapter(name="dpo", rank=20, fits=_fits, adapt=_adapt)
