"""The report of a dataset: one self-contained HTML page and the same numbers as Parquet; dataset card and Croissant.

counts, ledger lines, findings, texts ─▶ Material ─┬▶ tables ─▶ report/*.parquet
                                                   ├▶ index.html.jinja ─▶ report/index.html
                                                   └▶ card.py, croissant.py ─▶ README.md, croissant.json

The page has no date: equal manifests and inputs give equal bytes.
"""

import importlib.metadata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from corpus.contract import CARD, CROISSANT, REPORT, DatasetInfo, FileInfo, Stratum
from corpus.formats.tally import describe_losses
from corpus.outcome import FileOutcome, Outcome
from corpus.pages.render import render
from pipeline.decontaminate.findings import Findings
from pipeline.records.ledger import ColumnLine
from pipeline.report.card import card
from pipeline.report.croissant import croissant
from pipeline.report.difference import Piece, difference, shortened
from pipeline.report.figures import Bin, count_lengths, funnel, length_bins, mean_length, quantiles, score_bins, total
from pipeline.report.groups import lines_of, top_groups
from pipeline.report.samples import conditions
from pipeline.report.texts import Text, Texts

NEAR_DUPLICATES = "report/near_duplicates.parquet"
CONTAMINATION_HITS = "report/contamination_hits.parquet"

MAX_ROWS = 300
"""Rows of a table on the page, other than that of sources; report/*.parquet and ledger/*.parquet have all rows."""
MAX_SOURCES = 3000
SHOWN_ID = 12
"""Digits of a row id on the page; `pipeline.explain` takes as many."""
MAX_DUPLICATES = 20
MAX_HITS = 20
MAX_EXAMPLES = 60
"""Dropped rows that the page shows with their texts."""
EXAMPLES_OF_REASON = 3
MAX_MANIFEST = 100_000
"""Characters of the manifest on the page."""
GROUP_CHARS = 200
SHOWN_CHARS = 1500
"""Characters of a text without marks."""

