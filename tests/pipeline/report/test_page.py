"""The report's page: its size, its numbers, and that a text of the data is nothing but text on it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.contract import SPECIAL_TOKENS, DatasetInfo, EvalInfo, FileInfo, SourceCounts, Stratum, TokenizerInfo
from corpus.outcome import FileOutcome
from corpus.pages.render import share
from corpus.record import SCHEMA
from corpus.terminal import printable
from pipeline.decontaminate.contaminated import EXAMPLES as HITS
from pipeline.decontaminate.findings import SETS, Findings
from pipeline.dedup.near.examples import EXAMPLES as NEAR
from pipeline.records.ledger import ROWS, ColumnLine
from pipeline.report import figures
from pipeline.report.difference import MAX_SAME, difference
from pipeline.report.figures import (
    QUANTILES,
    count_lengths,
    length_bins,
    mean_length,
    quantiles,
    score_bin,
    score_bins,
)
from pipeline.report.page import Material, write
from pipeline.report.texts import CuratedPart, Texts
from tests.browser import Browser, browser, needs_browser
from tests.page import Tags

HOSTILE = (
    '</td><script>window.hacked=1</script><img src=x onerror="window.hacked=1">{{ 7*7 }}&lt;\u202ereversed\x1b[31m'
)
SOURCES = 1000
ALLOWED = "html head meta title style body header h1 h2 h3 p nav ul li a div b span table thead tbody tr th td bdi"
ALLOWED += " label input figure figcaption i del ins details summary pre script"


def line(number: int, source: str, outcome: str, twin: str | None = None) -> dict[str, Any]:
    return {
        "row_id": f"{number:032x}",
        "source": source,
        "file": f"{HOSTILE}.jsonl",
        "row": number,
        "part": 0,
        "outcome": outcome,
        "stage": {"kept": "encode", "near_duplicate": "near", "exact_duplicate": "exact"}.get(outcome, "rules"),
        "twin": twin,
        "score": 0.9 if outcome == "near_duplicate" else None,
        "detail": HOSTILE * 5,
        "sample": number if outcome == "kept" else None,
    }


def material(folder: Path, sources: int = SOURCES) -> Material:
    """A dataset of many sources, every text of which is hostile, as the end of a build knows it."""
    names = [f"{number:04d} {HOSTILE}" for number in range(sources)]
    for name in ("report", "ledger", "curated"):
        (folder / name).mkdir(parents=True)
    texts = [f"{HOSTILE} number {number} " + "word " * 300 for number in range(sources)]
    records = {
        "row_id": [f"{number:032x}" for number in range(sources)],
        "source": names,
        "task": [HOSTILE] * sources,
        "instruction": texts,
        "response": texts,
        "condition": [["cot"]] * sources,
        "meta": [None] * sources,
    }
    pq.write_table(pa.table(records, schema=SCHEMA), folder / "curated/part.parquet")
    kept = [line(number, name, "kept") for number, name in enumerate(names)]
    reasons = ["repetitive", "exact_duplicate", "near_duplicate", "over_cap", "too_long", "language", "contaminated"]
    lost = [
        line(10_000 + 10 * number + place, name, reason, f"{number:032x}" if "duplicate" in reason else None)
        for number, name in enumerate(names)
        for place, reason in enumerate(reasons)
    ]
    pq.write_table(pa.Table.from_pylist(kept + lost, schema=ROWS), folder / "ledger/rows-00000.parquet")
    counts = SourceCounts(role="train", rows=8, pairs=8, kept=1, dropped=dict.fromkeys(reasons, 1), tokens=8)
    info = DatasetInfo(
        name=HOSTILE,
        fingerprint="f" * 64,
        samples=sources,
        tokens=8 * sources,
        prefix_tokens=4 * sources,
        response_tokens=4 * sources,
        max_tokens=8,
        tokenizer=TokenizerInfo(
            file="tokenizer/tokenizer.json",
            sha256="0" * 64,
            vocab_size=300,
            special={tag: number for number, tag in enumerate(SPECIAL_TOKENS)},
        ),
        shards=1,
        counts=dict.fromkeys(names, counts),
        eval=EvalInfo(files=(), rows=0),
        files={},
        lock_sha256="0" * 64,
        build_key="b" * 32,
        versions={"polars": "1"},
    )
    hit = dict.fromkeys(HITS.names, HOSTILE * 20) | {"coverage": 0.8, "answered": True}
    near = dict.fromkeys(NEAR.names, HOSTILE * 30) | {"score": 0.81, "twin_response": HOSTILE + " more"}
    files = dict.fromkeys(("source", "file", "position", "detail"), HOSTILE)
    return Material(
        info=info,
        lock=json.dumps({"manifest": {"name": HOSTILE, "sources": [{"name": name, "path": "x"} for name in names]}}),
        license=None,
        files=[{**files, "bytes": 1, "rows": 1, "pairs": 1, "outcome": FileOutcome.TRUNCATED.value, "bytes_lost": None}]
        * sources,
        columns=[ColumnLine(source=name, column=HOSTILE, rows=9, unused=3, used=0, example=HOSTILE) for name in names],
        strata=[
            Stratum(source=name, task=HOSTILE, begin=number, end=number + 1, max_per_epoch=None, repeat=1)
            for number, name in enumerate(names)
        ],
        lengths=np.full((sources, 2), 4, np.uint16),
        dropped={name: {"rules": 5, "exact": 1, "near": 1} for name in names},
        examples={(found["source"], found["outcome"]): [found] for found in lost},
        near_scores=[0] * 40 + [sources] + [0] * 10,
        near_duplicates=pa.Table.from_pylist([near] * 100, schema=NEAR),
        contamination=Findings(
            pa.Table.from_pylist(
                [{"eval_source": name, "items": 9, "looked_for": 8, "found": 7, "train_records": 6} for name in names],
                schema=SETS,
            ),
            pa.Table.from_pylist([hit] * 100, schema=HITS),
        ),
        texts=Texts(
            work=folder,
            ingests={},
            curated=[CuratedPart(path=folder / "curated/part.parquet", samples=sources)],
        ),
        languages=lambda: {"en": sources},
        curated=[FileInfo(bytes=1, sha256="0" * 64)],
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the report of a thousand sources."""
    folder = tmp_path_factory.mktemp("thousand")
    write(folder, material(folder))
    return folder


