"""Edges as rows (name, in the circuit or not, score), which is how most files list them: to rows and from them.

Whatever is wrong with a list of rows is reported at once: names that are no edges, edges listed twice, scores that are
no numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edge_pruning.circuit import Circuit, EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.provenance import Provenance

SHOWN = 5  # of many wrong rows


@dataclass(frozen=True)
class Row:
    """One edge of a file. score: None where the file has none."""

    edge: str
    kept: Any
    score: Any = None


def rows_of(circuit: Circuit) -> Iterator[Row]:
    """Every edge of the graph, in graph order; the score is None for edges that were no candidates."""
    graph = circuit.graph
    places = graph.edge_mask.nonzero().tolist()
    kept = circuit.mask[graph.edge_mask].tolist()
    scores = [None] * len(kept) if circuit.scores is None else circuit.scores.values[graph.edge_mask].tolist()
    for (w, r), keep, score in zip(places, kept, scores, strict=True):
        yield Row(f"{graph.writers[w]}->{graph.readers[r]}", keep, None if score == -math.inf else score)


def circuit_of(graph: Graph, rows: Sequence[Row], provenance: Mapping[str, Any]) -> Circuit:
    """The circuit that the rows describe; edges that they do not list are outside it, and were no candidates."""
    problems = [*_listed_twice(rows), *_wrong_values(rows)]
    try:
        places = graph.places(row.edge for row in rows)
    except ValueError as error:
        problems.insert(0, str(error))
    if problems:
        raise ValueError("; ".join(problems))
    mask, scores = torch.zeros_like(graph.edge_mask), torch.full(graph.edge_mask.shape, -torch.inf)
    mask[places.unbind(1)] = torch.tensor([row.kept for row in rows], dtype=torch.bool)
    if all(row.score is None for row in rows):
        return Circuit(graph, mask, provenance=Provenance(provenance))
    scores[places.unbind(1)] = torch.tensor([-math.inf if row.score is None else row.score for row in rows])
    return Circuit(graph, mask, EdgeScores(graph, scores), Provenance(provenance))


def shown(names: Sequence[object]) -> str:
    """The first few of many, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more


def _listed_twice(rows: Sequence[Row]) -> Iterator[str]:
    twice = [name for name, count in Counter(row.edge for row in rows).items() if count > 1]
    if twice:
        yield f"expected every edge once, {len(twice):,} are listed more often: {shown(twice)}"


def _wrong_values(rows: Sequence[Row]) -> Iterator[str]:
    unclear = [f"{row.edge} ({row.kept!r})" for row in rows if not isinstance(row.kept, bool)]
    if unclear:
        yield f"expected true or false for whether an edge is in the circuit, {len(unclear):,} say: {shown(unclear)}"
    bad = [f"{row.edge} ({row.score!r})" for row in rows if not (row.score is None or _is_number(row.score))]
    if bad:
        yield f"expected a finite number as score, {len(bad):,} edges have none: {shown(bad)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
