"""Exhaustive ablation: take away every edge that changes no output, until each that is left does.

Each round asks for every edge by itself whether all outputs survive without it, and takes all of those away together;
if that changes an output (they were substitutes for each other), one by one, the latest first. Cost: one forward pass
over all pairs per edge and round, so it is for small models, or for small circuits.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor

from edge_pruning.truth.outputs import Edge, Outputs, edges_of, without

TOGETHER = 16  # edges tried at once in another order

def needed_edges(outputs: Outputs, mask: Tensor) -> Tensor:
    """What is left of a circuit that keeps every output when all that changes none is gone; bool [w, r].

    Raises ValueError if the circuit does not keep every output to begin with.
    """
    if not outputs.kept_by(mask):
        raise ValueError("this circuit does not keep every output of the model, so there is nothing to prune it by")
    while spare := list(outputs.spare(mask)):
        together = without(mask, spare)
        mask = together if outputs.kept_by(together) else _one_by_one(outputs, mask, reversed(spare))
    return mask


def needed_in_order(outputs: Outputs, mask: Tensor, seed: int) -> Tensor:
    """The same in a random order, some edges at a time: where outputs have more than one cause, another circuit."""
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
