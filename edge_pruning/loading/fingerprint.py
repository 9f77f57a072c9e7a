"""A fingerprint of a model's weights, which changes when the model is trained further.

Cost: about 16 KB are read of each tensor. Larger tensors are sampled at even spacing, so changes of a few single
weights can go unnoticed; training, merging or quantising a model changes most weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

MOST_VALUES = 4096  # per tensor
DIGITS = 16


def sample_of(tensor: Tensor) -> Tensor | None:
    """Return the values of a tensor that the fingerprint is made of; None if it has none (device `meta`)."""
    if tensor.is_meta:
        return None
    flat = tensor.detach().reshape(-1)
    if flat.numel() <= MOST_VALUES:
        return flat.to("cpu", copy=True)
    places = torch.linspace(0, flat.numel() - 1, MOST_VALUES, dtype=torch.float64).long()
    return flat[places.to(flat.device)].cpu()


def fingerprint(
    tensors: Iterable[tuple[str, Tensor]], sample: Callable[[Tensor], Tensor | None] = sample_of
) -> str:
    """Hash names, shapes, types and values; the order of the tensors does not matter."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        whole.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = sample(tensor)
        if values is not None:
            whole.update(values.view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:DIGITS]


def is_sampled(tensors: Iterable[tuple[str, Tensor]]) -> bool:
    """Return whether some values are excluded from the fingerprint."""
    return any(tensor.numel() > MOST_VALUES for _, tensor in tensors)
