"""A circuit as a networkx graph: for graph algorithms, and for GraphML and DOT.

Heads and MLPs, the input and the logits are nodes; a head has up to three edges from one writer, for its queries, keys
and values. The graph therefore has parallel edges, whose keys are the edges' names. Keys and values are per query head,
because an edge must end in one node. The graph's own attributes contain the shape and the rest of the circuit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edge_pruning.circuit import Circuit
from edge_pruning.formats.edge_table import EdgeTable, circuit_of, shown
from edge_pruning.formats.shape import FIELDS, shape_from
from edge_pruning.graph import Graph
from edge_pruning.recount import recount

if TYPE_CHECKING:
    import networkx


def to_networkx(circuit: Circuit) -> networkx.MultiDiGraph:
    """Return the circuit as a `networkx.MultiDiGraph`; an edge has `reads` (q, k, v, mlp or logits) and its `score`."""
    import networkx

    circuit, _ = recount(circuit, kv="query")
    graph = networkx.MultiDiGraph(**asdict(circuit.graph.shape), embeddings=circuit.graph.embeddings)
    used = circuit.nodes
    for name in (*circuit.graph.writers, "logits"):
        if name in used:
            graph.add_node(name, kind=_kind(name))
    for name, score in _edges(circuit):
        writer, _, reader = name.partition("->")
        node, _, kind = reader.partition("<")
        about = {"edge": name, "reads": kind.removesuffix(">") or _kind(node)}
        graph.add_edge(writer, node, key=name, **about, **({} if score == -math.inf else {"score": score}))
    return graph


def _edges(circuit: Circuit) -> Iterator[tuple[str, float]]:
    """Yield name and score of each edge in the circuit; the score is minus infinity if it has none."""
    names = circuit.edges
    scores = [-math.inf] * len(names) if circuit.scores is None else circuit.scores.values[circuit.mask].tolist()
    return zip(names, scores, strict=True)


def from_networkx(graph: networkx.Graph, shape: Mapping[str, Any], file: str) -> Circuit:
    """Return the circuit of a graph whose edges have an attribute `edge` with their names; other edges are an error."""
    about = [(f"{tail} to {head}", data) for tail, head, data in graph.edges(data=True)]
    unnamed = [where for where, data in about if not isinstance(data.get("edge"), str)]
    if unnamed:
        raise ValueError(
            "expected the attribute 'edge' on every edge, with a name such as a0.h1->a5.h7<q>; "
            f"{len(unnamed):,} have none: {shown(unnamed)}"
        )
    said = {name: graph.graph[name] for name in FIELDS if name in graph.graph}
    names = [data["edge"] for _, data in about]
    splits = any(name.startswith(("tok->", "pos->")) for name in names)
    embeddings = graph.graph.get("embeddings", "split" if splits else "joint")
    table = EdgeTable(names, [True] * len(names), [data.get("score") for _, data in about])
    return circuit_of(Graph(shape_from(said, shape), embeddings, "query"), table, {"source": {"file": file}})


def left_out(circuit: Circuit) -> list[str]:
    """Describe what such a file does not contain of this circuit."""
    if circuit.scores is None:
        return []
    return [f"only the {len(circuit):,} edges of the circuit are in the file, not the scores of the others"]


def _kind(node: str) -> str:
    return {"a": "head", "m": "mlp", "l": "logits"}.get(node[0], "embedding")
