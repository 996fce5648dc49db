"""Every file of the real data beside the repository is read completely."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from corpus.discover import discover
from corpus.outcome import FileOutcome, Outcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data, {DATA}, is not available"),
    pytest.mark.slow,
]

# The manifest counts rows of JSON and CSV; the YAML file holds the rows of its JSON twin.
YAML_ROWS = {"gpteacher/Roleplay/roleplay-simple-deduped-roleplay-instruct.yaml": 1923}
PROMPTS_ONLY = {f"instruction_following/{name}_test_set.jsonl" for name in ("koala", "vicuna", "wizardlm")}
OPTIONS_IN_CONTEXT = {f"llm_foundry/language_understanding/{name}.jsonl" for name in ("winograd_wsc", "winogrande")}


def expected_rows(part: str) -> dict[str, int]:
    with (DATA / "MANIFEST.tsv").open(encoding="utf-8") as file:
        rows = {row["path"]: row["rows"] for row in csv.DictReader(file, delimiter="\t")}
    files = {path.removeprefix(f"{part}/"): rows for path, rows in rows.items() if path.startswith(f"{part}/")}
    return {path: int(rows) if rows else YAML_ROWS[path] for path, rows in files.items()}


def read(part: str) -> dict[str, tuple[Counter[str], FileEnd]]:
    spec = SourceSpec(name="real", path=part)
    found = {}
    for file in discover(spec, DATA):
        assert file.skipped is None
        counts: Counter[str] = Counter()
        for row in read_pairs(spec, file):
            counts["pairs" if isinstance(row, Pair) else str(row.reason) if isinstance(row, Rejected) else "end"] += 1
        assert isinstance(row, FileEnd)
        assert counts.pop("end") == 1
        found[file.path] = counts, row
    return found


def test_train_sources_have_the_rows_that_their_manifest_counts() -> None:
    found = read("train_sources")
    assert {path: end.rows for path, (_, end) in found.items()} == expected_rows("train_sources")
    outcomes = Counter(end.outcome for _, end in found.values())
    assert outcomes == {FileOutcome.READ: 337, FileOutcome.EMPTY: 11}
    assert sum(end.rows for path, (_, end) in found.items() if path.startswith("t0_selfinstruct/")) == 55_185
    # Only answers that preference data marks as bad are rejected.
    rejected = {path: counts for path, (counts, _) in found.items() if counts.keys() - {"pairs"}}
    assert rejected == {
        "llamafactory_demo/kto_en_demo.json": {"pairs": 150, str(Outcome.REJECTED_LABEL): 150},
        "llamafactory_demo/dpo_en_demo.json": {"pairs": 300, str(Outcome.OUTRANKED): 300},
        "llamafactory_demo/dpo_zh_demo.json": {"pairs": 300, str(Outcome.OUTRANKED): 300},
    }


def test_eval_sets_are_read_and_rows_that_no_adapter_fits_are_rejected() -> None:
    found = read("eval_sets")
    assert {path: end.rows for path, (_, end) in found.items()} == expected_rows("eval_sets")
    assert {end.outcome for _, end in found.values()} == {FileOutcome.READ}
    without_pairs = {path for path, (counts, _) in found.items() if "pairs" not in counts}
    assert without_pairs == PROMPTS_ONLY | OPTIONS_IN_CONTEXT
    for path, (counts, end) in found.items():
        expected = {str(Outcome.MISSING_FIELD): end.rows} if path in without_pairs else {"pairs": counts["pairs"]}
        assert counts == expected, path
