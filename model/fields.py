"""Reading of small JSON files field by field, each with its type and bounds.

    file ─ read_fields: size, depth ─▶ Fields ─ count, text, fields, … ─▶ values, or a `FieldError`

This package does without pydantic, by which `corpus.schema` does the same.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 64 * 2**20
"""Largest size of a file that is read."""
MAX_COUNT = 2**53
"""Largest number that every JSON reader holds exactly."""
_SHOWN = 80


class FieldError(ValueError):
    """Content that does not fit, as a phrase that names field, found and expected value."""


class Fields:
    """An object in a JSON file.

    Parameters
    ----------
    found
        Its content.
    place
        Its place in the file, for messages: "progress", or "" for the whole file.
    """

    def __init__(self, found: Any, place: str = ""):
        self._place = place
        if not isinstance(found, dict):
            raise FieldError(f"{place + ' ' if place else ''}is {shown(found)}, expected an object")
        self._found = found

    def __contains__(self, name: str) -> bool:
        return self._found.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    @property
    def content(self) -> Mapping[str, Any]:
        """The object as it is."""
        return self._found

    def only(self, *names: str) -> "Fields":
        """Return the object, which has no other fields than these."""
        for name in self._found:
            if name not in names:
                raise FieldError(f"has an unknown field {shown(self._at(name))}, expected {', '.join(names)}")
        return self

    def fields(self, name: str) -> "Fields":
        """Return a field that is an object."""
        return Fields(self._value(name), self._at(name))

    def text(self, name: str) -> str:
        """Return a field that is text."""
        value = self._value(name)
        return value if isinstance(value, str) else self._refuse(name, value, "text")

    def count(self, name: str, *, at_least: int = 0, at_most: int = MAX_COUNT) -> int:
        """Return a field that is a whole number within bounds."""
        value = self._value(name)
        if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
            self._refuse(name, value, f"a whole number from {at_least:,} to {at_most:,}")
        return value

    def number(self, name: str) -> float:
        """Return a field that is a number."""
        value = self._value(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            self._refuse(name, value, "a number")
        return float(value)

    def _value(self, name: str) -> Any:
        if name not in self._found:
            raise FieldError(f"lacks the field {self._at(name)}")
        return self._found[name]

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def _refuse(self, name: str, value: Any, expected: str) -> NoReturn:
        raise FieldError(f"{self._at(name)} is {shown(value)}, expected {expected}")


def read_fields(path: Path) -> Fields:
    """Read a JSON file that holds an object.

    Raises
    ------
    FieldError
        The file is too large, or nested too deep, or holds something else.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FieldError(f"is larger than {MAX_BYTES:,} bytes")
    try:
        found = json.loads(content)
    except ValueError as error:
        raise FieldError(f"is not valid JSON ({error})") from None
    except RecursionError:
        raise FieldError("is nested too deep, expected an object") from None
    return Fields(found)


def shown(value: Any) -> str:
    """Return a value for a message: on one line, and short."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
