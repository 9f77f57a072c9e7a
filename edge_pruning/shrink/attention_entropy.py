"""Attention entropy: the heads whose attention is spread most go first, and the positions that attention needs least.

Source: Mao and others, "Attention map guided transformer pruning for edge device", 2023. Let A be a head's attention
map, averaged over the training examples, and l the index of its layer among those that still have more than one head:

    H = mean_q sum_k -A[q, k] log2 A[q, k],            value = H (1 + .02 l)

The heads with the highest values go, an equal share of them in each of `rounds` rounds. Each round computes the values
anew; with `--finetune`, the model is also tuned between rounds. Heads that share keys and values go together, by their
mean value.

If `tokens` is below 1 (images only), the keys and values of some positions go as well. With L the loss of the answers,

    T[l, k] = sum over micro-batches of |sum over examples, heads and queries of A dL/dA|
    normalised per layer, times (1 - .03 l)

The positions with the lowest T of all layers go. Queries stay, and so do the class token's keys and values.

Differences from the paper: L and the loss of fine-tuning use no labels besides the task's answers. As in the authors'
code, T depends on which examples share a micro-batch. Cost: a forward pass per example and round; for positions, one
more forward and backward pass per example. It misleads where a head that looks everywhere gathers what the task needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.discovery.method import check_settings
from edge_pruning.metrics import surprise
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.method import Shrinker, shrinker
from edge_pruning.shrink.running import batches, present
from edge_pruning.shrink.selection import PartScores

HEADS_DEEPER, TOKENS_DEEPER = 0.02, 0.03  # per layer of depth: added to a head's factor, subtracted from a position's


@shrinker
@dataclass(frozen=True)
class AttentionEntropy(Shrinker):
    """Remove the heads whose attention is spread most; for images, also the positions whose attention matters least.

    rounds: heads go in this many rounds.
    tokens: the share of positions whose keys and values stay.
    """

    name: ClassVar[str] = "attention-entropy"
    summary: ClassVar[str] = "removes heads whose attention is spread most, in rounds; with tokens=0.6 also positions"

    one_run_ranks_all: ClassVar[bool] = False  # each round's share depends on the size
    tunes: ClassVar[bool] = True

    rounds: int = 4
    tokens: float = 1.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            {
                "rounds": (self.rounds >= 1, "at least 1"),
                "tokens": (0 < self.tokens <= 1, "above 0 and at most 1 (the share that stays)"),
            },
        )

    def score(self, job: Job) -> PartScores:
        if self.tokens < 1 and job.setup.engine.adapter.causal:
            raise ValueError(
                f"method {self.name!r}: expected tokens=1 for a model that reads text, got {self.tokens:g}: positions "
                "can be dropped only where all inputs have the same ones, as images do"
            )
        job.kept(PartScores(heads=torch.zeros(job.sizes.layers, job.sizes.groups)))  # refuses too small a share
        positions = kept_positions(token_importance(job), self.tokens) if self.tokens < 1 else None
        alive = torch.ones(job.sizes.layers, job.sizes.groups, dtype=torch.bool)
        for done in range(self.rounds):
            values = head_values(mean_entropy(job), alive)
            scores = PartScores(heads=-values.masked_fill(~alive, torch.inf), positions=positions)
            job.stage("attention maps", done + 1, self.rounds)
            if done + 1 < self.rounds:
                kept = job.kept(scores, 1 - (1 - job.keep) * (done + 1) / self.rounds)
                alive = kept.groups
                if job.tune is not None:
                    job.tune(kept, 0.5 / (self.rounds - 1))
        return scores


def head_values(entropy: Tensor, alive: Tensor) -> Tensor:
    """Entropies [layer, group] times the factor of the layer's place among those with more than one head left."""
    counted = alive.sum(1) > 1
    place = (counted.cumsum(0) - 1).clamp_min(0)
    return entropy * (1 + HEADS_DEEPER * place)[:, None]


def mean_entropy(job: Job) -> Tensor:
    """The entropy in bits of each head's mean attention map, averaged over queries and over a group, [layer, group]."""
    sizes = job.sizes
    longest = max(job.setup.engine.width(pair) for pair in job.pairs)
    total = torch.zeros(sizes.layers, sizes.heads, longest, longest)
    count = torch.zeros(longest)
    with attention_returned(job.hf), torch.no_grad():
        for batch in batches(job.setup.engine, job.pairs):
            there, p = present(batch).cpu(), batch.width
            for layer, attention in enumerate(attentions(job.hf, batch)[0]):
                total[layer, :, :p, :p] += torch.einsum("bhqk,bq->hqk", attention.cpu().float(), there.float())
            count[:p] += there.sum(0)
    maps = total / count[:, None].clamp_min(1)
    per_head = torch.special.entr(maps).sum(-1).mean(-1) / torch.tensor(2.0).log()
    return per_head.view(sizes.layers, sizes.groups, -1).mean(-1)


def token_importance(job: Job) -> Tensor:
    """T of each position, [layer, p]. The class token in column 0 has a value, but does not count for the norm."""
    sizes = job.sizes
    total = torch.zeros(sizes.layers, job.width)
    with attention_returned(job.hf):
        job.hf.requires_grad_(True)  # otherwise the maps have no gradient
        for batch in batches(job.setup.engine, job.pairs):
            maps, logits = attentions(job.hf, batch)
            slopes = torch.autograd.grad(surprise(logits, batch).sum(), maps)
            for layer, (attention, slope) in enumerate(zip(maps, slopes, strict=True)):
                by_position = (attention * slope).sum((0, 1, 2)).detach().cpu()
                total[layer] += by_position.abs() / (sizes.heads * job.width)
        job.hf.requires_grad_(False)
    normalised = total / total[:, 1:].norm(dim=1, keepdim=True).clamp_min(torch.finfo(total.dtype).tiny)
    return normalised * (1 - TOKENS_DEEPER * torch.arange(sizes.layers))[:, None]


def kept_positions(importance: Tensor, share: float) -> Tensor:
    """Bool [layer, p]: the class token, and the most important share of all other positions of all layers."""
    others = importance[:, 1:]
    n = round(share * others.numel())
    kept = torch.zeros(others.numel(), dtype=torch.bool)
    kept[others.flatten().topk(n).indices] = True
    return torch.cat([torch.ones(len(importance), 1, dtype=torch.bool), kept.view_as(others)], 1)


@contextmanager
def attention_returned(hf: Any) -> Iterator[None]:
    """A context in which transformers computes attention eagerly, because only then it returns attention maps."""
    before = hf.config._attn_implementation
    hf.set_attn_implementation("eager")
    try:
        yield
    finally:
        hf.set_attn_implementation(before)


def attentions(hf: Any, batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
    """Attention maps per layer [b, h, q, k], and logits at the compared positions [n, vocab]."""
    out = hf(batch.clean, output_attentions=True)
    logits = out.logits if out.logits.dim() == 3 else out.logits[:, None].expand(-1, batch.width, -1)
    return out.attentions, logits.flatten(0, 1)[batch.positions]
