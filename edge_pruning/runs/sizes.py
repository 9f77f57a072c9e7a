"""The sizes of circuits: the requested ones, or several sizes from which the smallest faithful one is chosen.

In the second case, `circuit.json` is the smallest circuit whose loss (KL for most tasks) on the *validation* pairs is
at most a tenth of the empty circuit's, so that it explains nine tenths of that loss. Test pairs are used only for the
report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation import Evaluation
from edge_pruning.evaluation.measure import CIRCUIT_SHARE, LARGE, LARGE_PAIRS, Measurements
from edge_pruning.files import json_values
from edge_pruning.graph import Graph
from edge_pruning.numbers import common_numbers

OFFERED = 12  # number of sizes, if none was requested
FEWEST, SMALLEST_SHARE = 16, 0.01  # the smallest size: a number of edges, or a share of a small graph
LARGEST_SHARE = 0.2
FAITHFUL = 0.1
RULE = (
    f"the smallest size whose KL on the validation pairs is at most {FAITHFUL:g} of the empty circuit's; "
    "the largest if there is none"
)

EXACT_RULE = "the smallest size that keeps every output (found by halving); all edges if there is none"


def requested_sizes(graph: Graph, edges: Sequence[int], sparsity: Sequence[float]) -> tuple[int, ...]:
    """Return the requested numbers of edges, ascending, without repeats; empty if there is none. Raises ValueError if
    out of range.
    """
    if edges and sparsity:
        raise ValueError("expected edges or sparsity, got both: each sets the size of the circuit")
    bad = [str(k) for k in edges if not 1 <= k <= graph.n_edges]
    if bad:
        raise ValueError(
            f"expected between 1 and {graph.n_edges:,} edges (this model's graph; {graph.convention}), "
            f"got {', '.join(bad)}"
        )
    sizes = [*edges, *(round((1 - share) * graph.n_edges) for share in sparsity)]
    outside = [f"{s:g}" for s, k in zip(sparsity, sizes[len(edges) :], strict=True) if not (0 <= s < 1 and k >= 1)]
    if outside:
        raise ValueError(
            f"expected a sparsity (the share of edges that is removed) of at least 0 that leaves one of "
            f"{graph.n_edges:,} edges or more, got {', '.join(outside)}; 0.97 keeps {round(0.03 * graph.n_edges):,}"
        )
    return tuple(sorted(set(sizes)))


def default_sizes(graph: Graph, candidates: int) -> tuple[int, ...]:
    """Return sizes from a few edges to a fifth of the graph, evenly spaced on a logarithmic axis.

    They are for methods that do not find a size. The size of a circuit does not grow with its graph, so the smallest
    size is a number of edges.
    """
    largest = max(1.0, LARGEST_SHARE * graph.n_edges)
    smallest = max(1.0, min(FEWEST, SMALLEST_SHARE * graph.n_edges))
    sizes = (smallest * (largest / smallest) ** (i / (OFFERED - 1)) for i in range(OFFERED))
    return tuple(sorted({min(candidates, round(size)) for size in sizes}))


def smallest_faithful(losses: Sequence[float], empty: float) -> int:
    """Return the index of the chosen size (sizes ascending); see `RULE`. Losses are on validation pairs."""
    return next((i for i, loss in enumerate(losses) if loss <= FAITHFUL * empty), len(losses) - 1)


def choosing_passes(edges: int, sizes: int, pairs: int, *, halve: bool) -> float:
    """Roughly how many full masked forward passes of one pair it takes to choose among sizes.

    edges: of the graph. halve: whether a large graph allows to measure some sizes only (see `choosing.py`). A frozen
    pass counts as one; the empty circuit takes none.
    """
    if sizes <= 1:
        return 0
    if not halve or edges <= LARGE:
        return (1 + sizes * (CIRCUIT_SHARE if edges <= LARGE else 1)) * pairs
    some = min(pairs, LARGE_PAIRS)
    return (1 + sizes.bit_length()) * some + 3 * (pairs - some)


def choosing_keeps(edges: int, sizes: int, pairs: int, *, halve: bool) -> int:
    """Of how many pairs the frozen values are kept to choose among sizes (see `choosing_passes`)."""
    return min(pairs, LARGE_PAIRS) if sizes > 1 and halve and edges > LARGE else 0


def scanned_row(circuit: Circuit, scanned: Measurements) -> dict[str, Any]:
    """Return the line in curve.json of a size that was only measured on validation pairs, to choose among sizes."""
    row: dict[str, Any] = json_values({
        **circuit.counts,
        "split": "validation",
        "ablation": circuit.provenance.get("ablation"),
        "pairs": scanned.examples,
        scanned.loss_name: scanned.mean_loss,
        "accuracy": float(scanned.accuracy.mean()),
    })
    return row


def evaluated_row(evaluation: Evaluation, scanned: Measurements | None) -> dict[str, Any]:
    """Return the line in curve.json of an evaluated size, on test pairs, with the validation loss used for the choice.
    """
    circuit, random, protocol = evaluation.circuit, evaluation.random, evaluation.protocol
    row = {name: circuit.size[name] for name in ("edges", "edges_without_dangling", "edges_total", "convention")}
    row |= {"split": protocol.split, "ablation": protocol.ablation}
    row |= {number.name: circuit.mean[number.name] for number in common_numbers("kl")}
    row |= {"random_kl": random.kl} if random is not None else {}
    row |= {f"validation_{scanned.loss_name}": scanned.mean_loss} if scanned is not None else {}
    content: dict[str, Any] = json_values(row)
    return content
