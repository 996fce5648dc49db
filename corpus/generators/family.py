"""What a task family is, and which side of the train/held-out split a problem is on.

`draw` makes a problem, `phrase` writes it down as instruction and response.
Everything that makes two problems different is in what `draw` returns; wording,
order of operands and direct or step-by-step answers are `phrase`'s. The split
is a hash of the problem alone, so no wording of a held-out problem is ever a
training row, whatever family, seed or row it came from.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Generic, Literal, TypeVar

Split = Literal["train", "heldout"]

HELDOUT_PERCENT = 10
"""Share of all problems that is held out."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Text:
    """One problem in words."""

    instruction: str
    response: str
    condition: str = "direct"


def _itself(problem: object) -> object:
    return problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(Generic[P]):
    """A kind of task: problems of type `P`, and how they read."""

    name: str
    about: str
    """What is asked, in one sentence."""
    problems: int
    """How many different problems there are, at least."""
    draw: Callable[[Random], P]
    """A random problem: a tuple of plain values, in canonical form (equal problems are equal tuples)."""
    phrase: Callable[[P, Random], Text]
    schema: str
    """Which fields a row has; a name in `corpus.generators.schemas.SCHEMAS`."""
    identity: Callable[[P], object] = _itself
    """What the split looks at, where that is less than the whole problem."""

    def draw_from(self, split: Split, rng: Random) -> P:
        """A random problem of one side of the split."""
        while True:
            problem = self.draw(rng)
            if split_of(self.identity(problem)) == split:
                return problem


def split_of(identity: object) -> Split:
    """Which side of the split a problem is on; depends on nothing but the problem's content."""
    digest = hashlib.blake2b(repr(identity).encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest, "big") % 100 < HELDOUT_PERCENT else "train"
