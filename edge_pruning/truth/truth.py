"""The true circuit of a compiled program, found in two ways: from its weights, and by exhaustive ablation.

According to the weights, an edge is true if it can have an effect (see `models.tracr.reach`) and if the removed
difference y - c is not always zero. By ablation, it is true if its removal changes an output, after all edges that
change no output have been removed. The first truth includes mechanisms that no input needs; the second is the one that
a faithful and minimal circuit has. Methods are judged by the second; both are stored.

A truth belongs to one program under one ablation and one counting convention: `Truths.get` refuses any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_pruning import files
from edge_pruning.ablation import Ablation
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models.tracr.reach import Reach
from edge_pruning.tasks.task import PairSet
from edge_pruning.truth.exhaustive import needed_edges, needed_in_order
from edge_pruning.truth.outputs import Outputs

FORMAT, FORMAT_VERSION = "edge-pruning/truth", 1
FILE = "truth.json"
ORDERS = 3  # random orders of ablation, to detect other minimal circuits


@dataclass(frozen=True, eq=False)
class Truth:
    """A true circuit.

    by_ablation, by_weights: bool [w, r].
    other_sizes: sizes of other minimal circuits that were found.
    """

    graph: Graph
    ablation: str
    data_hash: str
    by_ablation: Tensor
    by_weights: Tensor
    other_sizes: tuple[int, ...] = ()

    @classmethod
    def find(cls, engine: MaskedPass, pairs: PairSet, ablation: Ablation) -> Truth:
        """Find both truths, on all pairs. The engine's model must be a compiled program."""
        graph, outputs = engine.graph, Outputs(engine, pairs, ablation)
        minimal = needed_edges(outputs, graph.edge_mask)
        others = {len(other): other for seed in range(ORDERS)
                  if (other := graph.names(needed_in_order(outputs, graph.edge_mask, seed))) != graph.names(minimal)}
        weights = Reach(engine.adapter.hf, graph, moving(engine, pairs, ablation)).edges
        return cls(graph, ablation.name, pairs.hash, minimal, weights, tuple(sorted(others)))

    def to_json(self) -> dict[str, Any]:
        return {
            "ablation": self.ablation,
            "embeddings": self.graph.embeddings,
            "heads": self.graph.kv,
            "data_hash": self.data_hash,
            "edges_total": self.graph.n_edges,
            "by_ablation": self.graph.names(self.by_ablation),
            "by_weights": self.graph.names(self.by_weights),
            "other_sizes": list(self.other_sizes),
        }

    @classmethod
    def from_json(cls, shape: ModelShape, content: Mapping[str, Any]) -> Truth:
        graph = Graph(shape, content["embeddings"], content["heads"])
        minimal, real = graph.mask(content["by_ablation"]), graph.mask(content["by_weights"])
        return cls(graph, content["ablation"], content["data_hash"], minimal, real, tuple(content["other_sizes"]))


def moving(engine: MaskedPass, pairs: PairSet, ablation: Ablation) -> Tensor:
    """Return the dimensions in which a writer's value and its ablated value differ on any pair, bool [w, d]."""
    moves = torch.zeros(len(engine.graph.writers), engine.adapter.d_model, dtype=torch.bool)
    for ids in engine.tiles(pairs.pairs):
        batch = engine.batch([pairs.pairs[i] for i in ids])
        clean = engine.unmasked_run(batch.clean)
        ablated = ablation.writes(engine, batch)
        embeddings, heads, mlps = (
            (getattr(clean, name) != getattr(ablated, name)).flatten(-3, -2).any(-2)
            for name in ("embeddings", "heads", "mlps")
        )
        moves |= torch.cat([embeddings, torch.cat([heads, mlps[:, None]], 1).flatten(0, 1)]).cpu()
    return moves


@dataclass(frozen=True, eq=False)
class Truths:
    """All truths of one program: one for each ablation and counting convention."""

    program: str
    fingerprint: str
    truths: Sequence[Truth]

    def get(self, fingerprint: str, ablation: str, graph: Graph) -> Truth:
        """Return a truth. Raises ValueError with all mismatches if there is none for this model, ablation and graph."""
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"this is the truth of another program: {self.program!r} with weights {self.fingerprint}, expected "
                f"{fingerprint}; use the {FILE} of the program's own folder, or make it: edge-pruning tracr truth"
            )
        for truth in self.truths:
            if (truth.ablation, truth.graph) == (ablation, graph):
                return truth
        known = ", ".join(f"{truth.ablation} ({truth.graph.convention})" for truth in self.truths)
        raise ValueError(
            f"the truth of {self.program!r} is not known under {ablation} ablation ({graph.convention}); truths "
            f"under other ablations do not apply. Known: {known or 'none'}. Make it: edge-pruning tracr truth"
        )

    def save(self, path: Path) -> None:
        shape = self.truths[0].graph.shape
        head = {"format": FORMAT, "version": FORMAT_VERSION, "program": self.program, "fingerprint": self.fingerprint}
        about = {"shape": {"layers": shape.layers, "heads": shape.heads}}
        files.write_json(path, head | about | {"truths": [truth.to_json() for truth in self.truths]})

    @classmethod
    def load(cls, path: Path) -> Truths:
        """Load a file of truths. Raises ValueError if it is missing, truncated, or not such a file."""
        from edge_pruning.contents import TruthsContent

        content = files.read_own(path, FORMAT, FORMAT_VERSION, TruthsContent)
        try:
            shape = ModelShape(**content["shape"])
            truths = tuple(Truth.from_json(shape, truth) for truth in content["truths"])
            return cls(content["program"], content["fingerprint"], truths)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
