"""Every input of a program, with what it should answer: the whole space where it is small, else a seeded sample.

A program over three letters and up to four positions has 3 + 9 + 27 + 81 inputs, so "on all inputs" can be meant
literally. Where there are more than were asked for, each length gets an equal share, the short ones all of theirs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_pruning.models.tracr.program import PAD, Program, Value


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs side by side: token ids [n, 1 + max_length] filled up with PAD, what Tracr itself says of them, and where.

    logits [n, 1 + max_length, output] are those of Tracr's own forward pass; defined [n, 1 + max_length] says where the
    program gives an answer (never at BOS).
    """

    tokens: Tensor
    logits: Tensor
    defined: Tensor

    @classmethod
    def stack(cls, program: Program, tokens: Sequence[Sequence[int]], logits: Sequence[Tensor],
              defined: Sequence[Sequence[bool]]) -> Inputs:
        """From one row per input, each of its own length."""
        n, width = len(tokens), program.max_length + 1
        ids = torch.full((n, width), program.tokens.index(PAD), dtype=torch.int32)
        outputs, where = torch.zeros(n, width, program.n_outputs), torch.zeros(n, width, dtype=torch.bool)
        for i, (row, its_logits, its_defined) in enumerate(zip(tokens, logits, defined, strict=True)):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int32)
            outputs[i, : len(row)] = its_logits
            where[i, : len(row)] = torch.tensor(its_defined)
        return cls(ids, outputs, where)

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, program: Program) -> Iterator[tuple[tuple[int, ...], Tensor, list[int]]]:
        """Per input: its token ids without filling, Tracr's logits [p, output], and the positions with an answer."""
        lengths = (self.tokens != program.tokens.index(PAD)).sum(1).tolist()
        for tokens, logits, defined, length in zip(self.tokens, self.logits, self.defined, lengths, strict=True):
            yield tuple(tokens[:length].tolist()), logits[:length], defined.nonzero().flatten().tolist()


def input_space(vocabulary: Sequence[Value], max_length: int, most: int, seed: int) -> list[tuple[Value, ...]]:
    """All inputs of up to `max_length` values, shortest first; if they are more than `most`, a seeded sample."""
    sizes = [len(vocabulary) ** length for length in range(1, max_length + 1)]
    share = most if sum(sizes) <= most else max(1, most // max_length)
    inputs = []
    for length, size in enumerate(sizes, 1):
        rng = random.Random(f"{seed} {length}")  # text seeds mean the same on every machine
        numbers = range(size) if size <= share else sorted(rng.sample(range(size), share))
        inputs += [_digits(number, vocabulary, length) for number in numbers]
    return inputs


def _digits(number: int, vocabulary: Sequence[Value], length: int) -> tuple[Value, ...]:
    """A number written in the vocabulary, the first value first."""
    base = len(vocabulary)
    return tuple(vocabulary[number // base**place % base] for place in reversed(range(length)))
