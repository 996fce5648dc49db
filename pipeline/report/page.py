"""The report of a dataset: tables for people in one self-contained HTML page, the same as Parquet, and the card."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.outcome import FileOutcome
from pipeline.decontaminate.findings import Findings

SHOWN_ROWS = 1000
"""Rows of a table on the page; report/*.parquet and ledger/*.parquet have all."""
SHOWN_DUPLICATES = 20
NEAR_DUPLICATES = "report/near_duplicates.parquet"
CONTAMINATION_HITS = "report/contamination_hits.parquet"
QUANTILES = (0.5, 0.9, 0.99, 1.0)

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; } .wide { overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #dde3ea; text-align: left; vertical-align: top; }
th { background: #f2f5f8; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
"""


def write(
    out: Path,
    dataset: dict[str, Any],
    files: Sequence[dict[str, Any]],
    strata: Sequence[dict[str, Any]],
    lengths: Any,
    examples: dict[tuple[str, str], list[dict[str, Any]]],
    duplicates: pa.Table,
    contamination: Findings,
) -> None:
    """Write `report/index.html`, `report/*.parquet` and `README.md` into `out`.

    Parameters
    ----------
    dataset
        What `dataset.json` will say, file hashes aside.
    files
        Lines of ledger/files.parquet.
    strata
        Content of strata.json.
    lengths
        uint16 (n, 2).
    examples
        Ledger lines of a few dropped rows by source and reason.
    duplicates
        `pipeline.dedup.near.examples.EXAMPLES`: the least similar near duplicates.
    contamination
        What decontamination found.
    """
    sources = [_source(name, count) for name, count in dataset["counts"].items()]
    drops = [
        {"source": name, "reason": reason, "count": count}
        for name, counts in dataset["counts"].items()
        for reason, count in counts["dropped"].items()
    ]
    by_stratum = [_stratum(stratum, lengths) for stratum in strata]
    samples = [line for _, lines in sorted(examples.items()) for line in lines]
    faults = [line for line in files if line["outcome"] != FileOutcome.READ]
    for name, rows in (("sources", sources), ("drops", drops), ("strata", by_stratum)):
        table = pa.Table.from_pylist(rows) if rows else pa.table({})
        pq.write_table(table, out / "report" / f"{name}.parquet", compression="zstd")
    pq.write_table(duplicates, out / NEAR_DUPLICATES, compression="zstd")
    pq.write_table(contamination.sets, out / "report/contamination.parquet", compression="zstd")
    pq.write_table(contamination.examples, out / "report/contamination_examples.parquet", compression="zstd")
    sections = [
        ("Sources", sources),
        ("Dropped, by reason", drops),
        ("Examples of what was dropped", [_example(line) for line in samples]),
        ("Near duplicates least like the rows they lost to", duplicates.slice(0, SHOWN_DUPLICATES).to_pylist()),
        ("Eval sources in train sources", contamination.sets.to_pylist()),
        (
            "Eval items and the train records that held them",
            [_hit(line) for line in contamination.examples.to_pylist()],
        ),
        ("Files not read to their end", [_file(line) for line in faults]),
        ("Strata", by_stratum),
    ]
    (out / "report/index.html").write_text(_page(dataset, sections), encoding="utf-8")
    (out / "README.md").write_text(_card(dataset, sources), encoding="utf-8")


def _source(name: str, count: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": name,
        "role": count["role"],
        "rows": count["rows"],
        "pairs": count["pairs"],
        "kept": count["kept"],
        "dropped": sum(count["dropped"].values()),
        "tokens": count["tokens"],
    }


def _stratum(stratum: dict[str, Any], lengths: Any) -> dict[str, Any]:
    mine = lengths[stratum["begin"] : stratum["end"]].sum(axis=1, dtype=np.int64)
    quantiles = np.quantile(mine, QUANTILES, method="lower").tolist()
    return {
        "source": stratum["source"],
        "task": stratum["task"],
        "samples": len(mine),
        "tokens": int(mine.sum()),
        **{f"tokens at {q:.0%}": int(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
    }


def _example(line: dict[str, Any]) -> dict[str, Any]:
    names = ("source", "outcome", "file", "row", "part", "row_id", "twin", "score", "detail")
    return {name: line[name] for name in names}


def _hit(line: dict[str, Any]) -> dict[str, Any]:
    names = ("eval_source", "part", "coverage", "item_text", "record_text", "source", "row_id", "item")
    return {name: line[name] for name in names}


def _file(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in ("source", "file", "bytes", "rows", "pairs", "outcome", "position", "detail")}


def _page(dataset: dict[str, Any], sections: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> str:
    title = escape(dataset["name"])
    lead = (
        f"{dataset['samples']:,} samples, {dataset['tokens']:,} tokens ({dataset['response_tokens']:,} in responses), "
        f"{dataset['shards']:,} shards, vocabulary of {dataset['tokenizer']['vocab_size']:,}."
    )
    body = "".join(f"<h2>{escape(heading)}</h2>{_table(rows)}" for heading, rows in sections)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{lead}</p>{body}</html>\n"
    )


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    shown = rows[:SHOWN_ROWS]
    lines = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in shown)
    more = f"<p>and {len(rows) - SHOWN_ROWS:,} more</p>" if len(rows) > SHOWN_ROWS else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>{more}'


def _cell(value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, int | float):
        return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f'<td class="n">{value:.3f}</td>'
    return f"<td>{escape(str(value))}</td>"


def _card(dataset: dict[str, Any], sources: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"# {dataset['name']}",
        "",
        f"{dataset['samples']:,} instruction-response samples, {dataset['tokens']:,} tokens "
        f"({dataset['response_tokens']:,} in responses), {dataset['shards']:,} MDS shards.",
        "",
        "| source | role | rows in | pairs | kept | dropped | tokens |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in sources:
        name = row["source"]
        numbers = " | ".join(f"{row[key]:,}" for key in ("rows", "pairs", "kept", "dropped", "tokens"))
        lines.append(f"| {name} | {row['role']} | {numbers} |")
    special = ", ".join(f"`{token}` {number}" for token, number in dataset["tokenizer"]["special"].items())
    lines += [
        "",
        "What is here:",
        "",
        '- `shards/`: a plain MDS dataset (`StreamingDataset(local="shards", batch_size=1)`); columns `tokens`',
        "  (uint16), `prefix_len`, `row_id` (16 bytes). A sample is `<|im_start|>` conditions instruction `<|im_end|>`",
        "  (the prefix), response `<|box_end|>`.",
        "- `strata.json`: the range of samples of each (source, task). `lengths.npy`: each sample's prefix and",
        "  response length in tokens.",
        f"- `tokenizer/tokenizer.json`: {dataset['tokenizer']['vocab_size']:,} ids; special: {special}.",
        "- `curated/`: the same samples as text (Parquet), in the same order.",
        "- `eval/`: rows of eval sources, if any (JSON lines); never part of the shards.",
        "- `ledger/`: one line for each pair and each row without a pair, kept or dropped, with the reason.",
        "- `mix.lock.yaml`: the manifest with all defaults, and every input file's size and hash.",
        "- `report/index.html`: these numbers in full. `dataset.json`: counts and the hash of every file.",
        "",
        "`python -m pipeline.verify FOLDER` checks it; `python -m pipeline.explain FOLDER ROW_ID` tells a row's story.",
        "Licences are those of the sources.",
        "",
    ]
    return "\n".join(lines)
