"""The page of one or several runs: their numbers, curves, scores by family and settings, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus.pages.chart import Chart, Curve, chart
from corpus.pages.render import render
from trainer.progress import duration
from trainer.runs.record import RunRecord, Series, summary
from trainer.samples import Sample

MAX_POINTS = 400
"""Points of a curve; of more values, each point is the mean of several neighbours."""
MAX_RUNS = 8
"""Runs that differ in color."""
MAX_EVALUATIONS = 5
"""Evaluations of which the answers to a question are shown: the first, the last, and some between them."""
MAX_CHARS = 600
"""Characters of a text that are shown."""

CURVES = (
    ("step/loss", "training loss, nats per target token"),
    ("eval/loss", "held-out loss, nats per response token"),
    ("eval/exact_match", "held-out exact match"),
    ("step/tokens_per_second", "tokens per second"),
    ("step/mfu", "MFU, share of the device's peak"),
    ("step/step_seconds", "seconds per step"),
    ("step/data_wait_seconds", "seconds waiting for data per step"),
    ("step/memory_gb", "peak device memory, GB"),
    ("step/gradient_norm", "norm of the gradients"),
    ("step/lr", "learning rate"),
    ("step/k", "applications that carry gradients, K"),
)
"""Metric and title of each chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A held-out question, and a run's answers to it at some of its evaluations."""

    family: str
    instruction: str
    reference: str
    answers: Sequence[tuple[int, Sample]]
    """Step and answer."""


def page(runs: Sequence[RunRecord], version: str) -> str:
    """Return the page.

    Parameters
    ----------
    runs
        At least one, at most `MAX_RUNS`.
    version
        Of Millrace.
    """
    families = list(dict.fromkeys(family for run in runs for family in run.families))
    others = sorted(
        {
            name
            for run in runs
            for name in run.series
            if name.partition("/")[0] not in ("step", "eval", "checkpoint", "diagnosis")
        }
    )
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    settings = [{"key": key, "values": [run.settings.get(key, "–") for run in runs]} for key in keys]
    return render(
        __package__,
        "page.html.jinja",
        title=", ".join(run.name for run in runs),
        version=version,
        runs=runs,
        numbers=_numbers(runs),
        charts=_charts(runs, CURVES),
        families=_charts(runs, [(f"eval/exact_match/{family}", family) for family in families], limits=(0.0, 1.0)),
        scores=[
            {"family": family, "values": [_last(run, f"eval/exact_match/{family}") for run in runs]}
            for family in families
        ],
        answers=[_answers(run) for run in runs],
        max_chars=MAX_CHARS,
        others=_charts(runs, [(name, name) for name in others]),
        differing=[line for line in settings if len(set(line["values"])) > 1],
        settings=settings,
    )


def write_page(runs: Sequence[RunRecord], path: Path, version: str) -> None:
    """Write `page` to a file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(runs, version), encoding="utf-8")


def _answers(run: RunRecord) -> list[Answered]:
    """Return the questions of the last evaluation, with the answers at those that asked the same."""
    if not run.answers:
        return []
    steps = sorted(run.answers)
    count = min(len(steps), MAX_EVALUATIONS)
    shown = [steps[round(number * (len(steps) - 1) / max(count - 1, 1))] for number in range(count)]
    by_step = {
        step: {(found.family, found.instruction): found for found in run.answers[step]} for step in (*shown, steps[-1])
    }
    return [
        Answered(
            family=family,
            instruction=instruction,
            reference=last.reference,
            answers=[(step, by_step[step][key]) for step in by_step if (key := (family, instruction)) in by_step[step]],
        )
        for (family, instruction), last in by_step[steps[-1]].items()
    ]


def _last(run: RunRecord, name: str) -> str:
    found = run.get(name)
    return "–" if found is None else f"{found.last:.1%}"


def _numbers(runs: Sequence[RunRecord]) -> list[dict[str, object]]:
    """Rows of the table of numbers; a number that no run has is left out."""
    found = [summary(run) for run in runs]
    forms: dict[str, Callable[[float], str]] = dict.fromkeys(("exact_match", "mfu", "data_wait"), "{:.1%}".format)
    forms |= dict.fromkeys(("loss", "held_out_loss", "best_held_out_loss"), "{:.4f}".format)
    forms["hours"] = lambda hours: duration(3600 * hours)
    titles = {"hours": "time of all steps, h:mm:ss", "loss": "loss, nats per token"}
    rows: list[dict[str, object]] = []
    for name in found[0]:
        values = [numbers[name] for numbers in found]
        if any(value is not None for value in values):
            rows.append(
                {
                    "name": titles.get(name, name.replace("_", " ")),
                    "values": [_shown(value, forms.get(name)) for value in values],
                }
            )
    return rows


def _shown(value: float | None, form: Callable[[float], str] | None = None) -> str:
    if value is None:
        return "–"
    if form is not None:
        return form(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _charts(
    runs: Sequence[RunRecord], curves: Sequence[tuple[str, str]], limits: tuple[float, float] | None = None
) -> list[Chart]:
    charts = []
    for name, title in curves:
        found = [(number, series) for number, run in enumerate(runs) if (series := run.get(name)) is not None]
        if found:
            charts.append(_chart(title, found, limits))
    return charts


def _chart(title: str, found: Sequence[tuple[int, Series]], limits: tuple[float, float] | None) -> Chart:
    last_step = max(series.steps[-1] for _, series in found)
    return chart(
        title,
        [Curve(color=number, points=_reduced(series)) for number, series in found],
        span=(0, max(last_step, 1)),
        end=f"step {last_step:,}",
        limits=limits,
        shown=_shown,
    )


def _reduced(series: Series) -> list[tuple[float, float]]:
    """Return at most `MAX_POINTS` points, means over neighbours."""
    size = -(-len(series.steps) // MAX_POINTS)
    return [
        (
            sum(series.steps[first : first + size]) / len(series.steps[first : first + size]),
            sum(series.values[first : first + size]) / len(series.values[first : first + size]),
        )
        for first in range(0, len(series.steps), size)
    ]
