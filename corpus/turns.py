"""How the turns of a conversation become one instruction, which is all that a sample's prefix has.

The system texts at the beginning as they are; then, if a user's turn is the only other one, its bare text, else every
turn with its role ("User:", "Assistant:", "Tool call:", "Tool result:", "System:"); separated by blank lines. Turns
without text are left out. Builds, generation and the chat template of an exported model follow this one rule.
"""

from collections.abc import Iterable, Mapping

from corpus.markup import Markup

LABELS: Mapping[str, str] = {
    "system": "System",
    "user": "User",
    "assistant": "Assistant",
    "call": "Tool call",
    "tool": "Tool result",
}
"""Role to the label of its turns."""


class Instruction:
    """An instruction that grows turn by turn."""

    __slots__ = ("_bare", "_body", "_head")

    def __init__(self) -> None:
        self._head: list[str] = []
        self._body: list[str] = []
        self._bare: str | None = None  # the text of the only turn in the body, if it is a user's

    def add(self, role: str, text: str) -> None:
        """Add a turn, whose role is a key of `LABELS`."""
        if not text or text.isspace():
            return
        if role == "system" and not self._body:
            self._head.append(text)
        else:
            self._bare = text if role == "user" and not self._body else None
            self._body.append(f"{LABELS[role]}: {text}")

    def text(self) -> str:
        """Return the instruction."""
        return "\n\n".join([*self._head, self._bare] if self._bare is not None else self._head + self._body)


def instruction_of(turns: Iterable[tuple[str, str]]) -> str:
    """Return the instruction that (role, text) turns make.

    Parameters
    ----------
    turns
        All turns before the answer, in order. Thinking and end markers are removed from those of the assistant, as in a
        build; the others are as they are.

    Raises
    ------
    ValueError
        A role is unknown.

    Examples
    --------
    >>> instruction_of([("system", "Answer briefly."), ("user", "2 + 2?")])
    'Answer briefly.\\n\\n2 + 2?'
    """
    markup, instruction = Markup(), Instruction()
    for role, text in turns:
        if role not in LABELS:
            raise ValueError(f"unknown role {role!r}: expected one of {', '.join(LABELS)}")
        instruction.add(role, markup.strip(text, answer=True) if role == "assistant" else text)
    return instruction.text()
