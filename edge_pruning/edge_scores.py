"""Edge scores: one number per edge of a graph, from which circuits of any size are cut."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_pruning import files
from edge_pruning.graph import Graph

log = logging.getLogger("edge_pruning")


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """One number per edge. Circuits keep the edges with the highest scores.

    values: float [w, r]; minus infinity outside the graph and for edges that were not candidates.
    natural_size: the number of edges that the method itself would keep; None if it leaves the size open.
    """

    graph: Graph
    values: Tensor
    natural_size: int | None = None

    def __post_init__(self) -> None:
        if self.values.shape != self.graph.edge_mask.shape:
            raise ValueError(
                f"expected scores [writer, reader] of shape {tuple(self.graph.edge_mask.shape)}, "
                f"got {tuple(self.values.shape)}"
            )
        values = self.values.detach().float().cpu()
        if values[self.graph.edge_mask].isnan().any():
            raise ValueError(f"{int(values[self.graph.edge_mask].isnan().sum())} edge scores are NaN; expected numbers")
        object.__setattr__(self, "values", values.masked_fill(~self.graph.edge_mask, -torch.inf))

    @cached_property
    def n_candidates(self) -> int:
        return int((self.values > -torch.inf).count_nonzero())

    def top(self, edges: int) -> Tensor:
        """Return the `edges` highest-scoring candidates as a bool mask [w, r]; ties go to the earlier edge in graph
        order.
        """
        if not 0 <= edges <= self.n_candidates:
            raise ValueError(f"expected between 0 and {self.n_candidates} edges, got {edges}")
        if edges == 0:
            return torch.zeros_like(self.graph.edge_mask)
        candidates = self.values[self.values > -torch.inf].numpy()
        weakest = float(np.partition(candidates, -edges)[-edges])  # lowest score that is kept
        kept, tied = self.values > weakest, (self.values == weakest).flatten().nonzero().flatten()
        kept.view(-1)[tied[: edges - int(kept.count_nonzero())]] = True
        return kept


def scores_beside(path: Path, name: str | None, graph: Graph) -> EdgeScores | None:
    """Return the scores in the file that a circuit names; None if it names none or the file is missing."""
    if name is None:
        return None
    file = path.with_name(Path(name).name or name)
    if not os.path.exists(file):  # also False for invalid file names
        log.warning("%s: its file of scores (%s) is missing, so the circuit has no scores", path, name)
        return None
    values = files.read_tensors(file).get("scores")
    if values is None or not values.is_floating_point():
        raise ValueError(f"{name} holds no scores; expected a tensor of numbers with that name")
    if values.shape != graph.edge_mask.shape:
        raise ValueError(f"{name} holds scores of another graph: shape {tuple(values.shape)}")
    return EdgeScores(graph, values)
