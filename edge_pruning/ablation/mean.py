"""Mean ablation: a removed edge carries its writer's mean output on the task's prompts.

What all prompts of the task share stays, so the circuit only has to explain their differences. Unlike `patch`, it needs
no matching corrupted prompt. It misleads where a mean of activations is far from any activation of the model.

The mean is taken per position over prompts of the same length. A length with few prompts has no useful mean (with one
prompt, the ablated value would be the example's own) and uses the mean over all positions of all prompts. Cost: one
unmasked pass over the training pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.ablation.ablation import Ablation, ablation
from edge_pruning.ablation.prompts import Prompt, by_length, sequences_of
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import Writes
from edge_pruning.pair import Pair

ANY_LENGTH = 0


@ablation
@dataclass(frozen=True)
class Mean(Ablation):
    """The mean over the clean prompts of training pairs, per position where lengths agree, else over all positions.

    least: minimum number of pairs with a prompt of a length for a mean of its own.
    means: by length, [..., p, d], in the layout of the engine's stream.
    """

    name: ClassVar[str] = "mean"
    needs_pairs: ClassVar[bool] = True

    least: int = 8
    prompts: int = field(default=0, compare=False)
    means: Mapping[int, Writes] = field(default_factory=dict, compare=False, repr=False)
    engine: MaskedPass | None = field(default=None, compare=False, repr=False)

    @torch.no_grad()
    def fitted(self, engine: MaskedPass, pairs: Sequence[Pair]) -> Mean:
        groups = by_length(sequences_of(engine, pairs))
        behind = Counter(n for pair in pairs for n in {len(one) for one in sequences_of(engine, [pair])})
        sums = {length: _sum_over_prompts(engine, group) for length, group in groups.items()}
        means = {n: _each(sums[n], _divided_by(len(group))) for n, group in groups.items() if behind[n] >= self.least}
        positions = sum(length * len(group) for length, group in groups.items())
        total = _added([_each(value, lambda x: x.sum(-2, keepdim=True)) for value in sums.values()])
        means[ANY_LENGTH] = _each(total, _divided_by(positions))
        means = {n: _each(mean, lambda x: x.to(engine.dtype)) for n, mean in means.items()}
        return replace(self, prompts=len(pairs), means=means, engine=engine)

    @property
    def description(self) -> str:
        return (
            f"the mean over the clean prompts of {self.prompts:,} training pairs, per position among prompts of the "
            f"same length where there are at least {self.least}, else over all positions"
        )

    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        self._refuse_unfitted(self.means)
        self._refuse_another(engine)
        filled = engine.no_writes(batch)
        for b, length in enumerate(batch.lengths.tolist()):
            mean = self.means.get(length, self.means[ANY_LENGTH])
            for value, values in zip(mean.parts, filled.parts, strict=True):
                values[..., b, :length, :] = value
        return filled

    def _refuse_another(self, engine: MaskedPass) -> None:
        """Raise ValueError for another engine. Engines are equal if they run the same model in the same way."""
        one, other = ((type(e), id(e.adapter), e.dtype, e.graph.embeddings) for e in (self.engine, engine) if e)
        if one != other:
            raise ValueError(f"ablation {self.name!r} was fitted on another engine; fit it on this one")


def _sum_over_prompts(engine: MaskedPass, prompts: Sequence[Prompt]) -> Writes:
    """Sum the writes on prompts of one length over the prompts, in float32 or better: [..., p, d]."""
    sum_dtype = torch.promote_types(engine.dtype, torch.float32)
    at_once, summed = max(1, engine.tile_tokens // len(prompts[0])), []
    for first in range(0, len(prompts), at_once):
        tokens = torch.tensor(prompts[first : first + at_once], device=engine.adapter.device)
        summed.append(_each(engine.unmasked_run(tokens), lambda x: x.to(sum_dtype).sum(-3)))
    return _added(summed)


def _added(parts: Sequence[Writes]) -> Writes:
    return Writes(*(torch.stack(values).sum(0) for values in zip(*(part.parts for part in parts), strict=True)))


def _divided_by(n: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x / n


def _each(writes: Writes, change: Callable[[Tensor], Tensor]) -> Writes:
    return Writes(*map(change, writes.parts))
