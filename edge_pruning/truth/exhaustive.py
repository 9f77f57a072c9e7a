"""Exhaustive ablation: remove edges that change no output, until every remaining edge does.

Each round tests every edge separately, and then removes all edges together whose removal keeps every output. If that
changes an output (because they substitute for each other), they are removed one at a time, the latest first. Cost: one
forward pass over all pairs per edge and round, so it is for small models or small circuits.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor

from edge_pruning.truth.outputs import Edge, Outputs, edges_of, without

TOGETHER = 16  # edges tried at once in a random order

def needed_edges(outputs: Outputs, mask: Tensor) -> Tensor:
    """Remove all edges that change no output from a circuit that keeps every output; bool [w, r].

    Raises ValueError if the circuit does not keep every output to begin with.
    """
    if not outputs.kept_by(mask):
        raise ValueError("this circuit does not keep every output of the model, so removals cannot be tested")
    while spare := list(outputs.spare(mask)):
        together = without(mask, spare)
        mask = together if outputs.kept_by(together) else _one_by_one(outputs, mask, reversed(spare))
    return mask


def needed_in_order(outputs: Outputs, mask: Tensor, seed: int) -> Tensor:
    """Remove edges in a random order, several at a time. Outputs with more than one cause give another circuit."""
    before = torch.zeros_like(mask)
    while not torch.equal(before, mask):
        before, order = mask, edges_of(mask)
        random.Random(f"{seed} {len(order)}").shuffle(order)
        for first in range(0, len(order), TOGETHER):
            some = order[first : first + TOGETHER]
            together = without(mask, some)
            mask = together if outputs.kept_by(together) else _one_by_one(outputs, mask, some)
    return mask


def _one_by_one(outputs: Outputs, mask: Tensor, edges: Iterable[Edge]) -> Tensor:
    for edge in edges:
        smaller = without(mask, [edge])
        if outputs.kept_by(smaller):
            mask = smaller
    return mask
