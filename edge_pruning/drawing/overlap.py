"""Two circuits in one picture: what both have, what only the first has, what only the second has.

Every node stands where it stands in the pictures of each circuit. The hues differ in lightness too, so they can be told
apart in grey and with any of the common colour deficiencies; edges that both have are drawn last, above the others.
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
    """Two circuits of one graph, by name, as standalone SVG. Raises ValueError for another number, or other graphs."""
    if len(circuits) != 2:
        raise ValueError(f"expected two circuits to draw over each other, got {len(circuits)}; matrices show more")
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
        f"Overlap (shared over all): edges {first.edge_iou(second):.2f}, nodes {first.node_iou(second):.2f}; "
        f"{len(union):,} edges in either, of {union.graph.n_edges:,} in the graph "
        f"(convention: {union.graph.convention})."
    )
    sentences = [*(about(name, circuit) for name, circuit in circuits.items()), overlap, *left_out]
    return picture(union.graph, edges, group_entries(edges, words), sentences, title or f"{a} and {b}")


def drawn_groups(first: Circuit, second: Circuit) -> tuple[list[DrawnEdge], list[str]]:
    """The edges of either in groups `second`, `first` and `both`, in this order; and what to say if some are left out.

    Scores of different methods have no common scale, so the strongest edges are those with the best rank in a circuit.
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
    """A sentence on size and origin."""
    origin = circuit.provenance.shown
    kept = circuit.counts["edges_without_dangling"]
    return f"{name}: {len(circuit):,} edges, {kept:,} without dangling ones{f' ({origin})' if origin else ''}."
