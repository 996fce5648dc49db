"""An attack, the thing it is made on, and the verdict on what the reader did."""

import copy
import json
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

SECONDS = 120.0
"""After which a reader hangs."""
DEEP = 100_000
"""Levels of nesting of a file that is nested deep."""
UNKNOWN_TAG = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
"""Post-processor of a tokenizer that adds a token it does not describe: encoding any text panics."""


class Verdict(StrEnum):
    """What a reader did with a damaged file."""

    REFUSED = "refused"
    """It raised an error that ends a command with one line."""
    PASSED_OVER = "passed over"
    """It said so in one line and used what was there before."""
    HARMLESS = "harmless"
    """Its result is that of the undamaged file."""
    TRACEBACK = "traceback"
    """It raised another exception, or an error of several lines."""
    HUNG = "hung"
    TAKEN = "taken"
    """It returned another result and said nothing."""


GOOD = (Verdict.REFUSED, Verdict.PASSED_OVER, Verdict.HARMLESS)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A damage to a file or folder."""

    kind: str
    name: str
    damage: Callable[[Path], None]
    """Changes a folder that holds a copy of what is attacked."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened."""

    verdict: Verdict
    said: str
    """Message of the error or warning."""


class PassedOver(Exception):  # noqa: N818 - a result
    """Raised by `Target.read` where the reader has used what was there before."""


class Target(Protocol):
    """Something that is attacked."""

    sound: Path
    """A folder that `read` reads without fault."""
    errors: tuple[type[BaseException], ...]
    """Exceptions that end a command with one line."""

    def read(self, folder: Path) -> object:
        """Read the whole folder and return all that was read, in a form that can be compared."""
        ...


class HungError(BaseException):
    """The reader took longer than `SECONDS`."""


@contextmanager
def _limited() -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def make(attack: Attack, target: Target, folder: Path, *, expected: object) -> Outcome:
    """Make an attack and judge what the reader does.

    Parameters
    ----------
    attack, target
        The attack and what it is made on.
    folder
        A folder for the damaged copy; what is in it is deleted.
    expected
        What `target.read` returns for `target.sound`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(target.sound, folder)
    attack.damage(folder)
    warnings = _Warnings()
    logging.getLogger().addHandler(warnings)
    try:
        with _limited():
            found = target.read(folder)
    except PassedOver:
        said = warnings.lines[0] if warnings.lines else ""
        one_line = bool(said) and "\n" not in said
        return Outcome(verdict=Verdict.PASSED_OVER if one_line else Verdict.TRACEBACK, said=said)
    except HungError:
        return Outcome(verdict=Verdict.HUNG, said=f"more than {SECONDS:.0f} s")
    except target.errors as error:
        said = str(error)
        return Outcome(verdict=Verdict.TRACEBACK if "\n" in said else Verdict.REFUSED, said=said)
    except BaseException as error:  # torch's and tokenizers' own among them
        if isinstance(error, KeyboardInterrupt):
            raise
        return Outcome(verdict=Verdict.TRACEBACK, said=f"{type(error).__name__}: {error}")
    finally:
        logging.getLogger().removeHandler(warnings)
    if found == expected:
        return Outcome(verdict=Verdict.HARMLESS, said="")
    return Outcome(verdict=Verdict.TAKEN, said=f"{found!r:.200}")


# --- Damages of JSON ----------------------------------------------------------------------------------------------


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of each value in a JSON document, of at most two items of a list."""
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:2]):
            yield from places(inner, (*at, number))


def replaced(value: Any, at: tuple[str | int, ...], new: Any) -> Any:
    """A copy of a JSON document with another value at a place; `new` may be a function of the value there."""
    if not at:
        return new(value) if callable(new) else new
    result = copy.deepcopy(value)
    inside = result
    for step in at[:-1]:
        inside = inside[step]
    inside[at[-1]] = new(inside[at[-1]]) if callable(new) else new
    return result


def without(value: Any, at: tuple[str | int, ...]) -> Any:
    """A copy of a JSON document without what is at a place."""
    result = copy.deepcopy(value)
    inside = result
    for step in at[:-1]:
        inside = inside[step]
    del inside[at[-1]]
    return result


def put(path: Path, at: str, new: Any) -> None:
    """Replace a value in a JSON file; `at` is its place with dots: "strata.0.begin"."""
    document = json.loads(path.read_text())
    steps = tuple(int(step) if step.isdecimal() else step for step in at.split(".")) if at else ()
    path.write_text(json.dumps(replaced(document, steps, new)))


def nested(path: Path) -> None:
    """Replace a file by JSON that is nested deep."""
    path.write_text("[" * DEEP + "]" * DEEP)
