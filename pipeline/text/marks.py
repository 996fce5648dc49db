"""Calculator marks of worked solutions, such as "<<48/2=24>>"."""

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text import codes
from pipeline.text.codes import Int, byte_at
from pipeline.text.options import INNER_KERNEL

_MAX_MARK_BYTES = 80
"""Length of the longest calculator mark."""
_MIN_FORMULA_BYTE, _MAX_FORMULA_BYTE = ord(" "), ord("=")
"""What a mark's formula consists of is between these: blanks, digits and signs, no letters."""


@numba.njit(**INNER_KERNEL)
def mark_size(data: NDArray[np.uint8], at: Int, end: int) -> int:
    """Bytes of the calculator mark at a "<", 0 if there is none."""
    if byte_at(data, at + 1, end) != codes.LESS:
        return 0
    for place in range(at + 2, min(end - 1, at + _MAX_MARK_BYTES)):
        byte = data[place]
        if byte == codes.GREATER and data[place + 1] == codes.GREATER:
            return place + 2 - at
        if not _MIN_FORMULA_BYTE <= byte <= _MAX_FORMULA_BYTE or byte == codes.LESS:
            return 0
    return 0
