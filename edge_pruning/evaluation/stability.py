"""Stability: the agreement of circuits found with different seeds.

Circuits are not unique. Several seeds show how much they vary: the intersection over union of edges and of nodes for
every pair of circuits, the *core* (edges in all of them), and the *contingent* rest, edge by edge. A *consensus*
circuit has the edges that most circuits have, up to the median size, with ties broken by the mean rank of their scores.

Circuits drawn blindly also overlap, the more the larger they are; that overlap is reported beside the measured one.
Cost: none; circuits are compared, not run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.compare import Sets

UNLIKE = 0.5  # intersection over union
SIZES = 1.2  # largest over smallest
RULE = (
    "the edges that most circuits have, as many as the median circuit has; ties go to the better mean rank of the "
    "scores, then to the earlier edge"
)


@dataclass(frozen=True, eq=False)
class Stability:
    """The agreement of the circuits of several seeds. Raises ValueError unless there are at least two, of one graph."""

    circuits: tuple[Circuit, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.circuits) < 2 or len(self.seeds) != len(self.circuits):
            raise ValueError(
                f"expected at least 2 circuits and one seed for each, got {len(self.circuits)} circuits and "
                f"{len(self.seeds)} seeds"
            )
        for other in self.circuits[1:]:
            self.circuits[0].edge_iou(other)  # raises for another graph

    @cached_property
    def counts(self) -> Tensor:
        """The number of circuits that have each edge, [w, r]."""
        return torch.stack([circuit.mask for circuit in self.circuits]).sum(0)

    @cached_property
    def core(self) -> Circuit:
        """The edges that all circuits have."""
        return self._derived("core", self.counts == len(self.circuits))

    @cached_property
    def union(self) -> Circuit:
        """The edges that any circuit has."""
        return self._derived("union", self.counts > 0)

    @property
    def contingent(self) -> dict[str, int]:
        """Edges that some but not all circuits have: name to number of circuits, the most frequent first."""
        rest = (self.counts > 0) & (self.counts < len(self.circuits))
        named = zip(self.circuits[0].graph.names(rest), self.counts[rest].tolist(), strict=True)
        return dict(sorted(named, key=lambda item: -item[1]))

    @cached_property
    def consensus(self) -> Circuit:
        """The circuit on which the circuits agree most; see `RULE`."""
        graph = self.circuits[0].graph
        size = round(statistics.median(len(circuit) for circuit in self.circuits))
        preference = self.counts.double() - self._mean_rank / self.counts.numel()  # ranks only break ties
        order = preference.masked_fill(~graph.edge_mask, -torch.inf).flatten().argsort(descending=True, stable=True)
        mask = torch.zeros(order.shape, dtype=torch.bool).index_fill_(0, order[:size], True)
        return self._derived("consensus", mask.view_as(graph.edge_mask))

    @property
    def _mean_rank(self) -> Tensor:
        """Mean rank of each edge in the circuits' rankings, from 0 (best), [w, r]; 0 for circuits without scores."""
        total, known = torch.zeros(self.counts.numel(), dtype=torch.float64), 0
        for circuit in self.circuits:
            if circuit.scores is not None:
                order = circuit.scores.values.flatten().argsort(descending=True, stable=True)
                total[order] += torch.arange(len(order), dtype=torch.float64)
                known += 1
        return (total / max(1, known)).view_as(self.counts)

    def _derived(self, operation: str, mask: Tensor) -> Circuit:
        origin = self.circuits[0].provenance.with_entries(seed=list(self.seeds), of_seeds=operation)
        return Circuit(self.circuits[0].graph, mask, provenance=origin)

    # --- overlap ---------------------------------------------------------------------------------------------------

    @cached_property
    def edges(self) -> Sets:
        return Sets(tuple(frozenset(circuit.edges) for circuit in self.circuits))

    @cached_property
    def nodes(self) -> Sets:
        return Sets(tuple(circuit.nodes for circuit in self.circuits))

    @cached_property
    def edge_iou(self) -> dict[str, Any]:
        """The overlap of edges: the matrix, and its mean, minimum and maximum over the pairs; with the mean by chance.
        """
        by_chance = _of_pairs(self.edges.chance(self.circuits[0].graph.n_edges))["mean"]
        return {**_of_pairs(self.edges.iou), "by_chance": by_chance}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "seeds": list(self.seeds),
            "sizes": [circuit.counts for circuit in self.circuits],
            "edge_iou": self.edge_iou,
            "node_iou": _of_pairs(self.nodes.iou),
            "core": {**self.core.counts, "names": sorted(self.core.edges)},
            "contingent": self.contingent,
            "union": self.union.counts,
            "consensus": {**self.consensus.counts, "rule": RULE},
        }

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What to know before calling one of these circuits *the* circuit."""
        iou, n, sentences = self.edge_iou, len(self.circuits), []
        smallest, *_, largest = sorted(len(circuit) for circuit in self.circuits)
        if len(set(self.circuits)) == 1:
            sentences.append(
                f"all {n} seeds gave the same circuit; this means little if the method is deterministic"
            )
        elif iou["mean"] < UNLIKE:
            sentences.append(
                f"the circuit is not unique: two of the {n} seeds' circuits share {iou['mean']:.2f} of their edges "
                f"(intersection over union; by chance {iou['by_chance']:.2f})"
            )
        if largest > SIZES * smallest:
            sentences.append(f"the circuits have {smallest:,} to {largest:,} edges, which alone lowers their overlap")
        return tuple(sentences)


def _of_pairs(matrix: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return a symmetric matrix with the mean, minimum and maximum over its pairs."""
    pairs = [matrix[i][j] for i, j in combinations(range(len(matrix)), 2)]
    return {"mean": statistics.fmean(pairs), "least": min(pairs), "most": max(pairs), "matrix": matrix}
