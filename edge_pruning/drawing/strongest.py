"""Which edges of a large circuit are drawn: the strongest, because nobody can follow thousands of lines.

This also bounds the time for a picture, about 3 ms per edge, because each edge's curve is chosen among dozens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores

MOST_EDGES = 1_000


def strongest(circuit: Circuit, most: int = MOST_EDGES) -> tuple[Circuit, list[str]]:
    """The circuit's strongest `most` edges, and a sentence for the caption if edges were left out.

    If fewer than `most` edges have scores, the edges are an even sample in graph order, so that every layer has its
    share.
    """
    if len(circuit) <= most:
        return circuit, []
    scores = None if circuit.scores is None else circuit.scores.values.masked_fill(~circuit.mask, -torch.inf)
    ranked = scores is not None and int((scores > -torch.inf).count_nonzero()) >= most
    mask = EdgeScores(circuit.graph, scores).top(most) if scores is not None and ranked else _sample(circuit.mask, most)
    which = f"the strongest {most:,} of" if ranked else f"a sample of {most:,} of"
    return Circuit(circuit.graph, mask, circuit.scores, circuit.provenance), [
        f"Shown are {which} {len(circuit):,} edges; a node whose edges are not among them is a dot."
    ]


def ranks(circuit: Circuit) -> Tensor:
    """The rank of each edge's score in its circuit, from above 0 (weakest) to 1, or 0.5 without scores; [w, r].

    Edges outside the circuit have rank 0.
    """
    values = circuit.mask.float() / 2
    if circuit.scores is not None:
        order = circuit.scores.values[circuit.mask].argsort(stable=True).argsort()
        values[circuit.mask] = (order + 1).float() / max(len(order), 1)
    return values


def _sample(mask: Tensor, most: int) -> Tensor:
    places = mask.flatten().nonzero().flatten()
    chosen = places[torch.arange(most) * len(places) // most]
    return torch.zeros(mask.numel(), dtype=torch.bool).index_fill_(0, chosen, True).view_as(mask)
