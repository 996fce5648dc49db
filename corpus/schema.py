"""Parsing of small JSON files by a schema: bounded before it begins, and with an error of one line.

bytes ─ at most `MAX_BYTES`, nested at most about 200 levels ─▶ pydantic model, strict ─▶ values, or a `SchemaError`
"""

from collections.abc import Iterator
from typing import IO, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

MAX_BYTES = 64 * 2**20
"""Largest size of a JSON file that is read whole, and of a line of a JSON lines file: an index of 100,000 shards."""
SHOWN = 80
"""Characters of a value that a message shows."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number that every JSON reader holds exactly."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SchemaError(ValueError):
    """Content that does not fit its schema, as a phrase that names field, found and expected value."""


class Described(BaseModel):
    """Base of the models: immutable, no conversion of types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


Model = TypeVar("Model", bound=Described)


def parse_json(content: bytes) -> Any:
    """Parse JSON.

    Raises
    ------
    SchemaError
        The content is too large, nested too deep, or not JSON.
    """
    if len(content) > MAX_BYTES:
        raise SchemaError(f"is larger than {MAX_BYTES:,} bytes")
    try:
        return from_json(content)  # has a limit of depth
    except ValueError as error:
        raise SchemaError(f"is not valid JSON ({error})") from None


def parse(model: type[Model], content: bytes) -> Model:
    """Parse JSON into a model.

    Parameters
    ----------
    model
        The schema.
    content
        The file's bytes.

    Raises
    ------
    SchemaError
        The content is too large, nested too deep, not JSON, or does not fit the model.
    """
    if len(content) > MAX_BYTES:
        raise SchemaError(f"is larger than {MAX_BYTES:,} bytes")
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
    place = first["loc"][:-2] if first["loc"][-1:] == ("[key]",) else first["loc"]
    field = shown(".".join(map(str, place)), quoted=False)
    more = f" (and {len(others)} more)" if others else ""
    match first["type"]:
        case "missing":
            problem = f"lacks the field {field}"
        case "extra_forbidden":
            problem = f"has an unknown field {field}"
        case "value_error":
            reason = first["msg"].removeprefix("Value error, ")
            problem = f"{field}: {reason}" if field else reason
        case "json_invalid":
            problem = f"is not valid JSON ({first['msg'].removeprefix('Invalid JSON: ')})"
        case _:
            expected = first["msg"].removeprefix("Input should be ")
            problem = f"{field + ' ' if field else ''}is {shown(first['input'])}, expected {expected}"
    raise SchemaError(problem + more)


def lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers from 1, without the line ends.

    Raises
    ------
    SchemaError
        A line is larger than `MAX_BYTES`.
    """
    number = 0
    while line := file.readline(MAX_BYTES + 1):
        number += 1
        if len(line) > MAX_BYTES:
            raise SchemaError(f"line {number} is larger than {MAX_BYTES:,} bytes")
        yield number, line.rstrip(b"\r\n")


def shown(value: Any, *, quoted: bool = True) -> str:
    """Return a value for a message: on one line, and short."""
    text = repr(value) if quoted else "".join(letter if letter.isprintable() else "\ufffd" for letter in str(value))
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