def test_report_of_a_thousand_sources_is_below_two_megabytes(out: Path) -> None:
    assert (out / "report/index.html").stat().st_size < 2_000_000


def test_texts_of_the_data_add_no_tag_and_no_attribute(out: Path) -> None:
    page = Tags((out / "report/index.html").read_text(encoding="utf-8"))
    assert set(page.tags) <= set(ALLOWED.split())
    assert page.tags["script"] == 1
    assert page.tags["tbody"] > SOURCES
    assert page.tags["del"]
    assert {name for names in page.attributes.values() for name in names if name.startswith("on")} == set()
    text = (out / "report/index.html").read_text(encoding="utf-8")
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_page_and_tables_do_not_depend_on_the_time(out: Path, tmp_path: Path) -> None:
    write(tmp_path, material(tmp_path))
    for path in sorted((out / "report").iterdir()):
        assert (tmp_path / "report" / path.name).read_bytes() == path.read_bytes(), path.name


def test_tables_have_the_numbers_of_the_page(out: Path) -> None:
    sources = pl.read_parquet(out / "report/sources.parquet")
    assert (sources.height, sources["kept"].sum(), sources["after_quality_rules"].sum()) == (1000, 1000, 3000)
    assert sources["after_near_duplicates"].sum() == 1000
    groups = pl.read_parquet(out / "report/duplicate_groups.parquet")
    assert set(groups["duplicates"]) == {2}
    lengths = pl.read_parquet(out / "report/lengths.parquet")
    assert lengths.group_by("tokens of").agg(pl.col("samples").sum())["samples"].to_list() == [1000] * 3
    assert pl.read_parquet(out / "report/conditions.parquet").rows() == [("cot", 1000)]
    examples = pl.read_parquet(out / "report/examples.parquet")
    assert set(examples["outcome"]) >= {"repetitive", "near_duplicate", "contaminated"}


def test_croissant_names_the_columns_and_files_of_the_curated_records(out: Path) -> None:
    found = json.loads((out / "croissant.json").read_text())
    (records,) = found["recordSet"]
    assert [field["name"] for field in records["field"]] == SCHEMA.names
    assert [file.get("contentUrl") for file in found["distribution"]] == ["curated/part-00000.parquet", None]


