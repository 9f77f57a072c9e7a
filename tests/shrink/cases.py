"""What the tests of shrinking share: small random models, what stays of them, and examples to run."""

from __future__ import annotations

from typing import Any

import torch
from random_models import config_of, random_model
from torch import Tensor

from edge_pruning.models import Adapter
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import Layout


def model(kind: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Adapter:
    return random_model(config_of(kind, **changes), dtype)


def inputs(adapter: Adapter) -> Tensor:
    """Two examples, as the Hugging Face model takes them."""
    pairs = adapter.sample(0)
    return torch.stack([torch.as_tensor(pair.clean) for pair in pairs])


@torch.no_grad()
def logits(hf: Any, x: Tensor) -> Tensor:
    return hf(x).logits


def some_kept(hf: Any, seed: int = 0) -> Kept:
    """Random numbers of each layer, differently many."""
    whole, generator = Kept.all(Layout(hf).sizes), torch.Generator().manual_seed(seed)
    names = ("attention_inputs", "channels", "mlp_inputs", "units")
    masks = (torch.rand(getattr(whole, name).shape, generator=generator) < 0.7 for name in names)
    return Kept(*masks)


def without(hf: Any, heads: dict[int, list[int]], units: dict[int, list[int]]) -> Kept:
    """All but these groups of heads and units, by layer."""
    kept = Kept.all(Layout(hf).sizes)
    for layer, gone in heads.items():
        kept.channels[layer, gone] = False
    for layer, gone in units.items():
        kept.units[layer, gone] = False
    return kept
