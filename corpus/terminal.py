"""Text of data on a terminal."""

import re


def printable(text: str) -> str:
    """Replace the control characters with which data could control a terminal; tabs and line ends are kept."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)
