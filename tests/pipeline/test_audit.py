"""The audit of curation's decisions: the sample, the page and the precision of verdicts."""

import json
import random
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.dataset import open_dataset
from corpus.originals import Originals
from pipeline.audit import main as audit
from pipeline.report.decisions import decisions, lines_of, sampled
from pipeline.report.precision import wilson
from tests.browser import browser, needs_browser
from tests.in_process import InProcess
from tests.pipeline.conftest import run_build, write_jsonl, write_mix

pytestmark = pytest.mark.slow  # builds a dataset

HOSTILE = "</div><script>document.title = 'run'</script> \x1b[31m &amp;"
ASKED = "Which of the long rivers that begin in the high mountains of the north reaches the western sea first, and why?"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with near duplicates of a hostile text, and rows that contain an eval item."""
    folder = tmp_path_factory.mktemp("audit")
    manifest = write_mix(folder, rows=30)
    draw = random.Random(5)
    near = []
    for number in range(12):
        words = " ".join(f"word{draw.randrange(10**6)}" for _ in range(60))
        text = f"Text {number}: {HOSTILE} {words}"
        near += [{"instruction": text, "response": "Done, as you asked."}]
        near += [{"instruction": f"Please, {text}", "response": "Done, as you asked."}]
    write_jsonl(folder / "first/near.jsonl", near)
    leaks = [{"instruction": f"Note {n}. {ASKED} {HOSTILE}", "response": f"It is river {n}."} for n in range(5)]
    write_jsonl(folder / "second/leaks.jsonl", leaks)
    write_jsonl(folder / "held.jsonl", [{"question": ASKED, "answer": "The Ottilie, since it is the shortest."}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.build._executor", lambda _, work, __, display, ___: InProcess(work, display))
        run_build(manifest, folder / "out", overrides=("guard.max_share=1",))
    return folder


@pytest.fixture(scope="module")
def page(built: Path) -> str:
    """The audit page of the dataset."""
    path = built / "page" / "audit.html"
    assert audit([str(built / "out"), "--page", str(path), "--base", str(built)]) == 0
    return path.read_text()


def rows_of(page: str) -> list[str]:
    return re.findall(r'<section data-row="([0-9a-f]{32})">', page)


def test_page_has_each_decision_with_both_texts_and_their_differences(built: Path, page: str) -> None:
    lines = lines_of(open_dataset(built / "out"))
    assert dict(lines.group_by("outcome").len().iter_rows()) == {"near_duplicate": 12, "contaminated": 5}
    assert set(rows_of(page)) == set(lines["row_id"])
    assert page.count("<del>Please, </del>") + page.count("<ins>Please, </ins>") == 12
    assert page.count("Ottilie") >= 5
    assert page.count('value="same"') == page.count('value="different"') == 17


def test_nothing_of_the_data_is_markup(page: str) -> None:
    assert page.count("<script>") == 1
    assert "&lt;script&gt;document.title" in page
    assert "\x1b" not in page


def test_verdicts_give_precision_with_its_interval(built: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    near = lines_of(open_dataset(built / "out")).filter(pl.col("outcome") == "near_duplicate")["row_id"].to_list()
    info = open_dataset(built / "out").info
    verdicts = dict.fromkeys(near[:9], "same") | dict.fromkeys(near[9:10], "different")
    path = built / "verdicts.json"

    def judged(**changes: object) -> int:
        content = {"format": "millrace-verdicts/1", "fingerprint": info.fingerprint, "verdicts": verdicts, **changes}
        path.write_text(json.dumps(content))
        return audit([str(built / "out"), "--verdicts", str(path)])

    assert judged() == 0
    shown = capsys.readouterr().out
    cells = [cell.strip() for cell in next(line for line in shown.splitlines() if "near dup" in line).split("│")]
    assert cells[1:-1] == ["near duplicate", "10", "9", "1", "90.0%", "59.6% to 98.2%"]
    for changes, found in (
        ({"fingerprint": "0" * 64}, "the verdicts are of the dataset 0000000000000000"),
        ({"verdicts": {}}, "has no verdicts"),
        ({"verdicts": {"f" * 32: "same"}}, "1 verdicts are on rows that this dataset did not drop"),
        ({"verdicts": {near[0]: "maybe"}}, "is not a file of verdicts"),
        ({"format": "other"}, "is not a file of verdicts"),
        ({"more": 1}, "is not a file of verdicts"),
    ):
        assert judged(**changes) == 2
        assert found in capsys.readouterr().err


def test_decisions_without_their_input_are_counted(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.html"
    assert audit([str(built / "out"), "--page", str(path), "--base", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "17 sampled decisions were left out: its input cannot be read" in shown
    assert rows_of(path.read_text()) == []


def test_sample_has_its_share_of_each_outcome_source_and_score() -> None:
    draw = random.Random(1)
    rows = [("near_duplicate", f"s{n % 4}", draw.uniform(0.8, 1), f"{n:032x}") for n in range(2000)]
    rows += [("contaminated", "s0", draw.uniform(0.7, 1), f"{n:032x}") for n in range(2000, 2060)]
    lines = pl.DataFrame(rows, schema=["outcome", "source", "score", "row_id"], orient="row")
    lines = lines.sort("outcome", "source", "score", "row_id")
    chosen = sampled(lines, 200, seed=3)
    assert chosen.equals(sampled(lines, 200, seed=3))
    assert not chosen.equals(sampled(lines, 200, seed=4))
    near = chosen.filter(pl.col("outcome") == "near_duplicate")
    assert (len(chosen), len(near), chosen["row_id"].n_unique()) == (200, 140, 200)
    assert set(near.group_by("source").len()["len"]) == {35}
    assert near["score"].mean() == pytest.approx(lines.filter(pl.col("source") != "s0")["score"].mean(), abs=0.005)
    assert len(sampled(lines, 10_000, seed=0)) == len(lines)
    assert len(sampled(lines.clear(), 200, seed=0)) == 0


@given(right=st.integers(0, 400), wrong=st.integers(0, 400))
def test_interval_contains_the_share_and_narrows(right: int, wrong: int) -> None:
    low, high = wilson(right, right + wrong)
    assert 0 <= low <= high <= 1
    if right + wrong:
        assert low - 1e-9 <= right / (right + wrong) <= high + 1e-9
        narrower = wilson(4 * right, 4 * (right + wrong))
        assert narrower[1] - narrower[0] < high - low


def test_decision_of_a_row_without_twin_is_not_shown(built: Path) -> None:
    dataset = open_dataset(built / "out")
    lines = lines_of(dataset).with_columns(twin=pl.lit("f" * 32))
    near = lines.filter(pl.col("outcome") == "near_duplicate")
    assert decisions(Originals(dataset=dataset, base=built), near) == []


@needs_browser
def test_verdicts_of_the_page_in_a_browser_are_those_of_the_download(
    built: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with browser() as opened:
        opened.open(built / "page/audit.html", width=1100)
        assert opened.evaluate("document.getElementById('done').textContent") == "0 of 17 judged"
        for number, verdict in enumerate(["same", "different", "same", "same"]):
            opened.evaluate(f"document.querySelectorAll('button[value={verdict}]')[{number}].click()")
        opened.evaluate("document.querySelectorAll('button[value=same]')[2].click()")  # takes the verdict back
        assert opened.evaluate("document.getElementById('done').textContent") == "3 of 17 judged"
        assert opened.evaluate("document.querySelectorAll('button[aria-pressed=true]').length") == 3
        assert opened.evaluate("document.title") == "small: audit"
        opened.evaluate(
            "window.make = URL.createObjectURL; URL.createObjectURL = (blob) => "
            "{ blob.text().then((text) => { window.saved = text; }); return make.call(URL, blob); }"
        )
        opened.evaluate("document.getElementById('download').click()")
        while (saved := opened.evaluate("window.saved")) is None:
            pass
        assert opened.problems() == []
    (built / "saved.json").write_text(saved)
    rows = rows_of(page)
    assert json.loads(saved)["verdicts"] == {rows[0]: "same", rows[1]: "different", rows[3]: "same"}
    assert audit([str(built / "out"), "--verdicts", str(built / "saved.json")]) == 0
    assert "66.7%" in capsys.readouterr().out
