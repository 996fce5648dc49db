"""A report as tables, and as one self-contained HTML page with charts.

Report ─ sections ─▶ tables ─▶ terminal (trainer.diagnose) or page.html.jinja
            └─ charts ─▶ page.html.jinja
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus.pages.chart import Chart, Curve, chart
from corpus.pages.render import render
from trainer.diagnostics.depth import Change
from trainer.diagnostics.gradients import EPSILON, TAIL, Similarity
from trainer.diagnostics.report import Report

_NAMES = {"embed_tokens": "embedding", "L_module": "L", "H_module": "H", "R_module": "R", "lm_head": "head"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table with its explanation and its charts."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    charts: Sequence[Chart]


def sections(report: Report) -> list[Section]:
    """Return the sections of a report in reading order."""
    return [_depth(report), _gradients(report), _truncation(report)]


def page(report: Report, *, title: str) -> str:
    """Return a report as a self-contained HTML page."""
    return render(__package__, "page.html.jinja", title=title, report=report, sections=sections(report))


def write_page(report: Report, path: Path, *, title: str) -> None:
    """Write `page` to a file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report, title=title), encoding="utf-8")


def _chart(
    title: str,
    series: Sequence[tuple[str, Sequence[float | None]]],
    places: Sequence[int],
    ends: tuple[str, str],
    limits: tuple[float, float] | None = None,
) -> list[Chart]:
    """Draw values by their places; those that are None are left out, and no chart is drawn if all are."""
    curves = [
        Curve(color=number % 8, label=label if len(series) > 1 else "", points=points)
        for number, (label, values) in enumerate(series)
        if (points := [(at, value) for at, value in zip(places, values, strict=True) if value is not None])
    ]
    span = (places[0], places[-1])
    return [chart(title, curves, span=span, begin=ends[0], end=ends[1], limits=limits)] if curves else []


def _depth(report: Report) -> Section:
    names = [f"{at.number} {at.stack[0]}" for at in report.depth]
    places = range(len(names))
    ends = f"application {names[0]}", f"application {names[-1]}"
    kinds: tuple[tuple[str, list[Change | None]], ...] = (
        ("previous application", [at.from_previous for at in report.depth]),
        ("overwritten state", [at.from_replaced for at in report.depth]),
    )
    norms = [(label, [change.norm if change else None for change in changes]) for label, changes in kinds]
    cosines = [(label, [change.cosine if change else None for change in changes]) for label, changes in kinds]
    lens = [("", [at.lens_kl for at in report.depth])]
    return Section(
        title="Effective depth",
        text="Change of the state by each application, compared with the state written by the previous application and "
        "with the state that it overwrites: ‖Δh‖ / √d is 0 for no change, √2 for an orthogonal state, 2 for the "
        "opposite. The logit lens applies the head to each state: KL divergence of its next-token distribution from "
        "the model's, and how often the most likely token is already the same.",
        columns=(
            "application",
            "writes",
            "Δ previous",
            "cos previous",
            "Δ overwritten",
            "cos overwritten",
            "lens KL",
            "same top token",
        ),
        rows=[
            (
                name,
                at.writes,
                *_change_cells(at.from_previous),
                *_change_cells(at.from_replaced),
                f"{at.lens_kl:.4f}",
                f"{at.lens_agreement:.1%}",
            )
            for name, at in zip(names, report.depth, strict=True)
        ],
        charts=[
            *_chart("change ‖Δh‖ / √d, compared with:", norms, places, ends, (0, 2)),
            *_chart("cosine, compared with:", cosines, places, ends, (-1, 1)),
            *_chart("logit lens: KL(final ‖ this), nats", lens, places, ends),
        ],
    )


def _change_cells(change: Change | None) -> tuple[str, str]:
    return ("–", "–") if change is None else (f"{change.norm:.3f}", f"{change.cosine:+.3f}")


def _gradients(report: Report) -> Section:
    depths, ends = _depths(report)
    sizes = [("mean", [at.mean for at in report.gradients]), ("median", [at.median for at in report.gradients])]
    spread = [("", [at.log_spread for at in report.gradients])]
    tail = [("", [at.tail for at in report.gradients])]
    return Section(
        title="Gradient by number K of backpropagated applications",
        text=f"Elements g of the stacks' gradient at the same weights and questions. Tail: the {TAIL} quantile of |g| "
        f"divided by its median; ε = {EPSILON:g}.",
        columns=("K", "norm", "mean |g|", "median |g|", "Std(log(|g| + ε))", "tail / median"),
        rows=[
            (
                str(at.k),
                f"{at.norm:#.4g}",
                f"{at.mean:.3e}",
                f"{at.median:.3e}",
                f"{at.log_spread:.3f}",
                f"{at.tail:.1f}",
            )
            for at in report.gradients
        ],
        charts=[
            *_chart("size |g|", sizes, depths, ends),
            *_chart("Std(log(|g| + ε))", spread, depths, ends),
            *_chart("tail / median", tail, depths, ends),
        ],
    )


def _truncation(report: Report) -> Section:
    depths, ends = _depths(report)
    parts = list(report.gradients[0].similarity)
    series = {_NAMES.get(part, part): [at.similarity[part] for at in report.gradients] for part in parts}
    cosines = [
        (part, [similarity.cosine if similarity else None for similarity in found]) for part, found in series.items()
    ]
    ratios = [
        (part, [similarity.norm_ratio if similarity else None for similarity in found])
        for part, found in series.items()
    ]
    return Section(
        title="Truncated against full backpropagation",
        text="Direction (cosine) and norm (ratio) of the gradient through the last K applications, compared with full "
        "backpropagation, for each part of the model. A dash: the gradient does not reach the part.",
        columns=("K", *(f"{part} {what}" for part in series for what in ("cos", "norm"))),
        rows=[
            (str(at.k), *(cell for part in parts for cell in _similarity_cells(at.similarity[part])))
            for at in report.gradients
        ],
        charts=[
            *_chart("cosine with the full gradient", cosines, depths, ends, (-1, 1)),
            *_chart("norm / norm of the full gradient", ratios, depths, ends),
        ],
    )


def _similarity_cells(similarity: Similarity | None) -> tuple[str, str]:
    return ("–", "–") if similarity is None else (f"{similarity.cosine:+.3f}", f"{similarity.norm_ratio:.3f}")


def _depths(report: Report) -> tuple[list[int], tuple[str, str]]:
    """Return the values of K, and the labels of the first and the last one."""
    depths = [at.k for at in report.gradients]
    return depths, (f"K {depths[0]}", f"K {depths[-1]}")
