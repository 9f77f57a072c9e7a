"""Resample ablation: a removed edge carries its writer's output on another prompt of the task, drawn at random.

This is harder than `patch`, whose corrupted prompt differs in one fact: another prompt differs in all of them, so the
circuit must carry everything that matters. The value is plausible, unlike a zero or a mean (Chan and others, "Causal
scrubbing", 2022). It is noisy, with one draw per pair, so use many pairs or several seeds.

The other prompt of a pair is a function of the seed and of the pair's tokens. The frozen values can therefore be
cached, and a resumed run has the same bits. Cost: that of `patch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch

from edge_pruning.ablation.ablation import Ablation, ablation
from edge_pruning.ablation.prompts import Prompt, by_length, prompts_of
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import Writes
from edge_pruning.pair import Pair


@ablation
@dataclass(frozen=True)
class Resample(Ablation):
    """The value on the clean prompt of another training pair, drawn at random, of the same length if there is one.

    If there is none, both prompts end at the same position, and the beginning of a shorter one is repeated. If the
    answers of a pair form a tree, its one other prompt is followed by each branch.
    """

    name: ClassVar[str] = "resample"
    needs_pairs: ClassVar[bool] = True

    seed: int = 0
    donors: tuple[Prompt, ...] = field(default=(), compare=False, repr=False)

    def fitted(self, engine: MaskedPass, pairs: Sequence[Pair]) -> Resample:
        donors = prompts_of(engine, pairs)
        different = len(set(donors))
        if different < 2:
            raise ValueError(
                f"ablation {self.name!r} draws another training prompt for each pair, so it needs at least 2 that "
                f"differ, got {different}; give more training pairs or choose another ablation"
            )
        return replace(self, donors=donors)

    @property
    def description(self) -> str:
        return (
            f"its value on the clean prompt of another of {len(self.donors):,} training pairs, drawn at random once "
            f"for each pair (seed {self.seed})"
        )

    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        self._refuse_unfitted(self.donors)
        filled, lengths = engine.no_writes(batch), batch.lengths.tolist()
        drawn = [self._partner(tokens[:n], end) for tokens, n, end in
                 zip(batch.clean.tolist(), lengths, _ends_of_prompts(batch, lengths), strict=True)]
        for length, donors in by_length(drawn).items():
            given = engine.unmasked_run(torch.tensor(donors, device=batch.clean.device))
            takers = [b for b, donor in enumerate(drawn) if len(donor) == length]
            for i, b in enumerate(takers):
                places = torch.arange(length - lengths[b], length, device=batch.clean.device).clamp_min(0)
                for value, values in zip(given.parts, filled.parts, strict=True):
                    values[..., b, : lengths[b], :] = value[..., i, places, :]
        return filled

    @cached_property
    def _by_length(self) -> dict[int, list[Prompt]]:
        return by_length(self.donors)

    def _partner(self, tokens: list[int], end: int) -> Prompt:
        """Return another prompt in place of the first `end` tokens, followed by all others."""
        return self._donor(tuple(tokens[:end])) + tuple(tokens[end:])

    def _donor(self, prompt: Prompt) -> Prompt:
        """Return another prompt, as a function of the seed and this prompt alone."""
        first = int.from_bytes(hashlib.sha256(f"{self.seed} {prompt}".encode()).digest()[:8])
        for others in (self._by_length.get(len(prompt), []), self.donors):
            for i in range(len(others)):
                if (other := others[(first + i) % len(others)]) != prompt:
                    return other
        raise AssertionError("the donors contain at least two different prompts")


def _ends_of_prompts(batch: Batch, lengths: list[int]) -> list[int]:
    """Return the length of each sequence without its branch."""
    if batch.tree is None:
        return lengths
    return [n - branch for n, branch in zip(lengths, batch.tree.branch_lengths.tolist(), strict=True)]
