"""The manifest's `decontaminate:`."""

from typing import Self

from pydantic import Field, model_validator

from corpus.config import Config


class DecontaminateSpec(Config):
    """Removal of train records that contain a question or a solution of an eval source of the mix (`contaminated`)."""

    enabled: bool = True
    n: int = Field(default=13, ge=4, le=64)
    """Words of an n-gram; a record is a candidate if it shares one with a question. Shorter questions are searched for
    as a whole, and longer ones with a changed word or two, or by half of their stem, too."""
    coverage: float = Field(default=0.7, gt=0.0, le=1.0)
    """Smallest share of a question's words that shared n-grams must cover; words of its template do not count."""
    min_words: int = Field(default=6, ge=3)
    """Shorter questions are searched for only as a record's whole instruction, together with their answer."""
    min_solution_words: int = Field(default=20, ge=13)
    """Reference answers and rationales of at least this many words are searched for without their question."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_words >= self.n:
            raise ValueError(f"min_words {self.min_words} must be smaller than n {self.n}")
        return self
