"""Every stage that drops pairs, in one build: the ledger has each dropped pair and its reason, `explain` shows it."""

import json
from pathlib import Path

import polars as pl
import pytest

from pipeline.explain import main
from pipeline.verify import verify
from tests.pipeline.conftest import run_build, write_jsonl, write_mix

pytestmark = pytest.mark.slow  # builds datasets

STORY = (
    "Mill streams once drove most of the workshops along the river, and their wheels turned day and night through "
    "the whole of the wet season, so that grain, timber and cloth left the valley by the boatload every week."
)
LEAK = "A ferry carries nine carts and leaves twice before noon; how many carts has it carried by the end of the week?"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset for which every stage had something to drop."""
    folder = tmp_path_factory.mktemp("drops")
    rules = {"caps": {"responses_per_instruction": 2}, "samples": {"max_tokens": 512, "overlong": "drop"}}
    manifest = write_mix(folder, rows=60, **rules)
    near = [STORY, STORY.replace("the river, and their", "the river and their")]
    rows = [{"instruction": "Tell me about the valley.", "response": text} for text in near]
    rows += [{"instruction": "Which colour is it?", "response": text} for text in ("red", "blue, I think", "or so")]
    rows += [{"instruction": f"Please answer. {LEAK}", "response": "126"}]
    write_jsonl(folder / "first/more.jsonl", rows)
    write_jsonl(folder / "held.jsonl", [{"question": LEAK, "answer": "126"}])
    run_build(manifest, folder / "out", workers=2)
    return folder / "out"


@pytest.fixture(scope="module")
def dropped(out: Path) -> pl.DataFrame:
    """The ledger's lines of what is not kept."""
    return pl.read_parquet(out / "ledger/rows-*.parquet").filter(pl.col("outcome") != "kept")


@pytest.mark.parametrize(
    ("outcome", "stage", "has"),
    [
        ("invalid_syntax", "read", "detail"),
        ("unclosed_think", "clean", "outcome"),
        ("repetitive", "rules", "score"),
        ("exact_duplicate", "exact", "twin"),
        ("near_duplicate", "near", "twin"),
        ("near_duplicate", "near", "score"),
        ("contaminated", "decontaminate", "detail"),
        ("contaminated", "decontaminate", "score"),
        ("over_cap", "caps", "twin"),
        ("over_cap", "caps", "detail"),
        ("too_many_tokens", "encode", "detail"),
    ],
)
def test_dropped_pair_is_explained(
    out: Path, dropped: pl.DataFrame, outcome: str, stage: str, has: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = dropped.filter(pl.col("outcome") == outcome).row(0, named=True)
    assert main([str(out), line["row_id"]]) == 0
    shown = capsys.readouterr().out
    assert line["stage"] == stage
    assert f"outcome      {outcome}\n" in shown
    assert str(line[has]) in shown
    assert line[has] is not None


def test_losers_name_a_twin_that_is_in_the_ledger(out: Path, dropped: pl.DataFrame) -> None:
    everyone = pl.read_parquet(out / "ledger/rows-*.parquet")
    losers = dropped.filter(pl.col("outcome").is_in(["exact_duplicate", "near_duplicate", "over_cap"]))
    assert losers["twin"].null_count() == 0
    assert set(losers["twin"]) <= set(everyone["row_id"])


def test_every_row_has_one_end(out: Path) -> None:
    assert [problem for check in verify(str(out)) for problem in check.problems] == []
    counts = json.loads((out / "dataset.json").read_text())["counts"]["first"]
    assert (counts["dropped"]["near_duplicate"], counts["dropped"]["contaminated"]) == (1, 1)
    assert counts["dropped"]["over_cap"] == 1
