"""The manifest's `clean:`."""

from pydantic import Field

from corpus.config import Config


class CleanSpec(Config):
    """What cleaning removes from texts, and which pairs it drops."""

    remove_think: bool = True
    """Remove `<think>…</think>` from responses; a block without its end drops the pair (`unclosed_think`)."""
    end_markers: tuple[str, ...] = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "</s>")
    """End tags of other tokenizers, removed where a response ends with them as text."""
    max_instruction_chars: int = Field(default=100_000, ge=1)
    """Longer instructions drop the pair (`too_long`)."""
    max_response_chars: int = Field(default=100_000, ge=1)
    """Longer responses drop the pair (`too_long`)."""