@pytest.fixture(scope="module")
def page_in_browser() -> Any:
    with browser() as found:
        yield found


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_page_fits_its_window_and_runs_no_script_of_the_data(
    out: Path, page_in_browser: Browser, width: int, dark: bool
) -> None:
    page_in_browser.open(out / "report/index.html", width=width, dark=dark)
    assert page_in_browser.evaluate("document.documentElement.scrollWidth") <= width
    assert page_in_browser.evaluate("typeof window.hacked") == "undefined"
    assert page_in_browser.requests() == [(out / "report/index.html").as_uri()]
    assert page_in_browser.problems() == []
    background = page_in_browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


@needs_browser
def test_no_table_is_cut_off_on_paper(out: Path, page_in_browser: Browser) -> None:
    page_in_browser.open(out / "report/index.html", width=800, printed=True)
    assert page_in_browser.evaluate("document.documentElement.scrollWidth") <= 800


@needs_browser
def test_search_shows_the_sources_that_have_all_words(out: Path, page_in_browser: Browser) -> None:
    page_in_browser.open(out / "report/index.html", width=1000)
    typed = """(() => { const field = document.querySelector("input[type=search]"); field.value = "000 REVERSED";
        field.dispatchEvent(new Event("input"));
        return [...document.querySelectorAll("#sources-table > tbody")].filter((row) => !row.hidden).length })()"""
    assert page_in_browser.evaluate(typed) == 10  # 0000 to 0009
    assert page_in_browser.evaluate("document.getElementById('sources-table-shown').textContent") == "10 of 1000"


@given(st.lists(st.integers(1, 130_000), min_size=1, max_size=50))
def test_every_length_is_in_the_bin_that_has_its_bounds(lengths: list[int]) -> None:
    bins = length_bins(np.bincount(lengths))
    for bin in bins:
        assert bin.count == sum(bin.begin <= length < bin.end for length in lengths)
    assert sum(bin.count for bin in bins) == len(lengths)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)), min_size=1, max_size=40), st.integers(8, 50))
def test_figures_of_lengths_are_those_of_the_lengths_in_whatever_parts(pairs: list[tuple[int, int]], rows: int) -> None:
    lengths = np.array(pairs, np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "PART_ROWS", rows)
        found = count_lengths(lengths)
    wide = lengths.astype(np.int64)
    for counts, values in zip(found, (wide[:, 0], wide[:, 1], wide.sum(axis=1)), strict=True):
        assert list(quantiles(counts).values()) == np.quantile(values, QUANTILES, method="lower").tolist()
        assert mean_length(counts) == pytest.approx(values.mean())


@given(st.lists(st.floats(0, 1), min_size=1))
def test_every_score_is_in_the_bin_that_has_its_bounds(scores: list[float]) -> None:
    bins = score_bins(np.bincount(score_bin(np.array(scores)), minlength=51).tolist())
    assert sum(bin.count for bin in bins) == len(scores)
    assert min(scores) >= bins[0].begin - 1e-9
    assert bins[-1].count == sum(score >= 1 - 1e-10 for score in scores)


@given(st.text("ab ,\n", max_size=40), st.text("ab ,\n", max_size=40))
def test_pieces_of_a_difference_are_the_texts(old: str, new: str) -> None:
    left, right = difference(old, new)
    assert "".join(text for _, text in left) == old
    assert "".join(text for _, text in right) == new
    same = ["".join(text for kind, text in pieces if kind == "same") for pieces in (left, right)]
    assert same[0] == same[1]
    assert (left == right) is (old == new)


def test_difference_of_long_texts_is_shown_and_the_rest_left_out() -> None:
    words = " ".join(map(str, range(20_000)))
    left, right = difference(words + " end", words + " End")
    assert left[-1] == ("only", "end")
    assert right[-1] == ("only", "End")
    assert len(left[0][1]) < MAX_SAME + 40


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "–"),
        (0, 9, "0.0 %"),
        (1, 10**6, "< 0.1 %"),
        (10**6 - 1, 10**6, "> 99.9 %"),
        (1, 3, "33.3 %"),
        (3, 3, "100.0 %"),
    ],
)
def test_shares_are_rounded_to_nothing_and_all_only_where_they_are(part: int, whole: int, shown: str) -> None:
    assert share(part, whole) == shown


def test_control_characters_are_made_printable() -> None:
    assert printable("a\x00\x1b\u202e\u2066b\tc\n") == "a����b\tc\n"
