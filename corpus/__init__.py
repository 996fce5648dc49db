"""Records of instruction-response pairs: their formats and sources, and reading of built datasets."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus.library import read, read_batches
    from corpus.look import scan

    __version__: str

__all__ = ["__version__", "read", "read_batches", "scan"]


def __getattr__(name: str) -> Any:
    """Import a function at its first use: all of them need polars, which the trainer does without."""
    if name == "__version__":
        import importlib.metadata

        return importlib.metadata.version("millrace")
    if name == "scan":
        from corpus.look import scan

        return scan
    if name in __all__:
        from corpus import library

        return getattr(library, name)
    raise AttributeError(f"module 'corpus' has no attribute {name!r}")
