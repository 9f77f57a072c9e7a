"""Compare a circuit with the truth: hits, missed and extra edges, and how well scores rank the true edges.

    precision = hits / found       recall = hits / true       exact: both are 1

The area under the ROC curve depends on the scores alone, whatever the size: it is the probability that a true edge
scores higher than another one, with ties counted half; 0.5 is chance. Random scores, cut to the same size, are the
baseline. Edges without a score rank last. A node counts as found if any of its edges is, and has the score of the best
of them. It misleads where a program has several minimal circuits (`Truth.other_sizes`): an inexact circuit may then be
just as true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.graph import Graph
from edge_pruning.truth.truth import Truth

RANDOM = 200  # draws of random scores
DEFINITION = "an edge is true if removing it changes an output after all edges that change no output have been removed"


@dataclass(frozen=True)
class Recovered:
    """The recovery of the true edges (or nodes): names of hits, missed and extra ones.

    n_true: number of true ones. Shares and areas are None if undefined.
    roc: false and true positive rates.
    random: the same numbers for random scores, cut to the same number of edges.
    """

    n_true: int
    hits: tuple[str, ...]
    missed: tuple[str, ...]
    extra: tuple[str, ...]
    exact: bool
    precision: float | None
    recall: float | None
    auc: float | None
    roc: Mapping[str, Sequence[float]] | None
    random: Mapping[str, Any]

    def to_json(self, what: str = "edges") -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        content = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {f"true_{what}": content.pop("n_true"), **content}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], what: str = "edges") -> Recovered:
        known = {f.name: content[f.name] for f in fields(cls) if f.name != "n_true"}
        known |= {name: tuple(known[name]) for name in ("hits", "missed", "extra")}
        return cls(n_true=content[f"true_{what}"], **known)


@dataclass(frozen=True)
class TruthComparison:
    """A comparison of a circuit with the true one, by edges, by nodes, and with the truth from the weights alone.

    ablation, convention: those of the truth.
    same_data: whether the truth was found on the same pairs.
    other_minimal_circuits: sizes of other circuits that keep every output.
    """

    edges: Recovered
    nodes: Recovered
    by_weights: Recovered
    ablation: str
    convention: str
    same_data: bool
    other_minimal_circuits: tuple[int, ...]

    @property
    def true_names(self) -> tuple[str, ...]:
        """The names of the true edges."""
        return (*self.edges.hits, *self.edges.missed)

    def __getitem__(self, name: str) -> Any:
        return self.to_json()[name]

    def to_json(self) -> dict[str, Any]:
        return {
            "ablation": self.ablation,
            "convention": self.convention,
            "definition": DEFINITION,
            "same_data": self.same_data,
            "other_minimal_circuits": list(self.other_minimal_circuits),
            **self.edges.to_json(),
            "nodes": self.nodes.to_json("nodes"),
            "by_weights": self.by_weights.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TruthComparison:
        return cls(
            Recovered.from_json(content), Recovered.from_json(content["nodes"], "nodes"),
            Recovered.from_json(content["by_weights"]), content["ablation"], content["convention"],
            content["same_data"], tuple(content["other_minimal_circuits"]),
        )


@dataclass(frozen=True, eq=False)
class Recovery:
    """The circuit and the truth, by name, as bool tensors. `scores` belong to `names`, if there are any."""

    names: Sequence[str]
    predicted: Tensor
    true: Tensor
    scores: Tensor | None
    seed: int = 0

    def named(self, chosen: Tensor) -> list[str]:
        return [name for name, yes in zip(self.names, chosen.tolist(), strict=True) if yes]

    @property
    def exact(self) -> bool:
        return bool((self.predicted == self.true).all())

    @property
    def result(self) -> Recovered:
        hits, kept, true = (int(kind.sum()) for kind in (self.predicted & self.true, self.predicted, self.true))
        return Recovered(
            n_true=true,
            hits=tuple(self.named(self.predicted & self.true)),
            missed=tuple(self.named(self.true & ~self.predicted)),
            extra=tuple(self.named(self.predicted & ~self.true)),
            exact=self.exact,
            precision=hits / kept if kept else None,
            recall=hits / true if true else None,
            auc=None if self.scores is None else area(self.true, self.scores),
            roc=None if self.scores is None else roc(self.true, self.scores),
            random=self.of_random_scores(),
        )

    def of_random_scores(self) -> dict[str, Any]:
        """Return the mean area of random scores, and their mean number of hits at the same size."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.stack([torch.rand(len(self.true), generator=generator) for _ in range(RANDOM)])  # [draw, edge]
        under = areas(self.true, drawn)
        kept, true = int(self.predicted.sum()), int(self.true.sum())
        hits = self.true[drawn.argsort(dim=-1, descending=True)[:, :kept]].sum(-1).double()
        return {
            "draws": RANDOM,
            "auc": None if under is None else float(under.mean()),
            "auc_spread": None if under is None else float(under.std()),
            "hits": float(hits.mean()),
            "exact": float((hits == true).double().mean()) if kept == true else 0.0,
        }


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A comparison of a circuit and the truth by edges, by nodes, and with the truth from the weights alone."""

    truth: Truth
    edges: Recovery
    nodes: Recovery
    by_weights: Recovery
    same_data: bool

    @classmethod
    def of(cls, circuit: Circuit, truth: Truth, data_hash: str, *, seed: int = 0) -> GroundTruth:
        """Compare a circuit with a truth. Raises ValueError if the truth is that of another graph."""
        graph = circuit.graph
        if graph != truth.graph:
            raise ValueError(
                f"the circuit and the truth belong to different graphs: {graph.shape} ({graph.convention}) and "
                f"{truth.graph.shape} ({truth.graph.convention})"
            )
        names, every = graph.names(graph.edge_mask), graph.edge_mask
        scores = None if circuit.scores is None else circuit.scores.values[every]
        edges, real = (
            Recovery(names, circuit.mask[every], true[every], scores, seed)
            for true in (truth.by_ablation, truth.by_weights)
        )
        return cls(truth, edges, _nodes(circuit, truth, seed), real, truth.data_hash == data_hash)

    @property
    def result(self) -> TruthComparison:
        truth = self.truth
        return TruthComparison(
            self.edges.result, self.nodes.result, self.by_weights.result, truth.ablation, truth.graph.convention,
            self.same_data, truth.other_sizes,
        )

    def to_json(self) -> dict[str, Any]:
        return self.result.to_json()


def roc(true: Tensor, scores: Tensor) -> dict[str, list[float]] | None:
    """Return false and true positive rates from the highest score down; None if all or none are true."""
    if bool(true.all()) or not bool(true.any()):
        return None
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(true.numpy(), _ranks(scores).numpy())
    return {"false_positive_rate": false_rate.tolist(), "true_positive_rate": true_rate.tolist()}


def area(true: Tensor, scores: Tensor) -> float | None:
    """Return the area under the ROC curve of scores [n]; None if all or none are true."""
    found = areas(true, scores[None])
    return None if found is None else float(found[0])


def areas(true: Tensor, scores: Tensor) -> Tensor | None:
    """Return the areas under the ROC curves of several scores [k, n] for the same true edges [n]; None if all or none
    are true.

    Computed from ranks as the Mann-Whitney statistic: tied scores share the mean of their ranks.
    """
    n, total = int(true.sum()), len(true)
    if n in (0, total):
        return None
    least = n * (n + 1) / 2  # the sum of the true edges' ranks if all of them are below the others
    return (_ranks(scores)[..., true].sum(-1) - least) / (n * (total - n))


def _ranks(scores: Tensor) -> Tensor:
    """Return ranks along the last dimension, from 1 for the lowest score; entries without a score rank last."""
    from scipy.stats import rankdata

    return torch.from_numpy(rankdata(scores.where(scores.isfinite(), -torch.inf).numpy(), axis=-1))


def _nodes(circuit: Circuit, truth: Truth, seed: int) -> Recovery:
    graph, true = circuit.graph, Circuit(circuit.graph, truth.by_ablation)
    names = [*graph.writers, "logits"]
    kept, needed = circuit.nodes, true.nodes
    in_circuit = torch.tensor([name in kept for name in names])
    wanted = torch.tensor([name in needed for name in names])
    scores = None if circuit.scores is None else _best_of_edges(graph, circuit.scores.values)
    return Recovery(names, in_circuit, wanted, scores, seed)


def _best_of_edges(graph: Graph, scores: Tensor) -> Tensor:
    """Return, for every writer and `logits`, the best score of an edge into or out of it."""
    outside = scores.masked_fill(~graph.edge_mask, -torch.inf)
    out_of = outside.max(1).values
    into = torch.where(graph.feeds, outside.max(0).values[:, None], -torch.inf).max(0).values
    return torch.cat([torch.maximum(out_of, into), outside[:, -1:].max(0).values])
