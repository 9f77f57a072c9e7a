"""Attention entropy: heads that look everywhere go first, and the positions that attention needs least.

(Mao and others, "Attention map guided transformer pruning for edge device", 2023.) With A the attention map of a head,
averaged over the training examples, and l the place of its layer among those that still have more than one head,

    H = mean_q sum_k -A[q, k] log2 A[q, k],            value = H (1 + .02 l)

and the heads with the highest values go. With `rounds`, an equal part of them goes in each round, the model is tuned in
between (with `--finetune`), and values are computed anew. Heads that share keys and values go together, by their mean.

`tokens` below 1: positions whose keys and values are dropped, for images only. With L the loss of the answers,

    T[l, k] = |mean over examples, heads and queries of A dL/dA|,      normalised per layer,  times (1 - .03 l)

and the lowest go, over all layers; queries stay, and the class token's key and value.

Differences from the paper: L and the loss of fine-tuning need no labels besides the task's answers. Cost: a forward
pass per example and round, and one backward pass for the positions. It misleads where a head that looks everywhere
gathers something that the task needs.
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

HEADS_DEEPER, TOKENS_DEEPER = 0.02, 0.03  # what a layer adds to the value of a head, and takes from that of a position


@shrinker
@dataclass(frozen=True)
class AttentionEntropy(Shrinker):
    """`rounds`: in how many parts heads go. tokens: the share of positions whose keys and values stay."""

    name: ClassVar[str] = "attention-entropy"
    summary: ClassVar[str] = "heads whose attention is spread most go, in rounds; with tokens=0.6 positions, too"

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
        job.kept(PartScores(heads=torch.zeros(job.sizes.layers, job.sizes.groups)))  # refuses a share that is too small
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
    """The entropy in bits of each head's mean attention map, mean over queries and over a group, [layer, group]."""
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
    """How much the loss depends on the attention to each position, [layer, p], before the class token is set apart."""
    sizes = job.sizes
    total = torch.zeros(sizes.layers, job.width)
    with attention_returned(job.hf):
        job.hf.requires_grad_(True)  # the maps are leaves of nothing otherwise
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
    """Let transformers compute attention in the way that has attention maps."""
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
