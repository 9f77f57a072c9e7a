"""Curves of a training run, as SVG text.

If every step draws a circuit size at random (soft top-k), a curve over steps would show the draws and hide the
progress. Such steps are grouped by size: there is one smoothed curve for small, one for middle and one for large
circuits. A second panel shows the objective against size for each quarter of the run; its dots move down as circuits
improve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from edge_pruning.drawing.panels import HUES, Line, Panel, Row, draw_panels, not_empty, points_of
from edge_pruning.objectives import OBJECTIVES

BANDS = 3
QUARTERS = ("#a9cfe8", "#5ba3d4", "#1c6ead", "#08306b")  # early steps are light, late ones dark
MOST_DOTS = 500  # per quarter


def draw_training(records: Sequence[Row], *, title: str | None = None) -> str:
    """Draw a training run: faithfulness, circuit size, and how many masks were still undecided.

    records: the rows of `metrics.jsonl`. Each has `step`, and any of an objective (such as `kl` in nats; lower is more
        faithful), `edges`, `target_edges`, `undecided`, `lambda1`, `lambda2`. Values that are missing or not finite are
        left out, and so are panels without values.

    Returns SVG text. Raises ValueError if there is nothing to draw.
    """
    drawn = _sizes_are_drawn(records)
    panels = _of_random_sizes(records) if drawn else _over_steps(records)
    fields = (*OBJECTIVES, "edges", "target_edges", "undecided", "lambda1", "lambda2")
    return draw_panels(not_empty(panels, records, "step", fields), title)


def _over_steps(records: Sequence[Row]) -> list[Panel]:
    """Every quantity over steps."""

    def line(field: str, name: str = "", hue: int = 0, style: str = "-", *, above_zero: bool = False) -> Line:
        points = [(x, y) for x, y in points_of(records, "step", field) if y > 0 or not above_zero]
        return Line(points, name, {"color": HUES[hue], "linestyle": style})

    size = [line("edges", "expected", above_zero=True), line("target_edges", "target", 1, "--", above_zero=True)]
    multipliers = [line("lambda1", "lambda1"), line("lambda2", "lambda2", 1, "--")]
    return [
        *(Panel("Faithfulness", "step", objective.summary, [line(name)]) for name, objective in OBJECTIVES.items()),
        Panel("Circuit size", "step", "edges", size, log_y=True),
        Panel("Undecided masks", "step", "share between 0.05 and 0.95", [line("undecided")]),
        Panel("Multipliers", "step", "value", multipliers),
    ]


# --- sizes drawn at random --------------------------------------------------------------------------------------------


def _sizes_are_drawn(records: Sequence[Row]) -> bool:
    """Whether each step drew a new size: the wanted size then often rises, and often falls."""
    sizes = [size for _, size in points_of(records, "step", "target_edges") if size > 0]
    rises = sum(later > earlier for earlier, later in zip(sizes, sizes[1:], strict=False))
    falls = sum(later < earlier for earlier, later in zip(sizes, sizes[1:], strict=False))
    return len(sizes) > 8 and min(rises, falls) > len(sizes) / 5


def _of_random_sizes(records: Sequence[Row]) -> list[Panel]:
    bands = _bands(records)
    panels = []
    for name, objective in OBJECTIVES.items():
        positive = all(y > 0 for _, y in points_of(records, "step", name))
        smooth = [Line(_smoothed(points_of(rows, "step", name)), words, look) for words, rows, look in bands]
        panels += [
            Panel("Faithfulness over steps", "step", objective.summary, smooth, log_y=positive),
            Panel("Faithfulness over sizes", "edges", objective.summary, _quarters(records, name), True, positive),
        ]
    undecided = [Line(_smoothed(points_of(rows, "step", "undecided")), words, look) for words, rows, look in bands]
    return [*panels, Panel("Undecided masks", "step", "share between 0.05 and 0.95", undecided)]


def _bands(records: Sequence[Row]) -> list[tuple[str, list[Row], dict[str, str]]]:
    """The steps with small, middle and large sizes: words for the legend, rows, and look.

    The bounds are evenly spaced in the logarithm of the size.
    """
    sizes = [size for _, size in points_of(records, "step", "target_edges") if size > 0]
    low, high = math.log(min(sizes)), math.log(max(sizes))
    bounds = [math.exp(low + (high - low) * i / BANDS) for i in range(BANDS + 1)]
    bands = []
    for i, style in enumerate(("-", "--", "-.")):
        rows = [row for row in records if _is_between(row, bounds[i], bounds[i + 1], last=i == BANDS - 1)]
        words = f"{bounds[i]:,.0f} to {bounds[i + 1]:,.0f} edges"
        bands.append((words, rows, {"color": HUES[i], "linestyle": style}))
    return bands


def _is_between(row: Row, low: float, high: float, *, last: bool) -> bool:
    size = row.get("target_edges")
    return isinstance(size, int | float) and low <= size and (size < high or last)


def _smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each point's median with its neighbours, a fifth of all points, so that single batches and sizes do not show."""
    half = max(1, len(points) // 10)
    around = (points[max(0, i - half) : i + half + 1] for i in range(len(points)))
    return [(x, median(y for _, y in near)) for (x, _), near in zip(points, around, strict=True)]


def _quarters(records: Sequence[Row], field: str) -> list[Line]:
    """The objective against size: dots for each quarter of the run."""
    size = math.ceil(len(records) / len(QUARTERS))
    lines = []
    for i, shade in enumerate(QUARTERS):
        rows = records[i * size : (i + 1) * size]
        points = [(x, y) for x, y in points_of(rows, "target_edges", field) if x > 0]
        thinned = points[:: math.ceil(len(points) / MOST_DOTS) or 1]
        steps = f"steps {rows[0].get('step'):,} to {rows[-1].get('step'):,}" if rows else ""
        lines.append(Line(thinned, steps, {"color": shade, "linestyle": "none", "marker": "o", "markersize": 2.6}))
    return lines
