"""The same circuit under another way of counting: embeddings as one writer or two, k and v per key-value or query head.

Published tools count differently, so a circuit is recounted before it goes to one of them, and after it came from one.
Expanding (`input` to `tok` and `pos`; a key-value head to the heads that share it) copies an edge and its score: the
model computes the same. Merging keeps an edge where any of its parts is kept, with the largest of their scores, so a
circuit never loses anything; it can gain, and the notice says how much. Expanding and merging again changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit, EdgeScores
from edge_pruning.graph import Graph

Embeddings = Literal["joint", "split"]
KeyValues = Literal["kv", "query"]


def recount(
    circuit: Circuit, *, embeddings: Embeddings | None = None, kv: KeyValues | None = None
) -> tuple[Circuit, list[str]]:
    """The circuit on the graph with these conventions (not given: as it is), and a notice for each that changed."""
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
    "more": "keys and values are counted per query head: an edge into a key-value head is listed for every head of it",
    "fewer": "keys and values are counted per key-value head: the heads that share one have one edge together",
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
    found = Circuit(graph, kept, scores, circuit.provenance)
    notice = f"{words['more' if graph.n_edges > circuit.graph.n_edges else 'fewer']}; "
    notice += f"{len(circuit):,} of {circuit.graph.n_edges:,} edges became {len(found):,} of {graph.n_edges:,}"
    if partly := int((kept & ~in_full).sum()):
        notice += f", {partly:,} of them kept only in part before, and whole now"
    return found, [notice]


def _carried(values: Tensor, writers: Tensor, readers: Tensor, reduce: Literal["amax", "amin"]) -> Tensor:
    """Values [w, r] of one graph on another; `writers` and `readers` are pairs (from, to), [pair, 2]."""
    rows = _reduced(values, writers, reduce)
    return _reduced(rows.T, readers, reduce).T.contiguous()


def _reduced(values: Tensor, pairs: Tensor, reduce: Literal["amax", "amin"]) -> Tensor:
    """Rows of values gathered by the first of each pair, and reduced where the second is the same."""
    empty = values.new_zeros(int(pairs[:, 1].max()) + 1, values.shape[1])
    into = pairs[:, 1:].expand(-1, values.shape[1])
    return empty.scatter_reduce(0, into, values[pairs[:, 0]], reduce, include_self=False)


def _writer_pairs(old: Graph, new: Graph) -> Tensor:
    """Which writer of the old graph is (part of) which of the new one."""
    a, b = old.n_embeddings, new.n_embeddings
    embeddings = [(i, j) for i in range(a) for j in range(b) if i == j or a != b]
    return torch.tensor(embeddings + [(a + i, b + i) for i in range(len(old.writers) - a)])


def _reader_pairs(old: Graph, new: Graph) -> Tensor:
    """Readers belong together where they are the queries, keys or values of the same head, or the same other reader."""
    pairs = {(len(old.readers) - 1, len(new.readers) - 1)}
    for layer in range(old.shape.layers):
        pairs.add((old.mlp_reader(layer).start, new.mlp_reader(layer).start))
        for head in range(old.shape.heads):
            pairs |= set(zip(old.head_readers(layer, head), new.head_readers(layer, head), strict=True))
    return torch.tensor(sorted(pairs))
