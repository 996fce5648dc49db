"""From a mix manifest to a curated, deduplicated, tokenized and sharded dataset that accounts for every row.

`build` builds a dataset; `clean`, `apply_rules`, `near_dedup` and `decontaminate` apply one stage to a polars frame.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.library import apply_rules, clean, near_dedup

__all__ = ["apply_rules", "build", "clean", "decontaminate", "near_dedup"]


def __getattr__(name: str) -> Any:
    """Import a function at its first use, since commands must start fast."""
    if name in ("build", "decontaminate"):  # callable modules, see `pipeline.callable`
        return importlib.import_module(f"pipeline.{name}")
    if name in __all__:
        return getattr(importlib.import_module("pipeline.library"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
