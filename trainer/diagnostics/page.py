"""A report as tables, and as one self-contained HTML page with plots.

Report ─ sections ─▶ tables ─▶ terminal (trainer.diagnose) or page.html.jinja
            └─ matplotlib ─▶ SVG ─▶ page.html.jinja
"""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.pages.render import render
from trainer.diagnostics.depth import Change
from trainer.diagnostics.gradients import EPSILON, TAIL, Similarity
from trainer.diagnostics.report import Report

_NAMES = {"embed_tokens": "embedding", "L_module": "L", "H_module": "H", "R_module": "R", "lm_head": "head"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table with its explanation and its plot."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    draw: Callable[[Any], None]
    """Draws the plot on a matplotlib figure."""


def sections(report: Report) -> list[Section]:
    """Return the sections of a report in reading order."""
    return [_depth(report), _gradients(report), _truncation(report)]


def page(report: Report, *, title: str) -> str:
    """Return a report as a self-contained HTML page.

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed; it comes with the extra `diagnose`.
    """
    shown = [(section, _svg(section.draw)) for section in sections(report)]
    return render(__package__, "page.html.jinja", title=title, report=report, sections=shown)


def write_page(report: Report, path: Path, *, title: str) -> None:
    """Write `page` to a file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report, title=title), encoding="utf-8")


def _svg(draw: Callable[[Any], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    draw(figure)
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "diagnostics"}):  # equal reports must give equal pages
        figure.savefig(file, format="svg", metadata={"Date": None})
    return base64.b64encode(file.getvalue()).decode()


def _depth(report: Report) -> Section:
    names = [f"{at.number} {at.stack[0]}" for at in report.depth]
    places = range(len(names))

    def draw(figure: Any) -> None:
        change, cosine, lens = figure.subplots(1, 3)
        kinds: tuple[tuple[str, list[Change | None]], ...] = (
            ("the previous application", [at.from_previous for at in report.depth]),
            ("the overwritten state", [at.from_replaced for at in report.depth]),
        )
        for label, changes in kinds:
            change.plot(places, [c.norm if c else math.nan for c in changes], "o-", label=f"from {label}")
            cosine.plot(places, [c.cosine if c else math.nan for c in changes], "o-", label=f"with {label}")
        change.set(title="change ‖Δh‖ / √d", ylim=(0, None))
        cosine.set(title="cosine")
        lens.plot(places, [at.lens_kl for at in report.depth], "o-", color="C2")
        lens.set(title="logit lens: KL(final ‖ this), nats", ylim=(0, None))
        for axes in (change, cosine, lens):
            axes.set_xlabel("application and its stack")
            axes.set_xticks(places, names)
            axes.grid(alpha=0.3)
        change.legend(fontsize="small")

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
        draw=draw,
    )


def _change_cells(change: Change | None) -> tuple[str, str]:
    return ("–", "–") if change is None else (f"{change.norm:.3f}", f"{change.cosine:+.3f}")


def _gradients(report: Report) -> Section:
    depths = [at.k for at in report.gradients]

    def draw(figure: Any) -> None:
        size, spread, tail = figure.subplots(1, 3)
        size.semilogy(depths, [at.mean for at in report.gradients], "o-", label="mean |g|")
        size.semilogy(depths, [at.median for at in report.gradients], "o-", label="median |g|")
        size.set(title="size")
        size.legend(fontsize="small")
        spread.plot(depths, [at.log_spread for at in report.gradients], "o-", color="C2")
        spread.set(title="Std(log(|g| + ε))")
        tail.plot(depths, [at.tail for at in report.gradients], "o-", color="C3")
        tail.set(title="tail / median")
        _label_depths((size, spread, tail), depths)

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
        draw=draw,
    )


def _truncation(report: Report) -> Section:
    depths = [at.k for at in report.gradients]
    parts = list(report.gradients[0].similarity)
    series = {_NAMES.get(part, part): [at.similarity[part] for at in report.gradients] for part in parts}

    def draw(figure: Any) -> None:
        cosine, ratio = figure.subplots(1, 2)
        for part, found in series.items():
            cosine.plot(depths, [f.cosine if f else math.nan for f in found], "o-", label=part)
            ratio.plot(depths, [f.norm_ratio if f else math.nan for f in found], "o-", label=part)
        cosine.set(title="cosine with the full gradient")
        ratio.set(title="norm / norm of the full gradient", ylim=(0, None))
        cosine.legend(fontsize="small")
        _label_depths((cosine, ratio), depths)

    return Section(
        title="Truncated against full backpropagation",
        text="Direction (cosine) and norm (ratio) of the gradient through the last K applications, compared with full "
        "backpropagation, for each part of the model. A dash: the gradient does not reach the part.",
        columns=("K", *(f"{part} {what}" for part in series for what in ("cos", "norm"))),
        rows=[
            (str(at.k), *(cell for part in parts for cell in _similarity_cells(at.similarity[part])))
            for at in report.gradients
        ],
        draw=draw,
    )


def _similarity_cells(similarity: Similarity | None) -> tuple[str, str]:
    return ("–", "–") if similarity is None else (f"{similarity.cosine:+.3f}", f"{similarity.norm_ratio:.3f}")


def _label_depths(all_axes: Sequence[Any], depths: Sequence[int]) -> None:
    for axes in all_axes:
        axes.set_xlabel("K")
        axes.set_xticks(depths)
        axes.grid(alpha=0.3)
