"""A found circuit and the true one in one picture: hits, misses and extra edges, in three colours."""

from __future__ import annotations

from edge_pruning.circuit import Circuit
from edge_pruning.drawing.circuit_svg import picture
from edge_pruning.drawing.legend import group_entries
from edge_pruning.drawing.overlap import about, drawn_groups


def draw_against_truth(circuit: Circuit, true: Circuit, *, title: str | None = None) -> str:
    """Draw a found circuit and the true one as standalone SVG text. Raises ValueError if their graphs differ."""
    hits, extra, missed = circuit & true, circuit - true, true - circuit
    words = {
        "both": f"hits ({len(hits):,})",
        "first": f"extras: found, but not true ({len(extra):,})",
        "second": f"misses: true, but not found ({len(missed):,})",
    }
    edges, left_out = drawn_groups(circuit, true)
    verdict = "Exact: every true edge, and no other." if not len(extra) + len(missed) else (
        f"{len(hits):,} of {len(true):,} true edges are in the circuit, which has {len(circuit):,}, of "
        f"{circuit.graph.n_edges:,} in the graph (convention: {circuit.graph.convention})."
    )
    sentences = [about("Found", circuit), about("True", true), verdict, *left_out]
    return picture(circuit.graph, edges, group_entries(edges, words), sentences, title or "Found and true circuit")
