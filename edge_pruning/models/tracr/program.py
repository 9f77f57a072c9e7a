"""The description of a compiled RASP program: its vocabulary, its outputs and the sizes of its transformer.

RASP (Weiss and others, 2021) is a language of sequence operations that a transformer can do: `Select` is an attention
pattern, `Aggregate` an attention head, `Map` an MLP. Tracr (Lindner and others, 2023) compiles a program into weights.
Every dimension of the residual stream then has a name: `tokens:a` is 1 where the token is "a", `one` is 1 everywhere.
A categorical output has one dimension per value, of which the largest is the answer; a numerical one has a single
dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from edge_pruning.graph import ModelShape

Value = str | int | float | bool | tuple["Value", ...]
BOS, PAD = "compiler_bos", "compiler_pad"
LISTED = 20  # problems listed in one message


@dataclass(frozen=True)
class Program:
    """A compiled program without its weights.

    vocabulary: the values that an input consists of.
    max_length: the length of the longest input, without BOS.
    tokens: the values in the order of token ids, with BOS and PAD.
    outputs: the output values in the order of the logits; None if the output is a number.
    residual: the name of every dimension of the residual stream.
    layers, heads, key_size, hidden: the sizes of the transformer; key_size is per head, hidden is the MLP's.
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
        """Token ids of inputs, BOS in front. Raises ValueError with the inputs that the program cannot take."""
        problems = [f"{list(values)}: {problem}" for values in inputs if (problem := self._problem(values))]
        if problems:
            more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
            raise ValueError(
                f"program {self.name!r} takes 1 to {self.max_length} values out of {list(self.vocabulary)}; "
                f"{len(problems)} of {len(inputs)} inputs do not fit: {'; '.join(problems[:LISTED])}{more}"
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
        """Raise ValueError: a program takes the place of a language model's tokenizer, but cannot read text."""
        raise ValueError(
            f"the compiled program {self.name!r} reads values, not text; use its own task, tracr:{self.name}"
        )
