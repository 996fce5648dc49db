"""Columns of texts → columns of instructions and responses: what the adapter `pairs` makes of each row, at once."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.adapters.kto import may_have_label
from corpus.adapters.pairs import whole_columns
from corpus.formats.base import TextBlock

_IS_VISIBLE = np.zeros(256, bool)
_IS_VISIBLE[[*range(0x21, 0x7F), *range(0xC3, 0xE1), *range(0xE4, 0xF5)]] = True
"""Whether a text is certainly not blank, by its first byte: blanks of other scripts begin with C2, E1, E2 or E3."""

_NOTHING, _BLANK_LINE = (pa.scalar(text, pa.large_string()) for text in ("", "\n\n"))


class WholePairs(NamedTuple):
    """The pairs of a block, one of each row."""

    instructions: pa.Array
    """large_string (n,)."""
    responses: pa.Array
    """large_string (n,)."""
    are_certain: NDArray[np.bool_]
    """Whether a row yields this pair and nothing else, (n,); other rows must be read by their adapter."""

    def runs(self) -> Iterator[tuple[int, int, bool]]:
        """Yield begin and end of rows that follow each other and are equal in `are_certain`, and that."""
        edges = (np.flatnonzero(self.are_certain[1:] != self.are_certain[:-1]) + 1).tolist()
        for begin, end in zip([0, *edges], [*edges, len(self.are_certain)], strict=True):
            yield begin, end, bool(self.are_certain[begin])


def whole_pairs(block: TextBlock) -> WholePairs | None:
    """Return the pairs of a block if its columns are those of a pair, and no others; None for any other block."""
    found = whole_columns(block.names)
    if found is None or may_have_label(block.names):
        return None
    columns = dict(zip(block.names, block.columns, strict=True))
    main, response = _first_bytes(columns[found.main]), _first_bytes(columns[found.response])
    are_certain = (main != 0) & (main != ord("[")) & (response != 0) & (response != ord("[")) & (response != ord("{"))
    texts = [columns[name] for name in found.parts]
    if len(texts) > 1:
        for text in texts:
            are_certain &= _IS_VISIBLE[_first_bytes(text)] | _is_empty(text).to_numpy(zero_copy_only=False)
    instructions = texts[0]
    for text in texts[1:]:
        separators = pc.if_else(pc.or_(_is_empty(instructions), _is_empty(text)), _NOTHING, _BLANK_LINE)
        instructions = pc.binary_join_element_wise(instructions, text, separators)
    return WholePairs(instructions, columns[found.response], are_certain)


def _is_empty(texts: pa.Array) -> pa.Array:
    return pc.equal(pc.binary_length(texts), 0)


def _first_bytes(texts: pa.Array) -> NDArray[np.uint8]:
    """Return the first byte of each text of a large_string column, 0 of an empty one."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    begins, first = bounds[:-1], np.zeros(len(texts), np.uint8)
    filled = bounds[1:] > begins
    if data is not None:
        first[filled] = np.frombuffer(data, np.uint8)[begins[filled]]
    return first
