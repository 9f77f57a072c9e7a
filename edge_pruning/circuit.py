"""Circuits: sets of edges with provenance.

A circuit is a value: two circuits are equal if they have the same edges of the same graph, whatever their provenance.
It needs no model, so it can be loaded, compared and drawn on any laptop.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edge_pruning import circuit_table, files
from edge_pruning.edge_scores import EdgeScores, scores_beside
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.provenance import Provenance

if TYPE_CHECKING:
    import pandas

log = logging.getLogger("edge_pruning")

FORMAT = "edge-pruning/circuit"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Circuit:
    """A set of edges of a graph, with provenance.

    mask: bool [w, r].
    scores: the scores that the circuit was cut from, if any.
    provenance: the model, task, method, ablation, seed and versions behind it; a mapping of JSON values becomes a
        `Provenance`.
    """

    graph: Graph
    mask: Tensor
    scores: EdgeScores | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if self.mask.shape != self.graph.edge_mask.shape or self.mask.dtype != torch.bool:
            raise ValueError(
                f"expected a bool mask [writer, reader] of shape {tuple(self.graph.edge_mask.shape)}, "
                f"got {self.mask.dtype} {tuple(self.mask.shape)}"
            )
        if self.scores is not None and self.scores.graph != self.graph:
            raise ValueError(
                f"the scores are of another graph: expected {self.graph.shape} ({self.graph.convention}), got "
                f"{self.scores.graph.shape} ({self.scores.graph.convention})"
            )
        mask = self.mask.detach().cpu().clone()  # copied, so that later changes to the caller's tensor have no effect
        outside = int((mask & ~self.graph.edge_mask).count_nonzero())
        if outside:
            raise ValueError(f"{outside} entries of the mask are not edges of the graph; expected edges only")
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "provenance", Provenance.of(self.provenance))

    # --- making ----------------------------------------------------------------------------------------------------

    @classmethod
    def from_names(cls, graph: Graph, names: Iterable[str], **provenance: Any) -> Circuit:
        return cls(graph, graph.mask(names), provenance=Provenance(provenance))

    @classmethod
    def from_scores(cls, scores: EdgeScores, *, edges: int | None = None, threshold: float | None = None,
                    provenance: Mapping[str, Any] | None = None) -> Circuit:
        """Cut scores into a circuit: the best `edges`, all candidates at or above `threshold`, or the natural size.

        Logs a warning if a threshold keeps no edge or every edge.
        """
        if edges is not None and threshold is not None:
            raise ValueError("expected edges or threshold, got both")
        if threshold is not None:
            mask = (scores.values >= threshold) & (scores.values > -torch.inf)
            if scores.n_candidates and int(mask.sum()) in (0, scores.n_candidates):
                candidates = scores.values[scores.values > -torch.inf]
                log.warning(
                    "a threshold of %g keeps %d of %d scored edges; their scores are from %g to %g", threshold,
                    int(mask.sum()), scores.n_candidates, float(candidates.min()), float(candidates.max()),
                )
        else:
            size = scores.natural_size if edges is None else edges
            if size is None:
                raise ValueError("these scores have no natural size; pass edges= or threshold=")
            mask = scores.top(size)
        return cls(scores.graph, mask, scores, Provenance(provenance or {}))

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def edges(self) -> list[str]:
        return self.graph.names(self.mask)

    @cached_property
    def nodes(self) -> frozenset[str]:
        """Nodes with an incoming or outgoing edge. An edge into a key-value head counts for every query head that
        shares it.
        """
        graph, edges = self.graph, self.mask.numpy()
        reads = np.any(edges, axis=0)
        used = np.any(edges, axis=1) | np.any(graph.feeds.numpy()[reads], axis=0)
        ends = ("logits",) if reads[-1] else ()
        return frozenset((*(name for keep, name in zip(used.tolist(), graph.writers, strict=True) if keep), *ends))

    @property
    def counts(self) -> dict[str, int | str]:
        """The circuit's size with its counting convention, before and after removing dangling edges."""
        return {
            "edges": len(self),
            "edges_without_dangling": self._connected,
            "edges_total": self.graph.n_edges,
            "convention": self.graph.convention,
        }

    @cached_property
    def _connected(self) -> int:
        return int(self.graph.without_dangling(self.mask).count_nonzero())

    def __len__(self) -> int:
        return int(self.mask.count_nonzero())

    def __contains__(self, name: object) -> bool:
        """Return whether an edge is in the circuit; False for names that are not edges of the graph."""
        place = self.graph.place(name) if isinstance(name, str) else None
        return place is not None and bool(self.mask[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Circuit) and self.graph == other.graph and torch.equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.graph, self.mask.numpy().tobytes()))

    def __repr__(self) -> str:
        return f"Circuit({len(self)} of {self.graph.n_edges} edges; {self.graph.convention})"

    # --- tables and parts ------------------------------------------------------------------------------------------

    def to_pandas(self, what: str = "edges") -> pandas.DataFrame:
        """Return a table of the edges (writer, reader, layer, kind, score), or of the `nodes` with their importance."""
        return circuit_table.to_pandas(self, what)

    @property
    def importances(self) -> dict[str, float]:
        """Heads and MLPs with their importance, the most important first; see `circuit_table.node_rows`."""
        return {
            row["node"]: row["importance"] for row in circuit_table.node_rows(self) if row["kind"] in ("head", "mlp")
        }

    def subcircuit(
        self,
        *,
        nodes: Iterable[str] | None = None,
        layers: Collection[int] | None = None,
        kinds: Collection[str] | None = None,
        edges: int | None = None,
    ) -> Circuit:
        """Return the edges that satisfy every condition; see `circuit_table.subcircuit`."""
        return circuit_table.subcircuit(self, nodes=nodes, layers=layers, kinds=kinds, edges=edges)

    # --- set algebra -----------------------------------------------------------------------------------------------

    def __or__(self, other: Circuit) -> Circuit:
        return self._derived("union", other, self.mask | self._same_graph(other))

    def __and__(self, other: Circuit) -> Circuit:
        return self._derived("intersection", other, self.mask & self._same_graph(other))

    def __sub__(self, other: Circuit) -> Circuit:
        return self._derived("difference", other, self.mask & ~self._same_graph(other))

    def without_dangling(self) -> Circuit:
        """Return the edges on a path from an embedding to the logits; see `Graph.without_dangling`."""
        return replace(self, mask=self.graph.without_dangling(self.mask))

    def edge_iou(self, other: Circuit) -> float:
        """Return the number of shared edges divided by the number of edges in either circuit, 0 to 1; 1 for two empty
        circuits.
        """
        union = int((self.mask | self._same_graph(other)).count_nonzero())
        return int((self.mask & other.mask).count_nonzero()) / union if union else 1.0

    def node_iou(self, other: Circuit) -> float:
        self._same_graph(other)
        union = self.nodes | other.nodes
        return len(self.nodes & other.nodes) / len(union) if union else 1.0

    def _same_graph(self, other: Circuit) -> Tensor:
        if self.graph != other.graph:
            raise ValueError(
                f"these circuits belong to different graphs: {self.graph.shape} ({self.graph.convention}) and "
                f"{other.graph.shape} ({other.graph.convention})"
            )
        return other.mask

    def _derived(self, operation: str, other: Circuit, mask: Tensor) -> Circuit:
        origin = {"operation": operation, "of": [dict(self.provenance), dict(other.provenance)]}
        return Circuit(self.graph, mask, provenance=Provenance(origin))

    # --- files -----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return everything but the scores as JSON values. Edges are sorted, so that `git diff` shows how circuits
        differ.
        """
        graph = {"embeddings": self.graph.embeddings, "kv": self.graph.kv, "shape": asdict(self.graph.shape)}
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "graph": graph,
            "provenance": dict(self.provenance),
            "counts": self.counts,
            "edges": sorted(self.edges),
        }

    def save(
        self,
        path: str | Path,
        *,
        scores_file: str = "scores.safetensors",
        write_scores: bool = True,
    ) -> None:
        """Write the circuit to `path` (JSON), and any scores to `scores_file` beside it.

        write_scores: False if several circuits share a file of scores that already exists.
        """
        path, content = Path(path), self.to_json()
        if self.scores is not None:
            content["scores"] = scores_file
        if self.scores is not None and write_scores:
            files.write_tensors(path.with_name(scores_file), {"scores": self.scores.values})
        files.write_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Read a saved circuit. Raises ValueError for files that are truncated, in another or newer format, or have
        unknown edges.

        The JSON file alone is enough: without its file of scores, the circuit has none.
        """
        from edge_pruning.contents import CircuitContent

        path = Path(path)
        content = files.read_own(path, FORMAT, FORMAT_VERSION, CircuitContent)
        try:
            about = content["graph"]
            graph = Graph(ModelShape(**about["shape"]), about["embeddings"], about["kv"])
            mask = graph.mask(content["edges"])
            scores = scores_beside(path, content.get("scores"), graph)
            return cls(graph, mask, scores, Provenance(content["provenance"]))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
