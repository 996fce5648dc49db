"""HRM-Text and its baselines: architecture, attention kernels, generation, Hugging Face format."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # imports torch, which takes seconds
        from model.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
