"""Running a masked pass in a test, and comparing what comes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass


def weights(logits: Tensor) -> Tensor:
    """What a test's loss gives every logit, so that each of them matters."""
    return torch.randn(logits.shape, generator=torch.Generator().manual_seed(9)).to(logits)


def logits_and_gradient(run: Any, mask: Tensor) -> tuple[Tensor, Tensor]:
    leaf = mask.clone().requires_grad_()
    logits = run(leaf)
    (logits * weights(logits)).sum().backward()
    assert leaf.grad is not None
    return logits.detach(), leaf.grad


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def runner(engine: MaskedPass, batch: Batch) -> Any:
    frozen = Patch().freeze(engine, batch)
    return lambda mask: engine.logits(mask, batch, frozen)
