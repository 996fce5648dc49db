"""Examples of near duplicates: those least similar to their twins, side by side, for people to check."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

EXAMPLES = pa.schema(
    [
        ("score", pa.float64()),
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
        ("twin", pa.string()),
        ("twin_source", pa.string()),
        ("twin_instruction", pa.large_string()),
        ("twin_response", pa.large_string()),
    ]
)
COUNT = 100
"""Examples that a build shows; each of its steps writes as many."""
FILE = "least_similar.arrow"


def least_similar(examples: Iterable[pa.Table]) -> pa.Table:
    """Return the `COUNT` examples of smallest score, by score and row id."""
    found = EXAMPLES.empty_table()
    for table in examples:
        table = pa.concat_tables([found, table])
        found = table.take(pc.sort_indices(table, [("score", "ascending"), ("row_id", "ascending")])[:COUNT])
    return found


def write_examples(out: Path, examples: pa.Table) -> None:
    """Write the examples of a step into its folder."""
    with pa.OSFile(str(out / FILE), "wb") as sink, pa.ipc.new_file(sink, EXAMPLES) as file:
        file.write_table(examples)


def read_examples(folder: Path) -> pa.Table:
    """Return the examples that a step wrote."""
    with pa.OSFile(str(folder / FILE)) as file:
        return pa.ipc.open_file(file).read_all()
