"""Which weights a result came from: a fingerprint that changes when a model is trained further.

Cost: about 16 KB are read of each tensor, whatever its size. Of larger tensors evenly spaced values are taken, so a
change of a few single weights can stay unseen; training, merging or quantising a model changes them all over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

MOST_VALUES = 4096  # of each tensor
DIGITS = 16


@torch.no_grad()
def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of names, shapes, types and values; the order of the tensors does not matter."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        whole.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if not tensor.is_meta:
            whole.update(_sample(tensor).cpu().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:DIGITS]


def is_sampled(tensors: Iterable[tuple[str, Tensor]]) -> bool:
    """Whether some values have no part in the fingerprint."""
    return any(tensor.numel() > MOST_VALUES for _, tensor in tensors)


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    if flat.numel() <= MOST_VALUES:
        return flat.contiguous()
    places = torch.linspace(0, flat.numel() - 1, MOST_VALUES, dtype=torch.float64).long()
    return flat[places.to(flat.device)].contiguous()
