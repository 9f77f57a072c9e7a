"""Metrics: how close two runs are, and how well a run answers. Each returns one number per example.

Logits are [n, vocab], one row per compared position of the batch (see `batch.Batch`). If a pair has several compared
positions, its KL is their mean, and the pair counts as right only if every position is right. If its answers form a
tree (`answer_tree.py`), whole answers are judged instead (`branching.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edge_pruning import branching
from edge_pruning.batch import Batch

CLOSE = 0.01  # largest difference of numbers that count as equal


def kl_divergence(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """Return KL(model || circuit) in nats, per example [b]; 0 is most faithful. Both are logits [n, vocab]."""
    return kl_from(log_probabilities(model), circuit, batch)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return the log probabilities of all tokens, [n, vocab], in float32 or float64."""
    return functional.log_softmax(_at_least_float32(logits), -1)


def kl_from(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """Compute `kl_divergence` from the model's log probabilities, so that several circuits can share them."""
    per_position = functional.kl_div(log_probabilities(circuit), model, reduction="none", log_target=True).sum(-1)
    if batch.tree is not None:
        return branching.kl(model, per_position, batch)
    return mean_per_example(per_position, batch)


def squared_error(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """Return the squared distance of the outputs, averaged over their entries, per example [b]; 0 is most faithful.

    For models whose outputs are numbers rather than logits, where a softmax would hide an error shared by all of them.
    """
    return mean_per_example((_at_least_float32(model) - _at_least_float32(circuit)).square().mean(-1), batch)


def surprise(logits: Tensor, batch: Batch) -> Tensor:
    """Return minus the log probability of a right answer, in nats, per example [b]; lower is better."""
    if batch.tree is not None:
        return branching.surprise(log_probabilities(logits), batch)
    log_p = functional.log_softmax(_at_least_float32(logits), -1).gather(-1, batch.answers.clamp_min(0))
    return mean_per_example(-log_p.masked_fill(batch.answers < 0, -torch.inf).logsumexp(-1), batch)


def exact_match(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """Return 1 if circuit and model have the same most likely token at every compared position, else 0; per example
    [b].

    If the output is one number, it matches if both numbers are equal up to `CLOSE`.
    """
    if batch.tree is not None:
        return branching.exact_match(model, circuit, batch)
    if model.shape[-1] == 1:
        return _all_per_example(((model - circuit).abs() <= CLOSE).squeeze(-1), batch)
    return _all_per_example(model.argmax(-1) == circuit.argmax(-1), batch)


def logit_difference(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean logit of the answers minus that of the wrong answers, [b]; positive is right. NaN: no wrong
    answer.
    """
    if batch.tree is not None:
        return branching.logit_difference(log_probabilities(logits), batch)
    return _mean_where_compared(_logit_margin(logits, batch), batch)


def probability_difference(logits: Tensor, batch: Batch) -> Tensor:
    """Return the probability of the answers minus that of the wrong answers, [b], -1 to 1. NaN: no wrong answer."""
    if batch.tree is not None:
        return branching.probability_difference(log_probabilities(logits), batch)
    return _mean_where_compared(_probability_margin(logits, batch), batch)


def total_probabilities(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the total probabilities of the answers and of the wrong answers of pairs whose answers form trees, each
    [b].
    """
    right, wrong = branching.log_probabilities(log_probabilities(logits), batch)
    return right.exp(), wrong.exp()


DIFFERENCES = {"logit_difference": logit_difference, "probability_difference": probability_difference}


def accuracy(logits: Tensor, batch: Batch, metric: str) -> Tensor:
    """Return 1 if the answers beat the wrong answers by `metric` at every position that has wrong answers, else 0; [b].

    A pair without wrong answers counts as right if an answer is the most likely token at every position. NaN if the
    batch has no answers because its outputs are numbers.
    """
    if batch.tree is not None:
        difference = probability_difference if metric == "probability_difference" else logit_difference
        return branching.accuracy(logits, difference(logits, batch), batch)
    compared = _compared(batch)
    beaten = _all_per_example((MARGINS[metric](logits, batch) > 0) | ~compared, batch)
    top = (logits.argmax(-1, keepdim=True) == batch.answers).any(-1)
    right = torch.where(_all_per_example(~compared, batch) > 0, _all_per_example(top, batch), beaten)
    return right if batch.answers.numel() else torch.full_like(right, torch.nan)


def _logit_margin(logits: Tensor, batch: Batch) -> Tensor:
    """Mean logit of the answers minus that of the wrong answers, [n]; undefined at positions without wrong answers."""
    return _mean_of(_at_least_float32(logits), batch.answers) - _mean_of(_at_least_float32(logits), batch.wrong)


def _probability_margin(logits: Tensor, batch: Batch) -> Tensor:
    probabilities = _at_least_float32(logits).softmax(-1)
    return _sum_of(probabilities, batch.answers) - _sum_of(probabilities, batch.wrong)


MARGINS = {"logit_difference": _logit_margin, "probability_difference": _probability_margin}


def _compared(batch: Batch) -> Tensor:
    """True at the positions that have a wrong answer, bool [n]."""
    return (batch.wrong >= 0).any(-1)


def _at_least_float32(logits: Tensor) -> Tensor:
    """Convert half-precision logits to float32: their differences would be too coarse."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _mean_where_compared(margins: Tensor, batch: Batch) -> Tensor:
    """Mean over the positions that have a wrong answer, [b]; NaN if an example has none."""
    compared = _compared(batch).to(margins.dtype)
    total = torch.zeros(batch.size, dtype=margins.dtype, device=margins.device)
    count = total.index_add(0, batch.example, compared)
    mean = total.index_add(0, batch.example, margins * compared) / count.clamp_min(1)
    return mean.where(count > 0, torch.nan)  # at the end: a division by NaN has a gradient of NaN


def _sum_of(values: Tensor, tokens: Tensor) -> Tensor:
    """Sum values [n, vocab] over the listed tokens [n, any]; -1 is padding."""
    return (values.gather(-1, tokens.clamp_min(0)) * (tokens >= 0)).sum(-1)


def _mean_of(values: Tensor, tokens: Tensor) -> Tensor:
    return _sum_of(values, tokens) / (tokens >= 0).sum(-1).clamp_min(1)


def mean_per_example(values: Tensor, batch: Batch) -> Tensor:
    """Mean of values [n] over the compared positions of each example, [b]."""
    zeros = torch.zeros(batch.size, dtype=values.dtype, device=values.device)
    count = zeros.index_add(0, batch.example, torch.ones_like(values))
    return zeros.index_add(0, batch.example, values) / count


def _all_per_example(hits: Tensor, batch: Batch) -> Tensor:
    misses = torch.zeros(batch.size, device=hits.device).index_add(0, batch.example, (~hits).float())
    return (misses == 0).float()
