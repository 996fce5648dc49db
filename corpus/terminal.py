"""Text of data on a terminal, which must not control it.

`printable` is for `print`; tables and marked-up lines go through the `Console`, which applies it to all it shows.
"""

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1, except tab and line feed
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of text
    r"\u2028\u2029"  # line and paragraph separators
    r"\ud800-\udfff]"  # bytes of file names that are not UTF-8, which no stream can write
)


def printable(text: str) -> str:
    """Replace each character with which data could control a terminal by U+FFFD; tabs and line ends are kept."""
    return _CONTROL.sub("\ufffd", text)


def counted(count: int, name: str, plural: str = "") -> str:
    """Return a number with the name of what it counts: "1 shard", "1,024 shards"; the plural adds an s by default."""
    return f"{count:,} {name if count == 1 else plural or name + 's'}"


def console(width: int, *, markup: bool = False) -> "Console":
    """Return a console on standard output on which texts cannot control the terminal.

    Parameters
    ----------
    width
        Columns where standard output is not a terminal.
    markup
        Whether `[bold]` in a text is markup; texts from data must then be escaped (`rich.markup.escape`).
    """
    return make_console(width=None if sys.stdout.isatty() else width, highlight=False, markup=markup)


def make_console(**options: Any) -> "Console":
    """Return a rich console with these options on which texts cannot control the terminal."""
    # Only the commands that show tables need rich, which takes a tenth of a second to import.
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class _Console(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    return _Console(emoji=False, **options)
