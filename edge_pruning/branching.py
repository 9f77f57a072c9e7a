"""The metrics of pairs whose answers form a tree (`answer_tree.py`): one number per pair [b], as in `metrics.py`.

`log_p` are log probabilities of all tokens at every node, [n, vocab]. Everything is exact under the chain rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_pruning.answer_tree import TreeIndex
from edge_pruning.batch import Batch


def kl(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """Return KL(model || circuit) over the places where continuations leave the tree, in nats, [b].

    model: its log probabilities [n, vocab]. circuit: the KL at each node, [n].
    """
    return _sum_per_pair(tree_of(batch).log_reach(model).exp() * circuit, batch)


def log_probabilities(log_p: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the log of the total probability of the answers, and of the wrong answers, each [b]; minus infinity
    without any.
    """
    right, wrong = (_log_sum_per_pair(*_completed(log_p, batch, tokens), batch) for tokens in _both(batch))
    return right, wrong


def surprise(log_p: Tensor, batch: Batch) -> Tensor:
    """Return minus the log of the answers' total probability, in nats, [b]."""
    return -log_probabilities(log_p, batch)[0]


def logit_difference(log_p: Tensor, batch: Batch) -> Tensor:
    """Return the mean log probability of an answer minus that of a wrong one, [b]; NaN without a wrong answer.

    For answers of one token that is the mean logit of the answers minus that of the wrong answers.
    """
    means, counts = [], []
    for tokens in _both(batch):
        values, there = _completed(log_p, batch, tokens)
        counts.append(_sum_per_pair(there.sum(-1).to(values.dtype), batch))
        means.append(_sum_per_pair((values * there).sum(-1), batch) / counts[-1].clamp_min(1))
    return (means[0] - means[1]).where(counts[1] > 0, torch.nan)


def probability_difference(log_p: Tensor, batch: Batch) -> Tensor:
    """Return the total probability of the answers minus that of the wrong answers, [b]; NaN without a wrong answer."""
    totals = []
    for tokens in _both(batch):
        values, there = _completed(log_p, batch, tokens)
        totals.append(_sum_per_pair((values.exp() * there).sum(-1), batch))
    return (totals[0] - totals[1]).where(_has_wrong(batch), torch.nan)


def greedy(logits: Tensor, batch: Batch) -> Tensor:
    """Return 1 if the greedy continuation of the prompt begins with an answer, else 0; [b]."""
    best = logits.argmax(-1)
    completed = (best[:, None] == batch.answers).any(-1) & tree_of(batch).on_greedy_path(best)
    return (_sum_per_pair(completed.float(), batch) > 0).float()


def accuracy(logits: Tensor, difference: Tensor, batch: Batch) -> Tensor:
    """Return 1 if the difference [b] is positive, or without wrong answers if the greedy continuation is right; [b]."""
    return torch.where(_has_wrong(batch), (difference > 0).float(), greedy(logits, batch))


def exact_match(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
    """Return 1 if both have the same most likely token at every node of the model's greedy continuation; [b]."""
    best = model.argmax(-1)
    misses = (best != circuit.argmax(-1)) & tree_of(batch).on_greedy_path(best)
    return (_sum_per_pair(misses.float(), batch) == 0).float()


def tree_of(batch: Batch) -> TreeIndex:
    assert batch.tree is not None
    return batch.tree


def _both(batch: Batch) -> tuple[Tensor, Tensor]:
    return batch.answers, batch.wrong


def _completed(log_p: Tensor, batch: Batch, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of whole answers, and where there are any; both [n, any], by the node before their last token.
    """
    there = tokens >= 0
    return tree_of(batch).log_reach(log_p)[:, None] + log_p.gather(-1, tokens.clamp_min(0)), there


def _has_wrong(batch: Batch) -> Tensor:
    return _sum_per_pair((batch.wrong >= 0).any(-1).float(), batch) > 0


def _sum_per_pair(values: Tensor, batch: Batch) -> Tensor:
    """Sum of values [n] over the nodes of each pair, [b]."""
    return torch.zeros(batch.size, dtype=values.dtype, device=values.device).index_add(0, batch.example, values)


def _log_sum_per_pair(values: Tensor, there: Tensor, batch: Batch) -> Tensor:
    """Log of the sum of exp(values) [n, any] over each pair, [b]; minus infinity without any, with a gradient of 0."""
    values = values.masked_fill(~there, -torch.inf)
    of_node = values.detach().amax(-1) if values.shape[1] else values.new_full(values.shape[:1], -torch.inf)
    lowest = of_node.new_full((batch.size,), torch.finfo(values.dtype).min)
    largest = lowest.scatter_reduce(0, batch.example, of_node, "amax")
    total = _sum_per_pair((values - largest[batch.example, None]).exp().sum(-1), batch)
    return torch.where(total > 0, total.clamp_min(torch.finfo(total.dtype).tiny).log() + largest, -torch.inf)
