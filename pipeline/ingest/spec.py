"""The manifest's `clean:`."""

from pydantic import Field

from corpus.config import Config
from corpus.markup import END_MARKERS, Markup


class CleanSpec(Config):
    """What cleaning removes from texts, and which pairs it drops."""

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
