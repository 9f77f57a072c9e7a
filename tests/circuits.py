"""Small graphs, and random scores and circuits on them."""

from __future__ import annotations

import torch

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape

GRAPH = Graph(ModelShape(2, 3))
GRAPHS = [GRAPH, Graph(ModelShape(2, 4, 2, parallel=True), "split"), Graph(ModelShape(1, 2, 1), "joint", "query")]


def drawn_scores(graph: Graph = GRAPH, seed: int = 0) -> EdgeScores:
    return EdgeScores(graph, torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed)))


def drawn_circuit(seed: int, density: float = 0.4, graph: Graph = GRAPH) -> Circuit:
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit(graph, (drawn < density) & graph.edge_mask, provenance={"seed": seed})


EMPTY = Circuit(GRAPH, torch.zeros_like(GRAPH.edge_mask))
FULL = Circuit(GRAPH, GRAPH.edge_mask)
