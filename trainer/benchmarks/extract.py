"""Find the answer in a generated text, and read numbers."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?|-?\.\d+")


def last_box(text: str) -> str | None:
    r"""Return the content of the last closed `\boxed{…}` or `\fbox{…}`, or None."""
    for match in reversed(list(_BOX.finditer(text))):
        depth = 1
        for position in range(match.end(), len(text)):
            if text[position - 1] == "\\" and text[position] in "{}":
                continue
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[match.end() : position]
    return None


def whole_number(text: str) -> int | None:
    """Read a text as a number, without commas, dollar signs and outer blanks, and cut it to a whole one.

    Returns
    -------
    int or None
        None if the text is not a number.
    """
    value = number(text)
    return None if value is None else int(value)


def number(text: str) -> float | None:
    """Read a text as a finite number, without commas, dollar signs and outer blanks; None if it is not one."""
    try:
        value = float(text.replace(",", "").replace("$", "").strip())
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def last_number(text: str) -> str | None:
    """Return the last number that is written in a text, such as 1,200, -3.5 or 3/4, or None."""
    found = _NUMBER.findall(text)
    return found[-1] if found else None
