"""A circuit as tables: its edges, and how much hangs on each head and MLP."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from edge_pruning.provenance import Provenance

if TYPE_CHECKING:
    import pandas

    from edge_pruning.circuit import Circuit

KINDS = {"q": "query", "k": "key", "v": "value", "": "mlp"}
NODE = re.compile(r"([am])(\d+)(?:\.h(\d+))?(?:<([qkv])>)?")


def edge_rows(circuit: Circuit) -> list[dict[str, Any]]:
    """One row per edge: `writer`, `reader`, the reader's `layer` and `kind`, and the `score` (None without scores).

    layer: of the reader; None for the logits. kind: what the edge is an input of: query, key, value, mlp or logits.
    """
    scores = [None] * len(circuit) if circuit.scores is None else circuit.scores.values[circuit.mask].tolist()
    rows = []
    for name, score in zip(circuit.edges, scores, strict=True):
        writer, _, reader = name.partition("->")
        found = NODE.fullmatch(reader)
        kind = KINDS[found[4] or ""] if found else "logits"
        rows.append({
            "writer": writer, "reader": reader, "layer": int(found[2]) if found else None, "kind": kind, "score": score,
        })
    return rows


def node_rows(circuit: Circuit) -> list[dict[str, Any]]:
    """One row per head, MLP and embedding of the circuit, the most important first.

    edges_in, edges_out: edges of the circuit that it reads and writes. importance: the highest score of the edges that
    it writes, so how early it enters as circuits grow. Without scores, the number of edges that it writes.
    """
    graph, edges = circuit.graph, circuit.mask
    into = (edges.sum(0).float() @ graph.feeds.float()).int()
    out = edges.sum(1)
    scored = None if circuit.scores is None else circuit.scores.values.masked_fill(~edges, -torch.inf).amax(1)
    rows = []
    for i, name in enumerate(graph.writers):
        if name in circuit.nodes:
            found = NODE.fullmatch(name)
            importance = float(out[i]) if scored is None else float(scored[i])
            rows.append({
                "node": name, "kind": {"a": "head", "m": "mlp"}[found[1]] if found else "embedding",
                "layer": int(found[2]) if found else None, "edges_in": int(into[i]), "edges_out": int(out[i]),
                "importance": importance,
            })
    return sorted(rows, key=lambda row: -row["importance"])


def to_pandas(circuit: Circuit, what: str = "edges") -> pandas.DataFrame:
    """The rows as a DataFrame. what: `edges` or `nodes`. Raises ValueError without pandas."""
    tables = {"edges": edge_rows, "nodes": node_rows}
    if what not in tables:
        raise ValueError(f"expected a table of {' or '.join(tables)}, got {what!r}")
    try:
        import pandas
    except ImportError:
        raise ValueError("a table needs pandas; install it with: pip install 'edge-pruning[datasets]'") from None
    rows = tables[what](circuit)
    found = pandas.DataFrame(rows, columns=list(rows[0]) if rows else None)
    return found.astype({"layer": "Int64"}) if rows else found


def subcircuit(
    circuit: Circuit,
    *,
    nodes: Iterable[str] | None = None,
    layers: Collection[int] | None = None,
    kinds: Collection[str] | None = None,
    edges: int | None = None,
) -> Circuit:
    """The edges of a circuit that fulfil every condition.

    nodes: edges that a head or MLP of these writes or reads, as `a3.h1` or `m2`.
    layers: edges into readers of these layers.
    kinds: edges into readers of these kinds: query, key, value, mlp, logits.
    edges: the so many with the highest scores.
    """
    rows = edge_rows(circuit)
    wanted = None if nodes is None else set(nodes)
    unknown = (wanted or set()) - {*circuit.graph.writers, "logits"}
    if unknown:
        raise ValueError(f"no nodes of this graph: {', '.join(sorted(unknown))}; expected names such as a0.h1 and m0")
    bad = set(kinds or ()) - {*KINDS.values(), "logits"}
    if bad:
        raise ValueError(f"expected kinds {', '.join(KINDS.values())}, logits; got {', '.join(sorted(bad))}")
    kept = [
        f"{row['writer']}->{row['reader']}" for row in rows
        if (wanted is None or wanted & {row["writer"], row["reader"].partition("<")[0]})
        and (layers is None or row["layer"] in layers) and (kinds is None or row["kind"] in kinds)
    ]
    mask = circuit.graph.mask(kept)
    if edges is not None:
        mask = _strongest(circuit, mask, edges)
    origin = {"operation": "subcircuit", "of": [dict(circuit.provenance)]}
    return replace(circuit, mask=mask, provenance=Provenance(origin))


def _strongest(circuit: Circuit, mask: torch.Tensor, edges: int) -> torch.Tensor:
    """The edges of the mask with the highest scores; ties in graph order."""
    if circuit.scores is None:
        raise ValueError("this circuit has no scores, so no edges are the strongest; leave out edges=")
    most = int(mask.sum())
    if not 0 <= edges <= most:
        raise ValueError(f"expected between 0 and {most} edges, got {edges}")
    values = circuit.scores.values.masked_fill(~mask, -torch.inf).flatten()
    kept = torch.zeros_like(mask)
    kept.view(-1)[values.argsort(descending=True, stable=True)[:edges]] = True
    return kept
