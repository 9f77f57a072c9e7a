"""Small charts as SVG text: lines with confidence bands, and dots, on linear or logarithmic axes.

A chart is as wide as a phone's screen; wider screens show several side by side. Resting the pointer on a point shows
its numbers. Colours are those of `stroke.py`, so that a dark page can replace them (`dark.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_pruning.drawing import svg
from edge_pruning.drawing.stroke import FAINT, INK, MUTED
from edge_pruning.drawing.text import printable, shorten

WIDTH, HEIGHT = 344.0, 246.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 12.0, 46.0, 40.0
SIZE, TITLE_SIZE = 11.0, 13.0
TICKS = 5


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`: linear, or logarithmic (then both are above 0).

    around: if given, the scale is logarithmic on both sides of 0, and nearly linear for numbers smaller than this.
    """

    label: str
    low: float
    high: float
    log: bool = False
    around: float | None = None

    def share(self, value: float) -> float:
        """The position of a value on the axis: 0 at `low`, 1 at `high`."""
        if self.around is not None:
            low, at, high = (math.asinh(x / self.around) for x in (self.low, value, self.high))
            return (at - low) / (high - low)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        if self.around is not None:
            return _ticks_around_0(self.low, self.high, self.around)
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)

    @classmethod
    def over(cls, label: str, values: Sequence[float], *, log: bool = False, at_least: Sequence[float] = ()) -> Axis:
        """An axis that covers the values and `at_least`, with a small margin if it is linear."""
        present = [v for v in (*values, *at_least) if math.isfinite(v) and (v > 0 or not log)]
        low, high = min(present, default=1.0), max(present, default=10.0)
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        room = 0.0 if log else 0.04 * (high - low)
        return cls(label, low if low in at_least else low - room, high + room, log)


@dataclass(frozen=True)
class Point:
    """A point of a chart.

    words: shown while the pointer rests on it.
    low, high: the ends of y's confidence interval, if it has one.
    """

    x: float
    y: float
    words: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """One quantity against another.

    points: joined by a line.
    levels: horizontal lines to compare with.
    mark: a point drawn as a diamond.
    dots: further points that no line joins, each with its hue.
    """

    title: str
    x: Axis
    y: Axis
    points: Sequence[Point]
    hue: str
    levels: Sequence[float] = ()
    mark: Point | None = None
    dots: Sequence[tuple[Point, str]] = ()


def draw_chart(chart: Chart) -> str:
    """The chart as SVG text. Points that are not finite, or not above 0 on a logarithmic axis, are left out."""
    shown = [p for p in chart.points if _on(chart.x, p.x) and _on(chart.y, p.y)]
    levels = [_line(chart, chart.x.low, level, chart.x.high, level, stroke=MUTED, stroke_dasharray="3 3")
              for level in chart.levels]
    dots = [_dot(chart, dot, hue) for dot, hue in chart.dots if _on(chart.x, dot.x) and _on(chart.y, dot.y)]
    parts = [*_frame(chart), *levels, *_band(chart, shown), *_points(chart, shown), *dots]
    if chart.mark is not None and _on(chart.x, chart.mark.x) and _on(chart.y, chart.mark.y):
        parts.append(_diamond(chart, chart.mark))
    return document(chart.title, WIDTH, HEIGHT, parts)


