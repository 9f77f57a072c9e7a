"""The inputs of a program, with Tracr's own outputs: all inputs if they are few, else a seeded sample.

A program over three letters and up to four positions has 3 + 9 + 27 + 81 inputs, so "on all inputs" can be meant
literally. A sample has equally many inputs of each length; if a length has fewer, all of them.
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
    """Many inputs as tensors.

    tokens: ids [n, 1 + max_length], BOS in front, filled up with PAD on the right.
    logits: of Tracr's own forward pass [n, 1 + max_length, output].
    defined: bool [n, 1 + max_length], true where the program gives an answer (never at BOS).
    """

    tokens: Tensor
    logits: Tensor
    defined: Tensor

    @classmethod
    def stack(cls, program: Program, tokens: Sequence[Sequence[int]], logits: Sequence[Tensor],
              defined: Sequence[Sequence[bool]]) -> Inputs:
        """Build from one row per input; each row has its input's length."""
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
        """For each input: its token ids without PAD, Tracr's logits [p, output], and the positions with an answer."""
        lengths = (self.tokens != program.tokens.index(PAD)).sum(1).tolist()
        for tokens, logits, defined, length in zip(self.tokens, self.logits, self.defined, lengths, strict=True):
            yield tuple(tokens[:length].tolist()), logits[:length], defined.nonzero().flatten().tolist()


def input_space(vocabulary: Sequence[Value], max_length: int, most: int, seed: int) -> list[tuple[Value, ...]]:
    """All inputs of up to `max_length` values, shortest first; if they are more than `most`, a seeded sample."""
    sizes = [len(vocabulary) ** length for length in range(1, max_length + 1)]
    share = most if sum(sizes) <= most else max(1, most // max_length)
    inputs = []
    for length, size in enumerate(sizes, 1):
        rng = random.Random(f"{seed} {length}")  # a string seeds alike on every machine
        numbers = range(size) if size <= share else sorted(rng.sample(range(size), share))
        inputs += [_digits(number, vocabulary, length) for number in numbers]
    return inputs


def _digits(number: int, vocabulary: Sequence[Value], length: int) -> tuple[Value, ...]:
    """The digits of a number in a base whose digits are the vocabulary, the most significant first."""
    base = len(vocabulary)
    return tuple(vocabulary[number // base**place % base] for place in reversed(range(length)))
