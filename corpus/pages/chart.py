"""Line charts of pages: curves of points → SVG polylines, which `chart` of parts.html.jinja shows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOG_FROM = 10.0
"""Largest divided by smallest value from which on an axis is logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve in a chart."""

    color: int
    """From 0 to 7; see base.html.jinja."""
    label: str
    """What the curve is; empty where the page says it elsewhere."""
    points: str
    """Points of an SVG polyline in a box of 1000 by 300."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves over one axis."""

    title: str
    low: str
    high: str
    """Values at the lower and the upper end of the vertical axis."""
    begin: str
    end: str
    """Labels at both ends of the horizontal axis."""
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points of a curve."""

    color: int
    label: str = ""
    points: Sequence[tuple[float, float]]
    """Horizontal position and value, both finite, by position; at least one."""


def chart(
    title: str,
    curves: Sequence[Curve],
    *,
    span: tuple[float, float],
    begin: str = "",
    end: str = "",
    limits: tuple[float, float] | None = None,
    shown: Callable[[float], str] = "{:.4g}".format,
) -> Chart:
    """Draw curves.

    Parameters
    ----------
    title
        Title of the chart.
    curves
        At least one.
    span
        Horizontal positions of the left and the right end.
    begin, end
        Labels of both.
    limits
        Values at the lower and the upper end; by default those of the curves, on a logarithmic axis if they are
        positive and the largest is at least `LOG_FROM` times the smallest.
    shown
        Makes a text of a value at an end of the vertical axis.
    """
    values = [value for curve in curves for _, value in curve.points]
    low, high = limits or (min(values), max(values))
    is_log = limits is None and low > 0 and high / low >= LOG_FROM
    left, width = span[0], (span[1] - span[0]) or 1.0

    def height(value: float) -> float:
        if high == low:
            return 0.5
        if is_log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def drawn(curve: Curve) -> str:
        points = [(1000 * (at - left) / width, 295 - 290 * height(value)) for at, value in curve.points]
        if len(points) == 1:  # a short line, as a point has no length
            points.append((points[0][0] + 10, points[0][1]))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

    return Chart(
        title=title + (", logarithmic" if is_log else ""),
        low=shown(low),
        high=shown(high),
        begin=begin,
        end=end,
        lines=[Line(color=curve.color, label=curve.label, points=drawn(curve)) for curve in curves],
    )
