"""One run of a fuzzer: inputs drawn by a seed, each given to the reader."""

import logging
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.fuzz.readers import Reader


def check(reader: Reader, *, examples: int, seed: int) -> int:
    """Give inputs to a reader; return their number.

    Raises
    ------
    Exception
        What the reader raised for the smallest input that was found, which hypothesis adds as a note.
    """
    tried = 0

    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(reader.inputs())
    def run(content: Any) -> None:
        nonlocal tried
        tried += 1
        reader.check(content)

    # Warnings about what is passed over, thousands of times.
    logging.disable(logging.WARNING)
    try:
        run()
    finally:
        logging.disable(logging.NOTSET)
    return tried
