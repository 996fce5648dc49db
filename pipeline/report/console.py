"""The terminal: how wide it is, and texts from data made safe to print."""

from rich.console import Console
from rich.markup import escape

from corpus import terminal


def console() -> Console:
    """Return a console on standard output, wide enough for tables where that is not a terminal."""
    return terminal.console(180, markup=True)


def safe(text: str, chars: int | None = None) -> str:
    """Return text from data for a rich console with markup: shown as it is.

    Parameters
    ----------
    text
        Any text.
    chars
        Cut the text to this length and show it on one line; None leaves length and lines as they are.
    """
    if chars is not None:
        text = text if len(text) <= chars else text[: chars - 3] + "..."
        text = text.replace("\n", "\\n")
    return escape(terminal.printable(text))
