"""The report of a dataset: one self-contained HTML page, its tables as Parquet, and the dataset card.

counts, ledger lines, findings ─▶ tables ─┬▶ index.html.jinja ─▶ report/index.html
                                          ├▶ report/*.parquet
                                          └▶ card.md.jinja ────▶ README.md
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from corpus.contract import CARD, REPORT, SPECIAL_TOKENS, DatasetInfo, Stratum
from corpus.formats.tally import describe_losses
from corpus.outcome import FileOutcome
from corpus.pages import template
from pipeline.decontaminate.findings import Findings
from pipeline.records.ledger import ColumnLine

MAX_ROWS = 1000
"""Rows of a table on the page; report/*.parquet and ledger/*.parquet have all rows."""
MAX_DUPLICATES = 20
NEAR_DUPLICATES = "report/near_duplicates.parquet"
CONTAMINATION_HITS = "report/contamination_hits.parquet"
QUANTILES = (0.5, 0.9, 0.99, 1.0)

_EXAMPLE = ("source", "outcome", "file", "row", "part", "row_id", "twin", "score", "detail")
_HIT = ("eval_source", "part", "coverage", "item_text", "record_text", "source", "row_id", "item")
_FILE = ("source", "file", "bytes", "rows", "pairs", "outcome", "position", "detail")

Row = Mapping[str, Any]
"""A row of a table: column name to a text, number or None."""


def write(
    out: Path,
    info: DatasetInfo,
    *,
    files: Sequence[Row],
    columns: Sequence[ColumnLine],
    strata: Sequence[Stratum],
    lengths: NDArray[np.uint16],
    examples: Mapping[tuple[str, str], Sequence[Row]],
    duplicates: pa.Table,
    contamination: Findings,
    license: str | None,
) -> None:
    """Write `report/index.html`, `report/*.parquet` and `README.md` into `out`.

    Parameters
    ----------
    info
        Content of dataset.json; `files` may still be empty.
    files
        Lines of ledger/files.parquet.
    columns
        Lines of ledger/columns.parquet.
    strata
        Content of strata.json.
    lengths
        uint16 (n, 2): prefix and response length in tokens.
    examples
        Ledger lines of a few dropped rows, by source and outcome.
    duplicates
        `pipeline.dedup.near.examples.EXAMPLES`: the near duplicates least similar to their twins.
    contamination
        Findings of decontamination.
    license
        The mix's licence, for the card; None: not stated.
    """
    sources = [_source(name, count.model_dump()) for name, count in info.counts.items()]
    drops = [
        {"source": name, "reason": reason, "count": count}
        for name, counts in info.counts.items()
        for reason, count in counts.dropped.items()
    ]
    by_stratum = [_stratum(stratum, lengths) for stratum in strata]
    for name, rows in (("sources", sources), ("drops", drops), ("strata", by_stratum)):
        _write_table(pa.Table.from_pylist(rows), out / f"report/{name}.parquet")
    _write_table(duplicates, out / NEAR_DUPLICATES)
    _write_table(contamination.sets, out / "report/contamination.parquet")
    _write_table(contamination.examples, out / "report/contamination_examples.parquet")
    sections: dict[str, Sequence[Row]] = {
        "Sources": sources,
        "Dropped, by reason": drops,
        "Examples of dropped rows": _select(
            _EXAMPLE, (line for _, lines in sorted(examples.items()) for line in lines)
        ),
        "Near duplicates least similar to the rows kept instead": duplicates.slice(0, MAX_DUPLICATES).to_pylist(),
        "Eval sources in train sources": contamination.sets.to_pylist(),
        "Eval items and the train records that contain them": _select(_HIT, contamination.examples.to_pylist()),
        "Files not read whole": [
            {**line, "lost": describe_losses(whole["bytes_lost"])}
            for whole in files
            if whole["outcome"] != FileOutcome.READ or whole["bytes_lost"]
            for line in _select(_FILE, [whole])
        ],
        "Columns that no pair uses": [{**asdict(line), "filled": line.fill_rate} for line in columns],
        "Strata": by_stratum,
    }
    page = template(__package__, "index.html.jinja").render(info=info, sections=sections, max_rows=MAX_ROWS)
    card = template(__package__, "card.md.jinja").render(
        front_matter=_front_matter(info, license),
        info=info,
        sources=sources,
        special_tokens=SPECIAL_TOKENS,
        license=license,
    )
    (out / REPORT).write_text(page, encoding="utf-8")
    (out / CARD).write_text(card, encoding="utf-8")


def _front_matter(info: DatasetInfo, license: str | None) -> str:
    """Return the card's metadata as the Hugging Face Hub and `datasets` read it: which files are which split."""
    types = {"row_id": "string", "source": "string", "task": "string", "instruction": "large_string"}
    features = [
        *({"name": name, "dtype": dtype} for name, dtype in types.items()),
        {"name": "response", "dtype": "large_string"},
        {"name": "condition", "list": "string"},
        {"name": "meta", "dtype": "string"},
    ]
    metadata = {
        "pretty_name": " ".join(info.name.split()),
        "license": license or "unknown",
        "task_categories": ["text-generation"],
        "size_categories": [_size_category(info.samples)],
        "tags": ["instruction-tuning", "millrace"],
        # One format for all splits, so the JSON lines of eval sources can be none of them.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "curated/*.parquet"}]}],
        "dataset_info": {"config_name": "default", "features": features},
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)


def _size_category(samples: int) -> str:
    """Return the Hub's name for a number of samples."""
    limits = {1_000: "1K", 10_000: "10K", 100_000: "100K", 1_000_000: "1M", 10_000_000: "10M", 100_000_000: "100M"}
    limits |= {1_000_000_000: "1B", 10_000_000_000: "10B", 100_000_000_000: "100B", 1_000_000_000_000: "1T"}
    below = ""
    for limit, name in limits.items():
        if samples < limit:
            return f"{below}<n<{name}" if below else f"n<{name}"
        below = name
    return "n>1T"


def _write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _select(names: Sequence[str], lines: Iterable[Row]) -> list[Row]:
    return [{name: line[name] for name in names} for line in lines]


def _source(name: str, count: Row) -> dict[str, Any]:
    columns = {column: count[column] for column in ("role", "rows", "pairs", "kept")}
    return {"source": name, **columns, "dropped": sum(count["dropped"].values()), "tokens": count["tokens"]}


def _stratum(stratum: Stratum, lengths: NDArray[np.uint16]) -> dict[str, Any]:
    tokens = lengths[stratum.begin : stratum.end].sum(axis=1, dtype=np.int64)
    quantiles = np.quantile(tokens, QUANTILES, method="lower").tolist()
    return {
        "source": stratum.source,
        "task": stratum.task,
        "samples": stratum.samples,
        "tokens": int(tokens.sum()),
        **{f"tokens at {q:.0%}": int(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
    }
