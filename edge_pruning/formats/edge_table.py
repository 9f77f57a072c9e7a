"""Edges in a table (name, whether in the circuit, score), the content of most files: conversion to and from circuits.

All problems of a table are reported at once: names that are not edges, edges listed twice, scores that are not numbers.
A graph can have millions of edges, so a table is three lists, and `by_writer` creates Python objects for one writer at
a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.provenance import Provenance

SHOWN = 5  # wrong entries listed in an error
LARGEST_SCORE = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class EdgeTable:
    """The edges of a file, one entry in each list.

    kept: whether the edge is in the circuit.
    scores: a number, or None if the file has none for this edge.

    Both contain the values of the file, whatever their type; `circuit_of` checks them.
    """

    names: list[str]
    kept: list[Any]
    scores: list[Any]


def by_writer(graph: Graph, *matrices: Tensor) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield for each writer its name, the readers of its edges, and the entries of each matrix [w, r] at these edges.
    """
    for w, writer in enumerate(graph.writers):
        readers = graph.edge_mask[w].nonzero().flatten()
        names = [graph.readers[r] for r in readers.tolist()]
        yield writer, names, [matrix[w, readers].tolist() for matrix in matrices]


def circuit_of(graph: Graph, table: EdgeTable, provenance: Mapping[str, Any]) -> Circuit:
    """Return the circuit of a table. Edges that are not listed are outside the circuit and were not candidates."""
    problems = [*_listed_twice(table), *_wrong_values(table)]
    try:
        places = graph.places(table.names)
    except ValueError as error:
        problems.insert(0, str(error))
    if problems:
        raise ValueError("; ".join(problems))
    mask = torch.zeros_like(graph.edge_mask)
    mask[places.unbind(1)] = torch.tensor(table.kept, dtype=torch.bool)
    if all(score is None for score in table.scores):
        return Circuit(graph, mask, provenance=Provenance(provenance))
    scores = torch.full(graph.edge_mask.shape, -torch.inf)
    scores[places.unbind(1)] = torch.tensor([-math.inf if score is None else score for score in table.scores])
    return Circuit(graph, mask, EdgeScores(graph, scores), Provenance(provenance))


def shown(names: Sequence[object]) -> str:
    """Format the first few of many names, and the number of the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more


def _listed_twice(table: EdgeTable) -> Iterator[str]:
    if len(set(table.names)) < len(table.names):
        twice = [name for name, count in Counter(table.names).items() if count > 1]
        yield f"expected every edge once; {len(twice):,} are listed more than once: {shown(twice)}"


def _wrong_values(table: EdgeTable) -> Iterator[str]:
    kept, scores = zip(table.names, table.kept, strict=True), zip(table.names, table.scores, strict=True)
    unclear = [f"{name} ({value!r})" for name, value in kept if not isinstance(value, bool)]
    if unclear:
        yield f"expected true or false for each edge; {len(unclear):,} have other values: {shown(unclear)}"
    bad = [f"{name} ({score!r})" for name, score in scores if not (score is None or _is_number(score))]
    if bad:
        yield f"expected a finite number as score; {len(bad):,} edges have none: {shown(bad)}"


def _is_number(value: Any) -> bool:
    """Return whether a value fits into a float32; NaN compares false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_SCORE
