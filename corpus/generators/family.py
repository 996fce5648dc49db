"""Task families, and the split of their problems into training and held-out ones.

`draw` draws a problem, `phrase` writes it as instruction and response. All that
distinguishes two problems is in the value of `draw`; `phrase` decides wording,
order of operands and direct or step-by-step answers. The split is a hash of the
problem, so no wording of a held-out problem is ever a training row, in any
family, seed or row.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Generic, Literal, TypeVar

Split = Literal["train", "heldout"]

HELDOUT_PERCENT = 10
"""Percentage of problems that is held out."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Text:
    """A phrased problem."""

    instruction: str
    response: str
    condition: str = "direct"


def _whole(problem: object) -> object:
    return problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(Generic[P]):
    """A kind of task: how its problems, of type `P`, are drawn and phrased."""

    name: str
    about: str
    """The task, in one sentence."""
    problems: int
    """Lower bound on the number of different problems."""
    draw: Callable[[Random], P]
    """Draws a problem: a tuple of plain values, in canonical form (equal problems are equal tuples)."""
    phrase: Callable[[P, Random], Text]
    schema: str
    """Fields of a row: a name in `corpus.generators.schemas.SCHEMAS`."""
    identity: Callable[[P], object] = _whole
    """The part of a problem that decides the split; the whole problem by default."""

    def draw_from(self, split: Split, rng: Random) -> P:
        """Draw a problem of one side of the split."""
        while True:
            problem = self.draw(rng)
            if split_of(self.identity(problem)) == split:
                return problem


def split_of(identity: object) -> Split:
    """Return the side of the split that a problem's identity is on."""
    digest = hashlib.blake2b(repr(identity).encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest, "big") % 100 < HELDOUT_PERCENT else "train"
