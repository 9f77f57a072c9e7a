"""Fine-tuning: a smaller model learns to predict what the original predicts, on the task's training examples.

The loss is KL(original || smaller) at the compared positions; no labels are used. The loop is AdamW with clipped
gradients; the learning rate warms up, then falls along half a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.discovery.search import Diverged
from edge_pruning.metrics import kl_divergence
from edge_pruning.shrink.running import outputs

WARM_UP = 0.1  # of the steps
LARGEST_GRADIENT = 1.0


def finetune(
    hf: Any,
    target_of: Callable[[Batch], Tensor],
    batch_of: Callable[[int], Batch],
    *,
    steps: int,
    learning_rate: float,
    after_step: Callable[[], object] | None = None,
    stage: Callable[[str, int, int], object] | None = None,
) -> None:
    """Train all weights of a model in place. Raises Diverged if the loss is not finite.

    target_of: the original's logits [n, vocab] for a batch.
    batch_of: the batch of a step.
    after_step: called after each change of the weights, for example to set removed weights back to 0.
    stage: called with what is being done, the steps done, and all steps.
    """
    hf.requires_grad_(True)
    optimizer = torch.optim.AdamW(hf.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    for step in range(steps):
        batch = batch_of(step)
        loss = kl_divergence(target_of(batch), outputs(hf, batch), batch).mean()
        if not loss.isfinite():
            raise Diverged(f"the loss is not finite at step {step + 1} of fine-tuning; try a lower --learning-rate")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(hf.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        if after_step is not None:
            after_step()
        if stage is not None:
            stage("fine-tuning", step + 1, steps)
    hf.requires_grad_(False)


def rate(step: int, steps: int) -> float:
    """The factor of the learning rate: it rises linearly to 1, then falls to 0 along half a cosine."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
