"""A report as rows of text, and as one HTML page with plots that needs nothing but itself.

Report ─ tables ─▶ rows ─▶ terminal (trainer.diagnose) or page        Report ─ matplotlib ─▶ SVG ─▶ page
"""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from trainer.diagnostics.depth import Change
from trainer.diagnostics.gradients import EPSILON, TAIL, Likeness
from trainer.diagnostics.report import Report

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } p { max-width: 46rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #dde3ea; text-align: right; white-space: nowrap; }
th { background: #f2f5f8; } td { font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } img { max-width: 100%; }
"""

_NAMES = {"embed_tokens": "embedding", "L_module": "L", "H_module": "H", "R_module": "R", "lm_head": "head"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table, what it says, and what draws it."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    draw: Callable[[Any], None]
    """Draws on a matplotlib figure."""


def sections(report: Report) -> list[Section]:
    """The parts of a report, in the order to read them."""
    return [_depth(report), _gradients(report), _truncation(report)]


def page(report: Report, *, title: str) -> str:
    """A report as a self-contained HTML page.

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed; it comes with the extra `diagnose`.
    """
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>Architecture {escape(report.architecture)}, {len(report.depth)} applications; measured on "
        f"{report.questions:,} held-out questions with {report.targets:,} response tokens.</p>",
    ]
    for section in sections(report):
        head = "".join(f"<th>{escape(column)}</th>" for column in section.columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in section.rows)
        parts += [
            f"<h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>",
            f"<img alt='{escape(section.title)}' src='data:image/svg+xml;base64,{_svg(section.draw)}'>",
            f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>",
        ]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def write_page(report: Report, path: Path, *, title: str) -> None:
    """Write `page` to a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report, title=title), encoding="utf-8")


def _svg(draw: Callable[[Any], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    draw(figure)
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "diagnostics"}):  # equal reports give equal pages
        figure.savefig(file, format="svg", metadata={"Date": None})
    return base64.b64encode(file.getvalue()).decode()


def _depth(report: Report) -> Section:
    names = [f"{at.number} {at.stack[0]}" for at in report.depth]
    places = range(len(names))

    def draw(figure: Any) -> None:
        change, cosine, lens = figure.subplots(1, 3)
        kinds: tuple[tuple[str, list[Change | None]], ...] = (
            ("the application before", [at.from_neighbour for at in report.depth]),
            ("the state it replaces", [at.from_replaced for at in report.depth]),
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
        text="What each application changes, against what the application before wrote and against the state that it "
        "replaces: ‖Δh‖ / √d is 0 for no change, √2 for an orthogonal state, 2 for the opposite. The logit lens reads "
        "each state with the head: how far its next-token distribution is from the model's, and how often the most "
        "likely token is already the same.",
        columns=(
            "application",
            "writes",
            "Δ before",
            "cos before",
            "Δ replaced",
            "cos replaced",
            "lens KL",
            "same top token",
        ),
        rows=[
            (
                name,
                at.writes,
                *_cells(at.from_neighbour),
                *_cells(at.from_replaced),
                f"{at.lens_kl:.4f}",
                f"{at.lens_agreement:.1%}",
            )
            for name, at in zip(names, report.depth, strict=True)
        ],
        draw=draw,
    )


def _cells(change: Change | None) -> tuple[str, str]:
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
        tail.set(title="tail by median")
        _count_depths((size, spread, tail), depths)

    return Section(
        title="Gradient, by the number K of applications that carry it",
        text=f"Elements of the stacks' gradient at the same weights and questions. Tail: the {TAIL} quantile of |g| by "
        f"its median; ε = {EPSILON:g}.",
        columns=("K", "norm", "mean |g|", "median |g|", "Std(log(|g| + ε))", "tail by median"),
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
    parts = list(report.gradients[0].likeness)
    series = {_NAMES.get(part, part): [at.likeness[part] for at in report.gradients] for part in parts}

    def draw(figure: Any) -> None:
        cosine, ratio = figure.subplots(1, 2)
        for part, found in series.items():
            cosine.plot(depths, [f.cosine if f else math.nan for f in found], "o-", label=part)
            ratio.plot(depths, [f.norm_ratio if f else math.nan for f in found], "o-", label=part)
        cosine.set(title="cosine with the full gradient")
        ratio.set(title="norm by that of the full gradient", ylim=(0, None))
        cosine.legend(fontsize="small")
        _count_depths((cosine, ratio), depths)

    return Section(
        title="Truncated against full backpropagation",
        text="Direction (cosine) and length (ratio of norms) of the gradient that K applications carry, beside the one "
        "that all carry, for each part of the model. A dash: that gradient does not reach the part.",
        columns=("K", *(f"{part} {what}" for part in series for what in ("cos", "norm"))),
        rows=[
            (
                str(at.k),
                *(cell for part in parts for cell in _alike(at.likeness[part])),
            )
            for at in report.gradients
        ],
        draw=draw,
    )


def _alike(likeness: Likeness | None) -> tuple[str, str]:
    return ("–", "–") if likeness is None else (f"{likeness.cosine:+.3f}", f"{likeness.norm_ratio:.3f}")


def _count_depths(all_axes: Sequence[Any], depths: Sequence[int]) -> None:
    for axes in all_axes:
        axes.set_xlabel("K")
        axes.set_xticks(depths)
        axes.grid(alpha=0.3)
