"""Adapters: from a row with named columns to instruction–response pairs, one file each.

Each module's `Adapter` is registered; `guess` picks the one that fits a file's first rows. A new adapter is a new
module here, or a function beside a manifest (`from_function`).

Column names are compared without case, `-`, `_` and blanks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from corpus.adapters.base import Adapted, Adapter
from corpus.adapters.columns import columns, refuse_media
from corpus.formats.base import Row
from corpus.plugins import instances


def _without_media(adapter: Adapter) -> Adapter:
    def adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
        adapted = adapter.adapt(row, context)
        if columns(tuple(row)).media:
            refuse_media(row, adapted)
        return adapted

    return replace(adapter, adapt=adapt)


ADAPTERS: Mapping[str, Adapter] = {
    adapter.name: _without_media(adapter)
    for adapter in sorted(instances(__name__, Adapter), key=lambda adapter: adapter.rank)
}
"""Adapters by name, in the order in which `guess` tries them: by rank."""


def guess(rows: Sequence[Row], context: Mapping[str, Any]) -> str | None:
    """Return the name of the adapter that fits most of `rows`, the first in `ADAPTERS` on a tie; None if none fits."""
    counts = {name: sum(adapter.fits(row, context) for row in rows) for name, adapter in ADAPTERS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None
