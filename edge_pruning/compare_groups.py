"""Compare two groups of circuits, such as several seeds for each of two prompt styles.

An overlap is meaningless alone: two seeds of the same setting do not find the same circuit either. Therefore the
overlap *across* groups (a circuit of one and a circuit of the other) is reported beside the overlap *within* each group
and the overlap of random circuits of the same sizes. If the overlap across equals that within, the edges do not
distinguish the two settings.

Overlap is the intersection over the union (IoU), and the share of the smaller circuit that the other contains, which
Bhaskar and others (2024) report. No model is needed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any, Literal

from edge_pruning.circuit import Circuit
from edge_pruning.circuit_table import edge_columns
from edge_pruning.compare import Sets


@dataclass(frozen=True, eq=False)
class GroupComparison:
    """Two named groups of circuits of one graph, each with a representative circuit.

    groups: at least one circuit each; a group of one has no overlap within.
    agreed: the representative circuit of each group; these are compared edge by edge.

    Raises ValueError for another number of groups, or for circuits of different graphs.
    """

    groups: Mapping[str, Sequence[Circuit]]
    agreed: Mapping[str, Circuit]

    def __post_init__(self) -> None:
        if len(self.groups) != 2 or list(self.agreed) != list(self.groups) or not all(self.groups.values()):
            raise ValueError(f"expected two groups of circuits, each with its agreed circuit, got {list(self.groups)}")
        first, *others = (circuit for group in self.groups.values() for circuit in group)
        for other in (*others, *self.agreed.values()):
            first.edge_iou(other)  # raises for another graph

    @property
    def names(self) -> tuple[str, str]:
        first, second = self.groups
        return first, second

    @cached_property
    def shared(self) -> Circuit:
        """The edges that both agreed circuits contain."""
        first, second = self.agreed.values()
        return first & second

    @cached_property
    def union(self) -> Circuit:
        """The edges that at least one agreed circuit contains."""
        first, second = self.agreed.values()
        return first | second

    def only(self, name: str) -> list[str]:
        """Return the edges that only this agreed circuit contains, those with the highest scores first."""
        (other,) = (circuit for key, circuit in self.agreed.items() if key != name)
        circuit = self.agreed[name]
        own = circuit - other
        if circuit.scores is None:
            return own.edges
        scores = circuit.scores.values[own.mask].tolist()
        return [edge for _, edge in sorted(zip(scores, own.edges, strict=True), key=lambda item: -item[0])]

    def overlap(self, what: Literal["edges", "nodes"]) -> dict[str, Any]:
        """Return the overlap across groups, within each group, of the agreed circuits and (for edges) of random
        circuits.

        Each has `iou` and `of_smaller`, which have `mean`, `least` and `most` over the pairs of circuits; None for a
        group of one, which has no pairs.
        """
        circuits = [circuit for group in self.groups.values() for circuit in group]
        sets = Sets(tuple(_elements(circuit, what) for circuit in [*circuits, *self.agreed.values()]))
        measures = {"iou": sets.iou, "of_smaller": _of_smaller(sets.contained)}
        n, first = len(circuits), len(next(iter(self.groups.values())))
        members = dict(zip(self.names, (range(first), range(first, n)), strict=True))
        across = list(product(*members.values()))
        total, sizes = self.shared.graph.n_edges, [len(elements) for elements in sets.of]
        by_chance = {"iou": sets.chance(total), "of_smaller": [[max(a, b) / total for b in sizes] for a in sizes]}
        return {
            "across": _over(across, measures),
            "within": {name: _over(list(combinations(group, 2)), measures) for name, group in members.items()},
            "agreed": _over([(n, n + 1)], measures),
            "by_chance": _over(across, by_chance) if what == "edges" else None,
        }

    def by(self, column: str) -> list[dict[str, Any]]:
        """Count the edges of each agreed circuit and the shared edges, by `kind` of reader or by its `layer`."""
        counted = {name: _counts(circuit, column) for name, circuit in (*self.agreed.items(), ("shared", self.shared))}
        values = {value for counts in counted.values() for value in counts}
        order = sorted(values, key=lambda value: (value is None, value))  # None: the logits, after all layers
        return [
            {column: value, **{name: counts.get(value, 0) for name, counts in counted.items()}} for value in order
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        nodes = {name: circuit.nodes for name, circuit in self.agreed.items()}
        first, second = nodes.values()
        return {
            "sizes": {name: [len(circuit) for circuit in group] for name, group in self.groups.items()},
            "counts": {
                **{name: circuit.counts for name, circuit in self.agreed.items()},
                "intersection": self.shared.counts, "union": self.union.counts,
            },
            "edges": self.overlap("edges"),
            "nodes": self.overlap("nodes"),
            "kinds": self.by("kind"),
            "layers": self.by("layer"),
            "shared_nodes": sorted(first & second),
            "only_nodes": {name: sorted(own - (first & second)) for name, own in nodes.items()},
            "shared_edges": sorted(self.shared.edges),
            "only_edges": {name: self.only(name) for name in self.names},
        }


def _elements(circuit: Circuit, what: str) -> frozenset[str]:
    return frozenset(circuit.edges) if what == "edges" else circuit.nodes


def _counts(circuit: Circuit, column: str) -> dict[Any, int]:
    values = edge_columns(circuit)[column]
    return {value: values.count(value) for value in dict.fromkeys(values)}


def _of_smaller(contained: list[list[float]]) -> list[list[float]]:
    """Return the share of the smaller circuit that the larger contains, for every pair."""
    n = range(len(contained))
    return [[max(contained[i][j], contained[j][i]) for j in n] for i in n]


def _over(pairs: Sequence[tuple[int, ...]], measures: Mapping[str, list[list[float]]]) -> dict[str, Any] | None:
    """Return mean, minimum and maximum of each measure over pairs of circuits; None without pairs."""
    values = {name: [matrix[i][j] for i, j in pairs] for name, matrix in measures.items()}
    return {
        name: {"mean": statistics.fmean(each), "least": min(each), "most": max(each)} for name, each in values.items()
    } if pairs else None
