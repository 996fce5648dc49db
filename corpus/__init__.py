"""Records: what they are, where they come from, and how to look at them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus.look import scan

__all__ = ["scan"]


def __getattr__(name: str) -> Any:
    """`corpus.scan` is imported when it is used: it needs polars, which the trainer does without."""
    if name == "scan":
        from corpus.look import scan

        return scan
    raise AttributeError(f"module 'corpus' has no attribute {name!r}")
