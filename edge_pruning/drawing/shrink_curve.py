"""The quality of smaller models against their size, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_pruning.drawing.panels import HUES, Line, Panel, draw_panels, spans_decades

SIZE = "FLOPs (% of the original's)"


def draw_shrink_curve(contents: Sequence[Mapping[str, Any]], *, title: str | None = None) -> str:
    """Draw KL and accuracy of smaller models against their FLOPs.

    contents: the `shrunk.json` of each model, at least one.
    """
    before = contents[0]["before"]
    ordered = sorted(contents, key=lambda content: float(content["after"]["flops"]))

    def line(number: str) -> Line:
        shares = (100 * content["after"]["flops"] / before["flops"] for content in ordered)
        points = [(share, float(content["after"][number])) for share, content in zip(shares, ordered, strict=True)]
        return Line(points, "smaller models", {"color": HUES[0], "marker": "o"})

    def original(level: float) -> Line:
        return Line([(kl[0].points[0][0], level), (100.0, level)], "original", {"color": HUES[1], "linestyle": ":"})

    kl = [line("kl")]
    return draw_panels([
        Panel("Distance from the original", SIZE, "KL divergence (nats)", kl, log_y=spans_decades(kl)),
        Panel("Task", SIZE, "accuracy (share of examples)", [line("accuracy"), original(before["accuracy"])]),
    ], title)
