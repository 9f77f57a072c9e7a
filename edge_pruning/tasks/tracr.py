"""All inputs of a compiled program: `tracr:reverse`, or `tracr:` and a folder.

The task is exact: the data is the whole input space (or the sample drawn when the program was compiled), so nothing is
held out, and every split is the same. A pair's corrupted input is another one of the same length; it plays no part
under zero ablation, which suits a circuit that must do everything. Categorical outputs are fitted by KL, numbers by
squared error.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from edge_pruning.models.tracr import Compiled, Program, compiled_folder
from edge_pruning.pair import Pair
from edge_pruning.tasks.encoding import TextPair
from edge_pruning.tasks.task import PairSet, Task

Row = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # token ids; positions with an answer; answers


@dataclass(frozen=True, kw_only=True)
class TracrTask(Task):
    """The inputs of a compiled program. inputs: lists of values; by default, all compiled inputs."""

    program: str
    inputs: Sequence[Sequence[Any]] | None = None

    name = "tracr"
    summary = "all inputs of a program whose circuit is known"
    exact = True

    def __post_init__(self) -> None:
        if compiled_folder(self.program) is None:
            raise ValueError(f"there is no compiled program {self.program!r}")
        if isinstance(self.inputs, str):
            raise ValueError(f"inputs must be a list of lists of values, such as [[\"a\", \"b\"]], got {self.inputs!r}")
        _ = self.inputs and self.compiled.program.encode(self.inputs)  # raises ValueError for bad inputs

    @property
    def defaults(self) -> Mapping[str, Any]:
        return {"model": self.program, "ablation": "zero", "embeddings": "split", "preset": "exact"}

    @cached_property
    def compiled(self) -> Compiled:
        folder = compiled_folder(self.program)
        assert folder is not None
        return Compiled.load(folder)

    def pairs(self, tokenizer: Any, split: str, *, max_length: int | None = None) -> PairSet:
        split, program = self.check_split(split), self.compiled.program
        if tokenizer != program:
            other = f"the program {tokenizer.name!r}" if isinstance(tokenizer, Program) else "a language model"
            raise ValueError(f"the model of task {self.program!r} is the program itself, not {other}; omit --model")
        rows = [*(self._all_rows() if self.inputs is None else self._own_rows(self.inputs))]
        pairs = tuple(self._pair(row, other) for row, other in zip(rows, self._others(rows), strict=True))
        texts = tuple(_text(program, pair) for pair in pairs)
        notices = (f"inputs: {self._extent(len(rows))}, the same in every split",)
        objective = "kl" if program.categorical else "squared_error"
        return PairSet(self.program, split, self.metric, pairs, texts, notices, objective)

    def _extent(self, n: int) -> str:
        every = self.compiled.origin.get("of", n)
        return f"all {n:,} of them" if n == every else f"{n:,} of {every:,}"

    def _all_rows(self) -> list[Row]:
        program = self.compiled.program
        rows = [(tokens, tuple(at), _decisions(program, logits, at))
                for tokens, logits, at in self.compiled.inputs.rows(program)]
        return [row for row in rows if row[1]]

    def _own_rows(self, inputs: Sequence[Sequence[Any]]) -> list[Row]:
        """Answers are the program's own; whether RASP defines one there is not known."""
        rows = []
        for tokens in self.compiled.program.encode(inputs):
            at, logits = tuple(range(1, len(tokens))), self.compiled.model(torch.tensor([tokens]))[0]
            rows.append((tokens, at, _decisions(self.compiled.program, logits, at)))
        return rows

    def _others(self, rows: Sequence[Row]) -> list[tuple[int, ...]]:
        """Return another input of the same length for each input, drawn at random; the input itself if there is none.
        """
        rng, by_length = random.Random(f"tracr:{self.compiled.program.name} {self.seed}"), defaultdict(list)
        for tokens, _, _ in rows:
            by_length[len(tokens)].append(tokens)
        return [rng.choice([other for other in by_length[len(tokens)] if other != tokens] or [tokens])
                for tokens, _, _ in rows]

    def _pair(self, row: Row, corrupted: tuple[int, ...]) -> Pair:
        tokens, at, answers = row
        if not answers:
            return Pair(tokens, corrupted, at, ((),) * len(at), ((),) * len(at))
        every = range(self.compiled.program.n_outputs)
        wrong = tuple(tuple(other for other in every if other != answer) for answer in answers)
        return Pair(tokens, corrupted, at, tuple((answer,) for answer in answers), wrong)


def _decisions(program: Program, logits: torch.Tensor, at: Sequence[int]) -> tuple[int, ...]:
    """The outputs that are decided for; numbers decide for none."""
    return tuple(logits[list(at)].argmax(-1).tolist()) if program.categorical else ()


def _text(program: Program, pair: Pair) -> TextPair:
    words = [" ".join(str(program.tokens[token]) for token in tokens[1:]) for tokens in (pair.clean, pair.corrupted)]
    answers = [str(program.outputs[right[0]]) for right in pair.answers if right and program.outputs]
    return TextPair(words[0], words[1], (" ".join(answers),))
