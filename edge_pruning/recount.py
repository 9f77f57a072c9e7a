"""Express a circuit in another counting convention: one or two embedding writers; k and v per key-value or query head.

Published tools count differently, so a circuit is recounted when it is written for one of them or read from one.
Expanding (`input` to `tok` and `pos`; a key-value head to the query heads that share it) copies an edge and its score,
and the circuit computes the same. Merging keeps an edge if any of its parts is kept, with their largest score. A merged
circuit never loses an edge but can gain some; the notice reports the number. Expanding and then merging changes
nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph

Embeddings = Literal["joint", "split"]
KeyValues = Literal["kv", "query"]


def recount(
    circuit: Circuit, *, embeddings: Embeddings | None = None, kv: KeyValues | None = None
) -> tuple[Circuit, list[str]]:
    """Return the circuit under these conventions (default: unchanged), and one notice per convention that changed."""
    notices = []
    if embeddings is not None:
        circuit, notice = _recounted(circuit, replace(circuit.graph, embeddings=embeddings), _EMBEDDINGS)
        notices += notice
    if kv is not None:
        circuit, notice = _recounted(circuit, replace(circuit.graph, kv=kv), _KEY_VALUES)
        notices += notice
    return circuit, notices


_EMBEDDINGS = {
    "more": "input is counted as two writers, tok and pos",
    "fewer": "tok and pos are counted as one writer, input",
}
_KEY_VALUES = {
    "more": "keys and values are counted per query head: an edge into a key-value head appears once per query head",
    "fewer": "keys and values are counted per key-value head: query heads that share one share its edges",
}


def _recounted(circuit: Circuit, graph: Graph, words: dict[str, str]) -> tuple[Circuit, list[str]]:
    if graph == circuit.graph:
        return circuit, []
    pairs = _writer_pairs(circuit.graph, graph), _reader_pairs(circuit.graph, graph)
    kept = _carried(circuit.mask.float(), *pairs, "amax") > 0
    in_full = _carried(circuit.mask.float(), *pairs, "amin") > 0
    scores = None
    if circuit.scores is not None:
        scores = EdgeScores(graph, _carried(circuit.scores.values, *pairs, "amax"))
    recounted = Circuit(graph, kept, scores, circuit.provenance)
    notice = f"{words['more' if graph.n_edges > circuit.graph.n_edges else 'fewer']}; "
    notice += f"{len(circuit):,} of {circuit.graph.n_edges:,} edges became {len(recounted):,} of {graph.n_edges:,}"
    if partly := int((kept & ~in_full).sum()):
        notice += f", {partly:,} of them previously kept in part and now whole"
    return recounted, [notice]


def _carried(values: Tensor, writers: Tensor, readers: Tensor, reduce: Literal["amax", "amin"]) -> Tensor:
    """Map values [w, r] to another graph. `writers` and `readers` are index pairs (from, to), [pair, 2]."""
    rows = _reduced(values, writers, reduce)
    return _reduced(rows.T, readers, reduce).T.contiguous()


def _reduced(values: Tensor, pairs: Tensor, reduce: Literal["amax", "amin"]) -> Tensor:
    """Gather rows of `values` by the first index of each pair, and reduce rows with the same second index."""
    empty = values.new_zeros(int(pairs[:, 1].max()) + 1, values.shape[1])
    into = pairs[:, 1:].expand(-1, values.shape[1])
    return empty.scatter_reduce(0, into, values[pairs[:, 0]], reduce, include_self=False)


def _writer_pairs(old: Graph, new: Graph) -> Tensor:
    """Return index pairs (old, new) of writers that are equal, or one part of the other, [pair, 2]."""
    a, b = old.n_embeddings, new.n_embeddings
    embeddings = [(i, j) for i in range(a) for j in range(b) if i == j or a != b]
    return torch.tensor(embeddings + [(a + i, b + i) for i in range(len(old.writers) - a)])


def _reader_pairs(old: Graph, new: Graph) -> Tensor:
    """Return index pairs (old, new) of readers of the same kind (q, k or v) and head, or of the same MLP or logits."""
    pairs = {(len(old.readers) - 1, len(new.readers) - 1)}
    for layer in range(old.shape.layers):
        pairs.add((old.mlp_reader(layer).start, new.mlp_reader(layer).start))
        for head in range(old.shape.heads):
            pairs |= set(zip(old.head_readers(layer, head), new.head_readers(layer, head), strict=True))
    return torch.tensor(sorted(pairs))