def document(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    size = {"viewBox": f"0 0 {svg.number(width)} {svg.number(height)}", "width": width, "height": height}
    content = "".join(f"\n{part}" for part in [svg.title(title), *parts]) + "\n"
    return svg.element("svg", content, xmlns=svg.NAMESPACE, role="img", **size, font_family=svg.FONT) + "\n"


# --- parts ------------------------------------------------------------------------------------------------------------


def _on(axis: Axis, value: float) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _x(chart: Chart, value: float) -> float:
    return LEFT + chart.x.share(value) * (WIDTH - LEFT - RIGHT)


def _y(chart: Chart, value: float) -> float:
    return HEIGHT - BOTTOM - chart.y.share(value) * (HEIGHT - TOP - BOTTOM)


def _frame(chart: Chart) -> list[str]:
    """Title, axes, their ticks and labels."""
    parts = [_text(shorten(printable(chart.title), WIDTH, TITLE_SIZE), 0, TITLE_SIZE + 1, font_size=TITLE_SIZE,
                   font_weight="600", fill=INK)]
    for tick in chart.y.ticks:
        y = _y(chart, tick)
        parts.append(_line(chart, chart.x.low, tick, chart.x.high, tick, stroke=FAINT))
        parts.append(_text(words_of(tick), LEFT - 7, y + SIZE * 0.35, text_anchor="end"))
    for tick in chart.x.ticks:
        parts.append(_text(words_of(tick), _x(chart, tick), HEIGHT - BOTTOM + SIZE + 5, text_anchor="middle"))
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(_text(printable(chart.x.label), middle, HEIGHT - 5, text_anchor="middle"))
    parts.append(_text(printable(chart.y.label), 0, TITLE_SIZE + 18))
    return parts


def _band(chart: Chart, points: Sequence[Point]) -> list[str]:
    """The confidence intervals as one area behind the line."""
    known = [p for p in points if p.low is not None and p.high is not None and _on(chart.y, p.low)]
    if len(known) < 2:
        return []
    edge = [(p.x, p.high) for p in known] + [(p.x, p.low) for p in reversed(known)]
    places = " ".join(f"{svg.number(_x(chart, x))},{svg.number(_clamped(chart, y))}" for x, y in edge if y is not None)
    return [svg.element("polygon", points=places, fill=chart.hue, fill_opacity=0.16)]


def _clamped(chart: Chart, value: float) -> float:
    return min(HEIGHT - BOTTOM, max(TOP, _y(chart, value)))


def _points(chart: Chart, points: Sequence[Point]) -> list[str]:
    if not points:
        return []
    places = " ".join(f"{svg.number(_x(chart, p.x))},{svg.number(_y(chart, p.y))}" for p in points)
    line = svg.element("polyline", points=places, fill="none", stroke=chart.hue, stroke_width=1.75,
                       stroke_linejoin="round")
    return [line, *(_dot(chart, p, chart.hue) for p in points)]


def _dot(chart: Chart, point: Point, hue: str) -> str:
    return svg.element("circle", svg.title(point.words), cx=_x(chart, point.x), cy=_clamped(chart, point.y), r=2.5,
                       fill=hue)


def _diamond(chart: Chart, mark: Point) -> str:
    x, y, r = _x(chart, mark.x), _clamped(chart, mark.y), 6.0
    places = " ".join(f"{svg.number(a)},{svg.number(b)}" for a, b in ((x, y - r), (x + r, y), (x, y + r), (x - r, y)))
    return svg.element("polygon", svg.title(mark.words), points=places, fill=INK, stroke="#ffffff", stroke_width=1.5)


def _line(chart: Chart, x1: float, y1: float, x2: float, y2: float, **look: object) -> str:
    ends = {"x1": _x(chart, x1), "y1": _y(chart, y1), "x2": _x(chart, x2), "y2": _y(chart, y2)}
    return svg.element("line", **ends, **{"stroke_width": 1, **look})


def _text(words: str, x: float, y: float, **look: object) -> str:
    return svg.text(words, x, y, **{"font_size": SIZE, "fill": MUTED, **look})


# --- ticks ------------------------------------------------------------------------------------------------------------


def words_of(value: float) -> str:
    """A tick's number with up to three digits; thousands end with k, millions with M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    if abs(value) < 1e-12:
        return "0"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.0e}".replace("e-0", "e-")


def _linear_ticks(low: float, high: float) -> list[float]:
    """About `TICKS` round numbers."""
    rough = (high - low) / TICKS
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _ticks_around_0(low: float, high: float, around: float) -> list[float]:
    """0, and powers of ten on both sides of it, thinned where there are many."""
    first, last = math.ceil(math.log10(around)), math.floor(math.log10(max(-low, high)))
    powers = [10.0**p for p in range(last, first, -max(1, math.ceil((last - first) / 4)))]
    return [tick for tick in (*(-p for p in powers), 0.0, *reversed(powers)) if low <= tick <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten where there are few, else powers of ten only, thinned where there are many."""
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades < 1.7 else (1, 3) if decades < 2.7 else (1,)
    every = max(1, math.ceil(decades / 6))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in factors if p % every == 0]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
