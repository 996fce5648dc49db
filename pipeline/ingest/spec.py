"""The manifest's `clean:`."""

import re
from typing import Any, Self

from pydantic import Field, model_serializer, model_validator

from corpus.config import Config
from corpus.markup import END_MARKERS, Markup


class ReplaceSpec(Config):
    """One replacement in texts."""

    pattern: str = Field(min_length=1)
    """Text to replace, or with `regex: true` an expression in the syntax of Rust's regex, whose time is linear."""
    replacement: str = Field(alias="with")
    """For an expression, `$1` or `${name}` is the text of a group, and `$$` a dollar sign."""
    regex: bool = False

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        if self.regex:
            import polars as pl

            try:
                matches_nothing = pl.Series([""]).str.contains(self.pattern).item()
            except pl.exceptions.ComputeError as error:
                reason = re.findall(r"error: (.*)", str(error))[-1:] or ["it is too large"]
                raise ValueError(
                    f"pattern is {self.pattern!r}, which is not a regular expression: {reason[0]}"
                ) from None
            if matches_nothing:
                raise ValueError(
                    f"pattern is {self.pattern!r}, which matches the empty text; expected one that does not"
                )
        return self

    @model_serializer
    def _keys(self) -> dict[str, Any]:
        return {"pattern": self.pattern, "with": self.replacement, "regex": self.regex}


class CleanSpec(Config):
    """What cleaning removes from texts, and which pairs it drops."""

    replace: tuple[ReplaceSpec, ...] = ()
    """Replacements in instructions and responses, in order, before all other cleaning."""
    remove_think: bool = True
    """Remove `<think>…</think>` from responses and from the earlier answers in an instruction; a response with a block
    without its end drops the pair (`unclosed_think`)."""
    end_markers: tuple[str, ...] = END_MARKERS
    """End markers of chat templates, removed from the ends of responses and of the earlier turns in an instruction."""
    max_instruction_chars: int = Field(default=100_000, ge=1)
    """Longer instructions drop the pair (`too_long`)."""
    max_response_chars: int = Field(default=100_000, ge=1)
    """Longer responses drop the pair (`too_long`)."""

    @property
    def markup(self) -> Markup:
        """What is removed from the earlier turns in an instruction."""
        return Markup(remove_think=self.remove_think, end_markers=self.end_markers)
