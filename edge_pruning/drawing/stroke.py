"""How an edge looks: its hue shows the kind of reader, its width and opacity show its strength.

The hues are those of Okabe and Ito, which people with the common colour deficiencies can tell apart; the place where an
edge enters a head shows the same. Strength is the rank of the score among the edges drawn, not its value: attribution
scores have such long tails that a scale of values would show a few thick lines and many faint ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit

INK, MUTED, FAINT, BAND = "#1f2933", "#66707c", "#cfd5dc", "#f4f6f8"
HUES = {"q": "#0072b2", "k": "#d55e00", "v": "#009e73", "mlp": "#7c838c", "logits": "#3a424d"}
GROUPS = {"both": "#3a424d", "first": "#0072b2", "second": "#e69f00"}  # where two circuits are compared
SHARED_OPACITY = 0.55  # of the bars of shared key-value heads, which are wide and would hide the edges
KINDS = {
    "q": "queries (left)",
    "k": "keys (middle)",
    "v": "values (right)",
    "mlp": "into an MLP",
    "logits": "into the logits",
}


@dataclass(frozen=True)
class DrawnEdge:
    """An edge as a picture shows it.

    score: in the circuit; None without scores.
    strength: from 0 (weakest edge drawn) to 1 (strongest).
    dangling: whether it is on no path from the input to the logits.
    group: in a comparison, which of the two circuits have it; the hue then shows this, not the kind of reader.
    """

    writer: str
    reader: str
    score: float | None
    strength: float
    dangling: bool
    group: str = ""

    @property
    def name(self) -> str:
        return f"{self.writer}->{self.reader}"

    @property
    def kind(self) -> str:
        if self.reader == "logits":
            return "logits"
        return self.reader[-2] if self.reader.endswith(">") else "mlp"

    @property
    def hue(self) -> str:
        return GROUPS[self.group] if self.group else HUES[self.kind]


def drawn_edges(circuit: Circuit, connected: Tensor) -> list[DrawnEdge]:
    """The circuit's edges, weakest first; `connected` is its mask [w, r] without dangling edges."""
    graph = circuit.graph
    pairs = circuit.mask.nonzero()
    scores = [None] * len(pairs) if circuit.scores is None else circuit.scores.values[circuit.mask].tolist()
    strengths = _ranks(scores)
    edges = [
        DrawnEdge(graph.writers[w], graph.readers[r], score, strength, not connected[w, r])
        for (w, r), score, strength in zip(pairs.tolist(), scores, strengths, strict=True)
    ]
    return sorted(edges, key=lambda edge: edge.strength)


def _ranks(scores: list[float | None]) -> list[float]:
    """Ranks from 0 to 1. Equal scores share their mean rank, so that they look alike."""
    values = torch.tensor([-math.inf if score is None or math.isnan(score) else score for score in scores])
    ordered = values.sort().values
    below, up_to = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    ranks: list[float] = ((below + up_to - 1) / 2 / max(len(scores) - 1, 1)).tolist()
    return ranks if len(scores) > 1 else [0.5] * len(scores)


def stroke(strength: float, edges: int) -> tuple[float, float]:
    """Width and opacity; the more edges a picture has, the finer its lines."""
    crowd = min(1.0, max(0.0, math.log10(max(edges, 1) / 20) / math.log10(20)))  # 0 at 20 edges, 1 at 400
    thin, thick = 1.2 - 0.6 * crowd, 4.2 - 1.8 * crowd
    faint, solid = 0.55 - 0.35 * crowd, 0.95 - 0.05 * crowd
    return thin + strength**1.5 * (thick - thin), faint + strength * (solid - faint)
