"""Compare circuits: the edges and nodes that all share, those that only one circuit has, and their overlap.

Overlap is the intersection over the union (IoU), 0 to 1. Two circuits of 100 edges that share 50 have an IoU of 1/3,
far more than chance: random circuits of 100 of 32,491 edges share a third of one edge on average. Circuits are not
unique, so a low IoU does not mean that one of them is wrong. Evaluating each circuit on the other's task says more
(`runs.transfer`).

No model is needed. Circuits that differ only in the counting convention are recounted. Circuits of models with
different shapes share no edges by definition; if their numbers of layers and heads agree, their nodes can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edge_pruning.circuit import Circuit
from edge_pruning.recount import recount

FORMAT = "edge-pruning/comparison"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Sets:
    """The edges, or the nodes, of several circuits. Rows and columns of matrices are the circuits in their order."""

    of: tuple[frozenset[str], ...]

    @property
    def shared(self) -> frozenset[str]:
        """The elements that all circuits contain."""
        return frozenset.intersection(*self.of)

    @property
    def union(self) -> frozenset[str]:
        return frozenset.union(*self.of)

    def only(self, i: int) -> frozenset[str]:
        """Return the elements that only circuit i contains."""
        return self.of[i].difference(*(other for j, other in enumerate(self.of) if j != i))

    @property
    def iou(self) -> list[list[float]]:
        """The intersection over union of each pair, 0 to 1; 1 for two empty circuits."""
        return self._pairwise(lambda a, b: len(a & b) / len(a | b) if a | b else 1.0)

    @property
    def contained(self) -> list[list[float]]:
        """The share of the row's elements that the column also contains; 1 for an empty row."""
        return self._pairwise(lambda a, b: len(a & b) / len(a) if a else 1.0)

    def chance(self, total: int) -> list[list[float]]:
        """Return the approximate IoU of random sets of these sizes drawn from `total`: expected shared over expected
        union.
        """

        def expected(a: frozenset[str], b: frozenset[str]) -> float:
            shared = len(a) * len(b) / total
            return shared / (len(a) + len(b) - shared) if a or b else 1.0

        return self._pairwise(expected)

    def _pairwise(self, value: Callable[[frozenset[str], frozenset[str]], float]) -> list[list[float]]:
        return [[value(a, b) for b in self.of] for a in self.of]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several circuits under one counting convention. `edges` is None if only nodes are compared."""

    circuits: Mapping[str, Circuit]
    edges: Sets | None
    notices: tuple[str, ...] = ()

    @cached_property
    def nodes(self) -> Sets:
        return Sets(tuple(circuit.nodes for circuit in self.circuits.values()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.circuits)

    def strongest(self, edges: frozenset[str], i: int) -> list[str]:
        """Sort edges by their score in circuit i, highest first, or by name if it has no scores."""
        circuit = list(self.circuits.values())[i]
        if circuit.scores is None:
            return sorted(edges)
        places = circuit.graph.places(names := sorted(edges))
        scores = dict(zip(names, circuit.scores.values[places.unbind(1)].tolist(), strict=True))
        return sorted(names, key=lambda edge: -scores[edge])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values. Lists are sorted by name; the edges that only one circuit has, by score."""
        circuits = list(self.circuits.items())
        edges = None
        if self.edges is not None:
            only = {name: self.strongest(self.edges.only(i), i) for i, (name, _) in enumerate(circuits)}
            chance = self.edges.chance(circuits[0][1].graph.n_edges)
            shared = sorted(self.edges.shared)
            edges = {**_matrices(self.edges), "iou_by_chance": chance, "shared": shared, "only": only}
        nodes = {
            **_matrices(self.nodes),
            "shared": sorted(self.nodes.shared),
            "only": {name: sorted(self.nodes.only(i)) for i, (name, _) in enumerate(circuits)},
        }
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "circuits": [
                {"name": name, **circuit.provenance.names, "counts": circuit.counts} for name, circuit in circuits
            ],
            "edges": edges,
            "nodes": nodes,
            "notices": list(self.notices),
        }


def compare_circuits(circuits: Mapping[str, Circuit], *, nodes_only: bool = False) -> Comparison:
    """Compare two or more circuits, given by name.

    nodes_only: do not compare edges. Circuits of different graphs can then be compared if layers and heads agree.

    Raises ValueError if the models have different shapes, with the differences and what can be compared.
    """
    if len(circuits) < 2:
        raise ValueError(f"expected at least two circuits to compare, got {len(circuits)}")
    _check_shapes(circuits, nodes_only)
    compared, notices = dict(circuits), _different_models(circuits)
    if len({circuit.graph for circuit in circuits.values()}) > 1:
        for name, circuit in circuits.items():
            compared[name], changes = recount(circuit, embeddings="joint", kv=None if nodes_only else "kv")
            notices += [f"{name} is recounted to be comparable: {change}" for change in changes]
    edges = None if nodes_only else Sets(tuple(frozenset(circuit.edges) for circuit in compared.values()))
    return Comparison(compared, edges, tuple(notices))


def _matrices(sets: Sets) -> dict[str, list[list[float]]]:
    return {"iou": sets.iou, "contained": sets.contained}


def _check_shapes(circuits: Mapping[str, Circuit], nodes_only: bool) -> None:
    shapes = {name: circuit.graph.shape for name, circuit in circuits.items()}
    if len(set(shapes.values())) == 1:
        return
    alike = len({(shape.layers, shape.heads) for shape in shapes.values()}) == 1
    if alike and nodes_only:
        return
    described = "; ".join(
        f"{name}: {shape.layers} layers of {shape.heads} heads, {shape.kv_heads} key-value heads, "
        f"{'parallel' if shape.parallel else 'sequential'} blocks" for name, shape in shapes.items()
    )
    offer = (
        "Their layers and heads agree, so their nodes can be compared: --nodes (nodes_only=True)" if alike else
        "Their numbers of layers or heads differ, so their nodes do not correspond either"
    )
    raise ValueError(
        f"these circuits belong to different graphs, so their edges do not correspond ({described}). {offer}"
    )


def _different_models(circuits: Mapping[str, Circuit]) -> list[str]:
    models = {name: str(circuit.provenance.model) for name, circuit in circuits.items() if circuit.provenance.model}
    if len(set(models.values())) < 2:
        return []
    named = ", ".join(f"{name}: {model}" for name, model in models.items())
    return [f"the circuits belong to different models ({named}): nodes with the same name may have different functions"]
