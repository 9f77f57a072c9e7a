"""How close two runs are, and how well a run answers; every metric gives one number per example.

Logits are [n, vocab], one row per compared position of the batch (see `batch.Batch`). Where a pair has several compared
positions, its KL is their mean, and it counts as right only if every position is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edge_pruning.batch import Batch


def kl_divergence(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """KL(model || circuit) in nats, per example [b]; 0 is most faithful. Both are logits [n, vocab]."""
    reference = functional.log_softmax(model.float(), -1)
    per_position = functional.kl_div(
        functional.log_softmax(circuit.float(), -1), reference, reduction="none", log_target=True
    ).sum(-1)
    return _mean_per_example(per_position, batch)


def exact_match(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """1 where the circuit's most likely token is the model's at every compared position, else 0; per example [b]."""
    return _all_per_example(model.argmax(-1) == circuit.argmax(-1), batch)


def logit_difference(logits: Tensor, batch: Batch) -> Tensor:
    """Mean logit of the answers minus mean logit of the wrong answers, [b]; positive means right. NaN: no wrong answer."""
    return _difference(_mean_of(logits.float(), batch.answers), _mean_of(logits.float(), batch.wrong), batch)


def probability_difference(logits: Tensor, batch: Batch) -> Tensor:
    """Probability of the answers minus that of the wrong answers, [b], -1 to 1. NaN where there is no wrong answer."""
    probabilities = logits.float().softmax(-1)
    return _difference(_sum_of(probabilities, batch.answers), _sum_of(probabilities, batch.wrong), batch)


DIFFERENCES = {"logit_difference": logit_difference, "probability_difference": probability_difference}


def accuracy(logits: Tensor, batch: Batch, metric: str) -> Tensor:
    """1 where the answer beats the wrong answer by `metric`; without a wrong answer, where it is the most likely token."""
    difference = DIFFERENCES[metric](logits, batch)
    top = (logits.argmax(-1, keepdim=True) == batch.answers).any(-1)
    return torch.where(difference.isnan(), _all_per_example(top, batch), (difference > 0).float())


def _difference(right: Tensor, wrong: Tensor, batch: Batch) -> Tensor:
    """Averaged over the positions that have a wrong answer, [b]."""
    compared = (batch.wrong >= 0).any(-1).to(right.dtype)
    total = torch.zeros(batch.size, dtype=right.dtype, device=right.device)
    count = total.index_add(0, batch.example, compared)
    return total.index_add(0, batch.example, (right - wrong) * compared) / count.where(count > 0, torch.nan)


def _sum_of(values: Tensor, tokens: Tensor) -> Tensor:
    """Sum of values [n, vocab] over the listed tokens [n, any], -1 meaning none."""
    return (values.gather(-1, tokens.clamp_min(0)) * (tokens >= 0)).sum(-1)


def _mean_of(values: Tensor, tokens: Tensor) -> Tensor:
    return _sum_of(values, tokens) / (tokens >= 0).sum(-1).clamp_min(1)


def _mean_per_example(values: Tensor, batch: Batch) -> Tensor:
    zeros = torch.zeros(batch.size, dtype=values.dtype, device=values.device)
    count = zeros.index_add(0, batch.example, torch.ones_like(values))
    return zeros.index_add(0, batch.example, values) / count


def _all_per_example(hits: Tensor, batch: Batch) -> Tensor:
    misses = torch.zeros(batch.size, device=hits.device).index_add(0, batch.example, (~hits).float())
    return (misses == 0).float()
