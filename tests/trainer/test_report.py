"""The page of training runs: its numbers are those of metrics.jsonl, and nothing recorded is more than text on it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser, needs_browser
from tests.page import Tags
from trainer import samples
from trainer.report import main
from trainer.runs.page import MAX_POINTS, _reduced
from trainer.runs.record import Series, read_run, summary
from trainer.samples import Sample

HOSTILE = '"><script>window.hacked=1</script><img src=x onerror=alert(1)>\u202e'


def write_run(folder: Path, steps: int = 50, *, loss: float = 2.0, lr: float = 0.1, family: str = "logic") -> Path:
    """Write the folder of a run that was evaluated at its beginning and its end."""
    lines: list[Any] = [{"kind": "eval", "step": 0, "loss": 7.0, "exact_match": 0.0, f"exact_match/{family}": 0.0}]
    lines += [
        {
            "kind": "step",
            "step": step,
            "loss": loss if step % 7 else None,
            "lr": lr,
            "tokens": 100,
            "skipped": step // 7,
            "step_seconds": 2.0,
            "data_wait_seconds": 0.5,
            "tokens_per_second": 50.0,
            "mfu": 0.4,
        }
        for step in range(1, steps + 1)
    ]
    lines += [
        {"kind": "eval", "step": steps, "loss": 3.0, "exact_match": 0.5, f"exact_match/{family}": 0.25},
        {"kind": "gsm8k", "step": steps, "accuracy": 0.75},
    ]
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "step", "st')
    for step, answer in ((0, HOSTILE), (steps, "4")):
        sample = Sample(
            family=family, instruction=f"2 + 2? {HOSTILE}", reference="4", answer=answer, is_right=answer == "4"
        )
        samples.write(folder, step, [sample])
    checkpoint = folder / f"checkpoints/step-{steps:08d}"
    checkpoint.mkdir(parents=True)
    manifest = {"optimizer": {"lr": lr}, "data": HOSTILE, "seed": 0}
    (checkpoint / "manifest.json").write_text(json.dumps({"manifest": manifest}))
    return folder


def test_numbers_are_those_of_the_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "steps": 50,
        "tokens": 5000,
        "hours": 100 / 3600,
        "loss": 2.0,
        "held_out_loss": 3.0,
        "best_held_out_loss": 3.0,
        "exact_match": 0.5,
        "tokens_per_second": 50.0,
        "mfu": 0.4,
        "data_wait": 0.25,
        "skipped_steps": 7,
        "checkpoints": 0,
    }
    run = write_run(tmp_path / "run")
    assert summary(read_run(run)) == expected
    assert main([str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"run": str(run), **expected}]
    assert not (run / "report.html").exists()


def test_page_of_several_runs_names_the_settings_that_differ(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second", lr=0.2, family="units")
    assert main([str(first), str(second / "metrics.jsonl")]) == 0
    page = (first / "report.html").read_text(encoding="utf-8")
    differing = page[page.index("Settings that differ") : page.index("All settings")]
    assert "optimizer.lr" in differing
    assert "seed" not in differing
    for text in ("logic", "units", "gsm8k/accuracy", "MFU", "25.0%", "1 line of first is no record"):
        assert text in page


def test_page_shows_the_answers_of_each_evaluation(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert main([str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    shown = page[page.index('id="answers"') : page.index('id="others"')]
    assert shown.index("2 + 2?") < shown.index("step 0: wrong") < shown.index("step 50: right")


@pytest.mark.parametrize("content", ["", "[", "[1]", "{}", '[{"family": 1}]', "[" * 100_000])
def test_damaged_file_of_answers_is_left_out(tmp_path: Path, content: str) -> None:
    run = write_run(tmp_path / "run")
    (run / "answers/step-00000050.json").write_text(content)
    assert list(read_run(run).answers) == [0]
    assert main([str(run)]) == 0


def test_page_of_a_hostile_run_has_no_tag_of_its_data(tmp_path: Path) -> None:
    run = write_run(tmp_path / f"run {HOSTILE.replace('/', '∕')}", family=HOSTILE)
    assert main([str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    tags = Tags(page)
    assert tags.tags["script"] == 1
    assert tags.tags["img"] == 0
    assert tags.tags["polyline"] > 5
    assert {name for names in tags.attributes.values() for name in names if name.startswith("on")} == set()
    assert "\u202e" not in page


@needs_browser
@pytest.mark.parametrize("width", [400, 1600])
def test_page_fits_its_window_and_runs_no_script_of_the_run(tmp_path: Path, width: int) -> None:
    run = write_run(tmp_path / "run", family=HOSTILE)
    assert main([str(run)]) == 0
    with browser() as opened:
        opened.open(run / "report.html", width=width, dark=True)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate("typeof window.hacked") == "undefined"
        assert opened.problems() == []


@pytest.mark.parametrize("count", [1, 2, MAX_POINTS, MAX_POINTS + 1, 100_000])
def test_curve_of_any_length_has_few_points_and_the_mean_of_its_values(count: int) -> None:
    series = Series(steps=tuple(range(count)), values=tuple(float(number) for number in range(count)))
    points = _reduced(series)
    assert min(count, 2) <= len(points) <= MAX_POINTS
    assert points[0][1] < count
    assert points == sorted(points)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no metrics.jsonl; expected the `out` folder of a training run"),
        ("", "has no record of a metric"),
        ('{"kind": "step", "step": 1, "loss": null}\n[1]\nx\n', "has no record of a metric"),
    ],
)
def test_run_without_metrics_is_refused(
    tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    assert main([str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert main([str(tmp_path)] * 9) == 2
