"""Box plots as SVG text: the distribution of a number over the pairs, one row per run.

The box holds the middle half of the pairs, and its line is the median. The whiskers reach from 5 to 95 %. The dot is
the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_pruning.drawing import svg
from edge_pruning.drawing.chart import BOTTOM, SIZE, TITLE_SIZE, WIDTH, Axis, document, words_of
from edge_pruning.drawing.stroke import FAINT, INK, MUTED
from edge_pruning.drawing.text import printable, shorten, text_width

LEFT, RIGHT, TOP, ROW = 4.0, 14.0, 34.0, 46.0
PERCENTS = ("5", "25", "50", "75", "95")


@dataclass(frozen=True)
class Box:
    """A row of the plot. quantiles: by percent, for all of `PERCENTS`."""

    name: str
    quantiles: Mapping[str, float]
    mean: float
    hue: str


def draw_boxes(title: str, axis: Axis, boxes: Sequence[Box]) -> str:
    """Draw all rows on one axis, as SVG text. On a logarithmic axis, values of 0 or less are drawn at its left end."""
    height = TOP + ROW * len(boxes) + BOTTOM - 10
    parts = [_text(shorten(printable(title), WIDTH, TITLE_SIZE), 0, TITLE_SIZE + 1, font_size=TITLE_SIZE,
                   font_weight="600", fill=INK)]
    for tick in axis.ticks:
        x = _x(axis, tick)
        parts.append(svg.element("line", x1=x, x2=x, y1=TOP - 6, y2=height - BOTTOM + 6, stroke=FAINT, stroke_width=1))
        parts.append(_text(words_of(tick), x, height - BOTTOM + SIZE + 10, text_anchor=_anchor(words_of(tick), x)))
    parts.append(_text(printable(axis.label), WIDTH / 2, height - 4, text_anchor="middle"))
    for i, box in enumerate(boxes):
        parts += _row(axis, box, TOP + i * ROW)
    return document(title, WIDTH, height, parts)


def _row(axis: Axis, box: Box, top: float) -> list[str]:
    if not all(math.isfinite(box.quantiles[percent]) for percent in PERCENTS):
        return [_text(f"{box.name}: not defined", LEFT, top + SIZE)]
    least, lower, median, upper, most = (_x(axis, box.quantiles[percent]) for percent in PERCENTS)
    middle, words = top + 27.0, ", ".join(f"{p} % {words_of(box.quantiles[p])}" for p in PERCENTS)
    whisker = svg.element("line", x1=least, x2=most, y1=middle, y2=middle, stroke=box.hue, stroke_width=1.5)
    body = svg.element("rect", svg.title(f"{box.name}: {words}"), x=lower, y=middle - 8, width=max(1.5, upper - lower),
                       height=16, rx=2, fill=box.hue, fill_opacity=0.28, stroke=box.hue)
    line = svg.element("line", x1=median, x2=median, y1=middle - 8, y2=middle + 8, stroke=box.hue, stroke_width=2.5)
    mean = svg.element("circle", svg.title(f"{box.name}: mean {words_of(box.mean)}"), cx=_x(axis, box.mean), cy=middle,
                       r=3, fill=INK)
    return [_text(shorten(printable(box.name), WIDTH, SIZE), LEFT, top + SIZE, fill=INK), whisker, body, line, mean]


def _anchor(words: str, x: float) -> str:
    """The `text-anchor` of a tick's words at x that keeps them inside the picture."""
    half = text_width(words, SIZE) / 2
    return "start" if x < half else "end" if x > WIDTH - half else "middle"


def _x(axis: Axis, value: float) -> float:
    share = 0.0 if axis.log and value <= 0 else min(1.0, max(0.0, axis.share(value)))
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _text(words: str, x: float, y: float, **look: object) -> str:
    return svg.text(words, x, y, **{"font_size": SIZE, "fill": MUTED, **look})
