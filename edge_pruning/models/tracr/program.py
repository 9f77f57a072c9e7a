"""What a compiled RASP program is, beside its weights: its alphabet, its outputs and the sizes of its transformer.

RASP (Weiss and others, 2021) is a language of sequence operations that a transformer can do: `Select` is an attention
pattern, `Aggregate` an attention head, `Map` an MLP. Tracr (Lindner and others, 2023) compiles a program into weights.
Every dimension of the residual stream then has a name: `tokens:a` is 1 where the token is "a", `one` is 1 everywhere.
A categorical output is the largest of the output dimensions, one per value; a numerical one is a single dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from edge_pruning.graph import ModelShape

Value = str | int | float | bool | tuple["Value", ...]
BOS, PAD = "compiler_bos", "compiler_pad"
LISTED = 20  # problems spelled out in one message


@dataclass(frozen=True)
class Program:
    """name: of the program. vocabulary: what an input consists of; max_length: the longest input, without BOS.

    tokens: the input basis in the order of token ids, BOS and PAD included. outputs: the output basis in the order of
    the logits; None where the output is a number. residual: the name of every dimension of the residual stream.
    """

    model_type: ClassVar[str] = "tracr"

    name: str
    vocabulary: tuple[Value, ...]
    max_length: int
    tokens: tuple[Value, ...]
    outputs: tuple[Value, ...] | None
    residual: tuple[str, ...]
    layers: int
    heads: int
    key_size: int
    hidden: int

    @property
    def categorical(self) -> bool:
        return self.outputs is not None

    @property
    def n_outputs(self) -> int:
        return 1 if self.outputs is None else len(self.outputs)

    @property
    def shape(self) -> ModelShape:
        return ModelShape(self.layers, self.heads)

    def encode(self, inputs: Sequence[Sequence[Value]]) -> list[tuple[int, ...]]:
        """Token ids of inputs, BOS in front. Raises ValueError that lists every input that the program cannot take."""
        problems = [f"{list(values)}: {problem}" for values in inputs if (problem := self._problem(values))]
        if problems:
            more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
            raise ValueError(
                f"program {self.name!r} takes 1 to {self.max_length} values out of {list(self.vocabulary)}; "
                f"{len(problems)} of {len(inputs)} inputs are others: {'; '.join(problems[:LISTED])}{more}"
            )
        ids = {value: i for i, value in enumerate(self.tokens)}
        return [(ids[BOS], *(ids[value] for value in values)) for values in inputs]

    def decode(self, logits: Tensor) -> list[Any]:
        """Output values from logits [p, output]."""
        if self.outputs is None:
            return [float(number) for number in logits[:, 0]]
        return [self.outputs[i] for i in logits.argmax(-1).tolist()]

    def _problem(self, values: Sequence[Value]) -> str | None:
        unknown = [value for value in dict.fromkeys(values) if value not in self.vocabulary]
        if not 1 <= len(values) <= self.max_length:
            return f"{len(values)} values"
        return f"unknown {', '.join(map(repr, unknown))}" if unknown else None

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Compiled programs stand where language models have a tokenizer, but read values, not text."""
        raise ValueError(
            f"the compiled program {self.name!r} reads values, not text; its only task is its own: tracr:{self.name}"
        )