Row = Mapping[str, Any]
"""A row of a table: column name to a text, number or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a build knows of its dataset when it ends."""

    info: DatasetInfo
    """Content of dataset.json; `files` may still be empty."""
    lock: str
    """Content of mix.lock.yaml."""
    license: str | None
    """The mix's licence; None: not stated."""
    files: Sequence[Row]
    """Lines of ledger/files.parquet."""
    columns: Sequence[ColumnLine]
    """Lines of ledger/columns.parquet."""
    strata: Sequence[Stratum]
    """Content of strata.json."""
    lengths: NDArray[np.uint16]
    """uint16 (n, 2): prefix and response length in tokens."""
    dropped: Mapping[str, Mapping[str, int]]
    """Source and stage to the number of lines of the ledger that end there without being kept."""
    examples: Mapping[tuple[str, str], Sequence[Row]]
    """Ledger lines of a few dropped rows, by source and outcome."""
    near_scores: Sequence[int]
    """Near duplicates by `pipeline.report.figures.score_bin`."""
    near_duplicates: pa.Table
    """`pipeline.dedup.near.examples.EXAMPLES`: the near duplicates least similar to their twins."""
    contamination: Findings
    texts: Texts
    languages: Callable[[], Mapping[str, int]]
    """Returns samples of a few from all over the dataset by language, `pipeline.report.samples.languages`, which may
    be counted while the tables are made that do not need them."""
    curated: Sequence[FileInfo]
    """Size and hash of each file of curated records, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two texts side by side."""

    title: str
    note: str
    instruction: Sequence[Piece]
    response: Sequence[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A dropped row, and a kept one to compare it with."""

    dropped: Side
    kept: Side | None


def write(out: Path, material: Material) -> None:
    """Write `report/index.html`, `report/*.parquet`, `README.md` and `croissant.json` into `out`.

    Parameters
    ----------
    out
        Folder of the dataset, with its ledger and a folder `report`.
    material
        What the files are about.
    """
    info = material.info
    funnels = {name: funnel(count, material.dropped.get(name, {})) for name, count in info.counts.items()}
    sources = [_source(name, count.model_dump()) for name, count in info.counts.items()]
    drops = [
        {"source": name, "reason": reason, "count": count}
        for name, counts in info.counts.items()
        for reason, count in counts.dropped.items()
    ]
    strata = [_stratum(stratum, material.lengths) for stratum in material.strata]
    histograms = _histograms(material.lengths)
    scores = score_bins(material.near_scores)
    by_condition = conditions(material.texts.curated)
    ledger = sorted((out / "ledger").glob("rows-*.parquet"))
    duplicates = sum(
        count.dropped.get(outcome, 0)
        for count in info.counts.values()
        for outcome in (Outcome.EXACT_DUPLICATE, Outcome.NEAR_DUPLICATE)
    )
    groups = top_groups(ledger, duplicates)
    chosen = list(_spread(material.examples))
    twins = {line["twin"] for line in chosen if line["twin"]} | set(groups["twin"])
    lines = {line["row_id"]: line for line in lines_of(ledger, sorted(twins)).iter_rows(named=True)}
    texts = material.texts.of([*chosen, *lines.values()])

    by_language = material.languages()

    near = material.near_duplicates.to_pylist()
    tables: dict[str, Sequence[Row]] = {
        "sources": [{**row, **_left(funnels[str(row["source"])])} for row in sources],
        "drops": drops,
        "strata": strata,
        "lengths": [
            {"tokens of": name, "from": bin.begin, "below": bin.end, "samples": bin.count}
            for name, (bins, _) in histograms.items()
            for bin in bins
        ],
        "near_scores": [{"from": bin.begin, "below": bin.end, "near_duplicates": bin.count} for bin in scores],
        "conditions": [{"condition": name, "samples": count} for name, count in by_condition.items()],
        "languages": [{"language": name, "samples": count} for name, count in by_language.items()],
        "duplicate_groups": groups.to_dicts(),
        "examples": [_example(line, texts) for line in chosen],
    }
    for name, rows in tables.items():
        _write_table(pa.Table.from_pylist(list(rows)), out / f"report/{name}.parquet")
    _write_table(material.near_duplicates, out / NEAR_DUPLICATES)
    _write_table(material.contamination.sets, out / "report/contamination.parquet")
    _write_table(material.contamination.examples, out / "report/contamination_examples.parquet")

    page = render(
        __package__,
        "index.html.jinja",
        info=info,
        version=importlib.metadata.version("millrace"),
        steps=total(funnels[name] for name, count in info.counts.items() if count.role == "train"),
        sources=sources,
        max_sources=MAX_SOURCES,
        funnels=funnels,
        reasons=_reasons(drops),
        histograms=histograms,
        conditions=by_condition,
        languages=by_language,
        scores=scores,
        near=[_near(row) for row in near[:MAX_DUPLICATES]],
        near_count=len(near),
        groups=[_group(row, lines, texts) for row in groups.iter_rows(named=True) if row["duplicates"] > 1],
        sets=material.contamination.sets.to_pylist(),
        hits=[_hit(row) for row in material.contamination.examples.slice(0, MAX_HITS).to_pylist()],
        comparisons=_comparisons(chosen, lines, texts, material),
        files=[
            {
                **{name: line[name] for name in ("source", "file", "bytes", "rows", "pairs", "outcome", "position")},
                "detail": line["detail"],
                "lost": describe_losses(line["bytes_lost"]),
            }
            for line in material.files
            if line["outcome"] != FileOutcome.READ or line["bytes_lost"]
        ],
        columns=[{**asdict(line), "filled": line.fill_rate} for line in material.columns],
        strata=strata,
        manifest=_manifest(material.lock),
        max_rows=MAX_ROWS,
    )
    (out / REPORT).write_text(page, encoding="utf-8")
    (out / CARD).write_text(card(info, sources, material.license), encoding="utf-8")
    (out / CROISSANT).write_text(croissant(info, material.curated, material.license), encoding="utf-8")


def _write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _source(name: str, count: Row) -> dict[str, Any]:
    columns = {column: count[column] for column in ("role", "rows", "pairs", "kept")}
    dropped = sorted(count["dropped"].items(), key=lambda item: (-item[1], item[0]))
    return {
        "source": name,
        **columns,
        "dropped": sum(count["dropped"].values()),
        "tokens": count["tokens"],
        "by_reason": ", ".join(f"{reason.replace('_', ' ')} {number:,}" for reason, number in dropped),
    }


def _left(steps: Mapping[str, int]) -> dict[str, int]:
    """Return the steps of a funnel that are columns of no other name in the table of sources."""
    return {name.replace(" ", "_"): left for name, left in steps.items() if name.startswith("after")}


def _stratum(stratum: Stratum, lengths: NDArray[np.uint16]) -> dict[str, Any]:
    _, _, counts = count_lengths(lengths[stratum.begin : stratum.end])
    return {
        "source": stratum.source,
        "task": stratum.task,
        "samples": stratum.samples,
        "tokens": int(np.arange(len(counts)) @ counts),
        **{f"tokens at {share}": value for share, value in quantiles(counts).items()},
    }


def _reasons(drops: Sequence[Row]) -> list[Row]:
    """Sum up the drops of all sources by reason."""
    counts: dict[str, int] = defaultdict(int)
    sources: dict[str, int] = defaultdict(int)
    for drop in drops:
        counts[drop["reason"]] += drop["count"]
        sources[drop["reason"]] += 1
    return [
        {"reason": reason, "count": count, "sources": sources[reason]}
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _histograms(lengths: NDArray[np.uint16]) -> dict[str, tuple[list[Bin], str]]:
    """Histograms of lengths with a line of quantiles each."""
    found = {}
    for name, counts in zip(("prefix", "response", "sample"), count_lengths(lengths), strict=True):
        at = quantiles(counts)
        note = (
            f"mean {mean_length(counts):,.1f}, median {at['50%']:,}, 90 % up to {at['90%']:,}, "
            f"99 % up to {at['99%']:,}, longest {at['100%']:,}"
        )
        found[name] = (length_bins(counts), note)
    return found


def _spread(examples: Mapping[tuple[str, str], Sequence[Row]]) -> Iterator[Row]:
    """Choose a few lines of each reason, from as many sources as there are."""
    by_reason: dict[str, list[Sequence[Row]]] = defaultdict(list)
    for (_, reason), lines in sorted(examples.items()):
        by_reason[reason].append(lines)
    left = MAX_EXAMPLES
    for reason in sorted(by_reason):
        of_sources = by_reason[reason]
        in_turn = (lines[turn] for turn in range(EXAMPLES_OF_REASON) for lines in of_sources if turn < len(lines))
        for _, line in zip(range(min(EXAMPLES_OF_REASON, left)), in_turn, strict=False):
            left -= 1
            yield line


def _example(line: Row, texts: Mapping[str, Text]) -> dict[str, Any]:
    text = texts.get(line["row_id"])
    names = ("source", "outcome", "file", "row", "part", "row_id", "twin", "score", "detail")
    return {
        **{name: line[name] for name in names},
        "instruction": None if text is None else text.instruction,
        "response": None if text is None else text.response,
    }


def _pieces(text: str | None) -> list[Piece]:
    return [("same", shortened(text or "", SHOWN_CHARS))]


def _sides(dropped: Text, kept: Text) -> tuple[tuple[list[Piece], list[Piece]], tuple[list[Piece], list[Piece]]]:
    """Return instruction and response of both texts in pieces, with the differences between them."""
    both = [difference(old or "", new or "") for old, new in zip(dropped, kept, strict=True)]
    return (both[0][0], both[1][0]), (both[0][1], both[1][1])


def _near(row: Row) -> Comparison:
    dropped, kept = _sides(
        Text(row["instruction"], row["response"]), Text(row["twin_instruction"], row["twin_response"])
    )
    return Comparison(
        dropped=Side(
            title=f"dropped, similarity {row['score']:.3f}",
            note=f"{row['source']}, {row['row_id'][:SHOWN_ID]}",
            instruction=dropped[0],
            response=dropped[1],
        ),
        kept=Side(
            title="kept", note=f"{row['twin_source']}, {row['twin'][:SHOWN_ID]}", instruction=kept[0], response=kept[1]
        ),
    )


def _group(row: Row, lines: Mapping[str, Row], texts: Mapping[str, Text]) -> dict[str, Any]:
    """Return a row of the table of groups, with the beginning of the kept row's texts."""
    line, text = lines.get(row["twin"], {}), texts.get(row["twin"], Text("", ""))
    return {
        **row,
        "sources": ", ".join(row["sources"]),
        "source": line.get("source", ""),
        "outcome": line.get("outcome", Outcome.KEPT),
        "instruction": shortened(text.instruction or "", GROUP_CHARS),
        "response": shortened(text.response or "", GROUP_CHARS),
    }


def _hit(row: Row) -> Comparison:
    item, record = difference(row["item_text"], row["record_text"])
    return Comparison(
        dropped=Side(
            title=f"train record, {row['coverage']:.0%} of the {row['part']} found",
            note=f"{row['source']}, {row['row_id'][:SHOWN_ID]}",
            instruction=record,
            response=[],
        ),
        kept=Side(
            title="eval item", note=f"{row['eval_source']}, {row['item'][:SHOWN_ID]}", instruction=item, response=[]
        ),
    )


def _comparisons(
    chosen: Sequence[Row], lines: Mapping[str, Row], texts: Mapping[str, Text], material: Material
) -> dict[str, list[Comparison]]:
    """Put dropped rows beside the row they lost to or, if they lost to none, a kept one of the same source."""
    first: dict[str, int] = {}
    for stratum in material.strata:
        first.setdefault(stratum.source, stratum.begin)
    wanted = {first[line["source"]] for line in chosen if not line["twin"] and line["source"] in first}
    kept_of_source = material.texts.samples(sorted(wanted))
    found: dict[str, list[Comparison]] = defaultdict(list)
    for line in chosen:
        text, twin = texts.get(line["row_id"]), texts.get(line["twin"] or "")
        kept = None
        pieces = (_pieces(text.instruction), _pieces(text.response)) if text is not None else ([], [])
        if twin is not None:
            theirs = (_pieces(twin.instruction), _pieces(twin.response))
            if text is not None:
                pieces, theirs = _sides(text, twin)
            source = lines[line["twin"]]["source"]
            kept = Side(
                title="it lost to",
                note=f"{source}, {line['twin'][:SHOWN_ID]}",
                instruction=theirs[0],
                response=theirs[1],
            )
        elif (other := kept_of_source.get(first.get(line["source"], -1))) is not None:
            kept = Side(
                title="a kept row of the same source",
                note=f"{line['source']}, sample {first[line['source']]:,}",
                instruction=_pieces(other.instruction),
                response=_pieces(other.response),
            )
        score = "" if line["score"] is None else f", score {line['score']:.3f}"
        where = f"{line['source']}, {line['file']} row {line['row']:,}, {line['row_id'][:SHOWN_ID]}{score}"
        detail = "" if not line["detail"] else f": {line['detail']}"
        side = Side(title="dropped", note=where + detail, instruction=pieces[0], response=pieces[1])
        found[line["outcome"]].append(Comparison(dropped=side, kept=kept))
    return found


def _manifest(lock: str) -> str:
    """Return the manifest of a lock file as YAML, without keys that have no value."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items() if item not in (None, [], {}, False)}
        return [filled(item) for item in value] if isinstance(value, list) else value

    text = yaml.safe_dump(filled(yaml.safe_load(lock)["manifest"]), sort_keys=False, allow_unicode=True, width=110)
    return text if len(text) <= MAX_MANIFEST else text[:MAX_MANIFEST] + "\n… the rest is in mix.lock.yaml\n"
