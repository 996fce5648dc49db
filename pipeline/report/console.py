"""The terminal: how wide it is, and texts from data made safe to print."""

import sys

from rich.console import Console
from rich.markup import escape

from corpus.terminal import printable


def console() -> Console:
    """Return a console on standard output, wide enough for tables where that is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 180, highlight=False)


def safe(text: str, chars: int | None = None) -> str:
    """Return text from data for a rich console: no markup, no control characters.

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
    return escape(printable(text))
