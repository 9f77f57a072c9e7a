"""Quality against circuit size, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_pruning.drawing.panels import (
    HUES,
    LEGEND_POINTS,
    LEGEND_WIDTH,
    MARKERS,
    Line,
    Panel,
    Row,
    draw_panels,
    not_empty,
    points_of,
    spans_decades,
)
from edge_pruning.drawing.text import printable, shorten


def draw_size_curve(points: Sequence[Row], *, title: str | None = None, agreement: bool = False) -> str:
    """How good circuits are at each size: KL divergence and accuracy against the number of edges (logarithmic).

    points: one per circuit, with `edges` and any of `kl` (nats, lower is more faithful), `accuracy` (0 to 1) and
        `random_kl` (of a random circuit of the same size, dotted). Points with the same `label` form one line.
    agreement: whether accuracy is agreement with the model, because the pairs have no answers of their own.

    Returns SVG text. Raises ValueError if there is nothing to draw.
    """
    labels = list(dict.fromkeys(printable(point.get("label") or "") for point in points))
    chance = {"linestyle": ":", "markerfacecolor": "white"}

    def lines(field: str, words: str = "", look: Mapping[str, Any] | None = None) -> list[Line]:
        drawn = []
        for i, label in enumerate(labels):
            rows = [point for point in points if printable(point.get("label") or "") == label]
            sizes = sorted((x, y) for x, y in points_of(rows, "edges", field) if x > 0)
            name = ", ".join(part for part in (shorten(label, LEGEND_WIDTH, LEGEND_POINTS), words) if part)
            drawn.append(Line(sizes, name, {**_series_look(i), **(look or {})}))
        return drawn

    accuracy = "agreement" if agreement else "accuracy"
    faithfulness = [*lines("kl", "circuit" if labels == [""] else ""), *lines("random_kl", "random edges", chance)]
    panels = [
        Panel("Distance from the model", "edges in the circuit", "KL divergence (nats)", faithfulness, log_x=True,
              log_y=spans_decades(faithfulness)),
        Panel("Task", "edges in the circuit", f"{accuracy} (share of pairs)", lines("accuracy"),
              log_x=True, y_range=(0, 1)),
    ]
    return draw_panels(not_empty(panels, points, "edges", ("kl", "accuracy", "random_kl")), title)


def _series_look(index: int) -> dict[str, str]:
    return {"color": HUES[index % len(HUES)], "marker": MARKERS[index % len(MARKERS)]}
