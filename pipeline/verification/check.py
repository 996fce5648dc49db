"""A check and its result."""

from collections.abc import Iterator
from dataclasses import dataclass

from corpus.contract import DatasetError
from corpus.storage import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    checked: str
    """What was looked at, and how much of it."""
    problems: tuple[str, ...]


def check(name: str, checked: str, problems: Iterator[str]) -> Check:
    """Collect the problems that a check yields; an exception that ends it early is one more.

    Raises
    ------
    StorageError
        The store cannot be reached, whether the dataset is sound is not known.
    """
    found: list[str] = []
    try:
        for problem in problems:
            found.append(problem)
    except StorageError:
        raise
    except DatasetError as error:
        found.append(str(error))
    except Exception as error:
        found.append(f"cannot be checked further: {type(error).__name__}: {error}")
    return Check(name=name, checked=checked, problems=tuple(found))
