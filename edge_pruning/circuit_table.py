"""A circuit as tables: its edges, and the importance of each head and MLP."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from edge_pruning.provenance import Provenance

if TYPE_CHECKING:
    import pandas

    from edge_pruning.circuit import Circuit

KINDS = {"q": "query", "k": "key", "v": "value", "": "mlp"}
NODE = re.compile(r"([am])(\d+)(?:\.h(\d+))?(?:<([qkv])>)?")


def edge_columns(circuit: Circuit) -> dict[str, Any]:
    """Return one entry per edge: `writer`, `reader`, the reader's `layer` and `kind`, and the `score` (None without
    scores).

    layer: that of the reader; None for the logits.
    kind: which input the edge feeds: query, key, value, mlp or logits.
    """
    graph = circuit.graph
    w, r = (place.tolist() for place in circuit.mask.nonzero(as_tuple=True))
    layers, kinds = _of_readers(graph.readers)
    scores = [None] * len(w) if circuit.scores is None else circuit.scores.values[circuit.mask].tolist()
    return {
        "writer": [graph.writers[i] for i in w], "reader": [graph.readers[i] for i in r],
        "layer": [layers[i] for i in r], "kind": [kinds[i] for i in r], "score": scores,
    }


def _of_readers(readers: Sequence[str]) -> tuple[list[int | None], list[str]]:
    """Return the layer and the kind of each reader."""
    matches = [NODE.fullmatch(reader) for reader in readers]
    layers = [None if match is None else int(match[2]) for match in matches]
    return layers, ["logits" if match is None else KINDS[match[4] or ""] for match in matches]


def node_rows(circuit: Circuit) -> list[dict[str, Any]]:
    """Return one row per head, MLP and embedding of the circuit, the most important first.

    edges_in, edges_out: numbers of edges of the circuit that the node reads and writes.
    importance: the highest score among the edges that the node writes, and thus how early the node enters as circuits
        grow. Without scores, the number of edges that it writes.
    """
    graph, edges = circuit.graph, circuit.mask
    into = (edges.sum(0).float() @ graph.feeds.float()).int()
    out = edges.sum(1)
    scored = None if circuit.scores is None else circuit.scores.values.masked_fill(~edges, -torch.inf).amax(1)
    rows = []
    for i, name in enumerate(graph.writers):
        if name in circuit.nodes:
            match = NODE.fullmatch(name)
            importance = float(out[i]) if scored is None else float(scored[i])
            rows.append({
                "node": name, "kind": {"a": "head", "m": "mlp"}[match[1]] if match else "embedding",
                "layer": int(match[2]) if match else None, "edges_in": int(into[i]), "edges_out": int(out[i]),
                "importance": importance,
            })
    return sorted(rows, key=lambda row: -row["importance"])


def to_pandas(circuit: Circuit, what: str = "edges") -> pandas.DataFrame:
    """Return the rows as a DataFrame. what: `edges` or `nodes`. Raises ValueError if pandas is missing."""
    if what not in ("edges", "nodes"):
        raise ValueError(f"expected 'edges' or 'nodes', got {what!r}")
    try:
        import pandas
    except ImportError:
        raise ValueError("tables require pandas; install it with: pip install 'edge-pruning[datasets]'") from None
    table = pandas.DataFrame(edge_columns(circuit) if what == "edges" else node_rows(circuit))
    return table.astype({"layer": "Int64"}) if len(table) else table


def subcircuit(
    circuit: Circuit,
    *,
    nodes: Iterable[str] | None = None,
    layers: Collection[int] | None = None,
    kinds: Collection[str] | None = None,
    edges: int | None = None,
) -> Circuit:
    """Return the edges of a circuit that satisfy every condition.

    nodes: edges that one of these heads or MLPs reads or writes, as `a3.h1` or `m2`.
    layers: edges into readers of these layers.
    kinds: edges into readers of these kinds: query, key, value, mlp, logits.
    edges: number of edges to keep, those with the highest scores.
    """
    graph = circuit.graph
    wanted = None if nodes is None else set(nodes)
    unknown = (wanted or set()) - {*graph.writers, "logits"}
    if unknown:
        raise ValueError(f"not nodes of this graph: {', '.join(sorted(unknown))}; expected names such as a0.h1 and m0")
    bad = set(kinds or ()) - {*KINDS.values(), "logits"}
    if bad:
        raise ValueError(f"expected kinds {', '.join(KINDS.values())}, logits; got {', '.join(sorted(bad))}")
    of_layer, of_kind = _of_readers(graph.readers)
    reads = torch.tensor([
        (layers is None or layer in layers) and (kinds is None or kind in kinds)
        for layer, kind in zip(of_layer, of_kind, strict=True)
    ])
    mask = circuit.mask & reads
    if wanted is not None:
        writes = torch.tensor([name in wanted for name in graph.writers])
        inputs = graph.feeds[:, writes].any(1)  # heads that share keys and values share their readers
        inputs[-1] = "logits" in wanted
        mask &= writes[:, None] | inputs
    if edges is not None:
        mask = _strongest(circuit, mask, edges)
    origin = {"operation": "subcircuit", "of": [dict(circuit.provenance)]}
    return replace(circuit, mask=mask, provenance=Provenance(origin))


def _strongest(circuit: Circuit, mask: torch.Tensor, edges: int) -> torch.Tensor:
    """Return the edges of the mask with the highest scores; ties go to the earlier edge in graph order."""
    if circuit.scores is None:
        raise ValueError("edges= selects by score, but this circuit has no scores; leave it out")
    most = int(mask.sum())
    if not 0 <= edges <= most:
        raise ValueError(f"expected between 0 and {most} edges, got {edges}")
    values = circuit.scores.values.masked_fill(~mask, -torch.inf).flatten()
    kept = torch.zeros_like(mask)
    kept.view(-1)[values.argsort(descending=True, stable=True)[:edges]] = True
    return kept
