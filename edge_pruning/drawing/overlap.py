"""Two circuits in one picture: what both have, what only the first has, what only the second has.

Every node has the same place as in the picture of either circuit. The hues also differ in lightness, so that they can
be told apart in grey and with the common colour deficiencies. Edges that both have are drawn last, above the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from edge_pruning.circuit import Circuit
from edge_pruning.drawing.circuit_svg import picture
from edge_pruning.drawing.legend import group_entries
from edge_pruning.drawing.stroke import DrawnEdge
from edge_pruning.drawing.strongest import ranks, strongest
from edge_pruning.drawing.text import shorten
from edge_pruning.edge_scores import EdgeScores

STRENGTHS = {"second": 0.4, "first": 0.5, "both": 0.8}  # scores of different methods have no common scale
LABEL_WIDTH, LABEL_SIZE = 150.0, 11.0


def draw_overlap(circuits: Mapping[str, Circuit], *, title: str | None = None) -> str:
    """Draw two circuits of one graph, by name, as standalone SVG text.

    Raises ValueError if there are not two circuits, or if their graphs differ.
    """
    if len(circuits) != 2:
        raise ValueError(f"expected two circuits to draw over each other, got {len(circuits)}; for more use matrices")
    first, second = circuits.values()
    union, shared = first | second, first & second
    edges, left_out = drawn_groups(first, second)
    a, b = (shorten(name, LABEL_WIDTH, LABEL_SIZE) for name in circuits)
    words = {
        "both": f"in both ({len(shared):,})",
        "first": f"only in {a} ({len(first - second):,})",
        "second": f"only in {b} ({len(second - first):,})",
    }
    overlap = (
        f"Overlap (intersection over union): edges {first.edge_iou(second):.2f}, nodes {first.node_iou(second):.2f}; "
        f"{len(union):,} edges in either, of {union.graph.n_edges:,} in the graph "
        f"(convention: {union.graph.convention})."
    )
    sentences = [*(about(name, circuit) for name, circuit in circuits.items()), overlap, *left_out]
    return picture(union.graph, edges, group_entries(edges, words), sentences, title or f"{a} and {b}")


def drawn_groups(first: Circuit, second: Circuit) -> tuple[list[DrawnEdge], list[str]]:
    """The edges of both circuits, by group in the order `second`, `first`, `both`; a sentence if some are left out.

    If there are too many edges, those with the best rank in either circuit are drawn, because scores of different
    methods have no common scale.
    """
    graph, either = first.graph, first | second
    scored = first.scores is not None or second.scores is not None
    best = EdgeScores(graph, torch.maximum(ranks(first), ranks(second))) if scored else None
    shown, left_out = strongest(replace(either, scores=best))
    groups = {"second": second - first, "first": first - second, "both": first & second}
    connected = graph.without_dangling(first.mask) | graph.without_dangling(second.mask)
    edges = [
        DrawnEdge(graph.writers[w], graph.readers[r], None, STRENGTHS[group], not connected[w, r], group)
        for group, circuit in groups.items() for w, r in (circuit.mask & shown.mask).nonzero().tolist()
    ]
    return edges, left_out


def about(name: str, circuit: Circuit) -> str:
    """A sentence on a circuit's size and origin."""
    origin = circuit.provenance.shown
    kept = circuit.counts["edges_without_dangling"]
    return f"{name}: {len(circuit):,} edges, {kept:,} without dangling ones{f' ({origin})' if origin else ''}."
