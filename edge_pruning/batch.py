"""Pairs of prompts as token ids, and batches of them as tensors.

A pair is a clean and a corrupted prompt of the same length in tokens, the positions whose logits are compared, and the
answers there. A batch puts several pairs side by side. Under causal attention tokens to the right change nothing, so a
shorter pair is filled up on the right and the result is exactly that of the pair alone; sorting by length
(`MaskedPass.tiles`) keeps such filling rare. Where attention looks to the right as well, a batch holds whole prompts of
one length. A vision transformer's prompts are images, and its one compared position is where the class is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """One clean and one corrupted prompt, as token ids.

    `positions[n]` is where the n-th compared prediction is made; `answers[n]` are the tokens that count as right there,
    `wrong[n]` those that count as wrong (empty where nothing is wrong in particular). An answer of several tokens is
    teacher-forced: the prompt ends with all its tokens but the last.
    """

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    positions: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...]
    template: str = ""

    def __post_init__(self) -> None:
        counts = {len(self.positions), len(self.answers), len(self.wrong)}
        if len(self.clean) != len(self.corrupted) or len(counts) != 1 or not self.positions:
            raise ValueError(
                "a pair needs prompts of equal length and as many answers and wrong answers as positions; got "
                f"{len(self.clean)} and {len(self.corrupted)} tokens, {len(self.positions)} positions, "
                f"{len(self.answers)} answers, {len(self.wrong)} wrong answers"
            )
        outside = [position for position in self.positions if not 0 <= position < len(self.clean)]
        if outside:
            raise ValueError(f"expected positions from 0 to {len(self.clean) - 1} (the last token), got {outside}")


@dataclass(frozen=True, eq=False)
class ImagePair(Pair):
    """One clean and one corrupted image [channel, height, width], as the model's image processor leaves them.

    `answers` are the classes that count as right, `wrong` those that count as wrong: one tuple each, for the one place
    where a class is predicted.
    """

    clean: Tensor  # type: ignore[assignment]
    corrupted: Tensor  # type: ignore[assignment]
    positions: tuple[int, ...] = (0,)
    answers: tuple[tuple[int, ...], ...] = ((),)
    wrong: tuple[tuple[int, ...], ...] = ((),)

    def __post_init__(self) -> None:
        shapes = [tuple(image.shape) for image in (self.clean, self.corrupted)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 3:
            raise ValueError(f"expected two images of one shape [channel, height, width], got {shapes[0]}, {shapes[1]}")
        if self.positions != (0,) or len(self.answers) != 1 or len(self.wrong) != 1:
            raise ValueError(
                "an image has one class: expected positions (0,) and one tuple each of answers and wrong answers, got "
                f"{self.positions}, {len(self.answers)} and {len(self.wrong)}"
            )


@dataclass(frozen=True)
class Batch:
    """Pairs side by side. `n` counts compared positions over the whole batch, example after example.

    clean, corrupted: token ids [b, p], or images [b, channel, height, width].
    lengths: positions that each pair takes, [b].
    positions: the compared positions as indices into the flattened [b * p], [n].
    example: which pair each compared position belongs to, [n].
    answers, wrong: accepted and wrong tokens, [n, any], filled with -1.
    width: p.
    """

    clean: Tensor
    corrupted: Tensor
    lengths: Tensor
    positions: Tensor
    example: Tensor
    answers: Tensor
    wrong: Tensor
    width: int = field(kw_only=True)

    @property
    def size(self) -> int:
        return self.clean.shape[0]

    @classmethod
    def of(
        cls, pairs: Sequence[Pair], device: torch.device | str = "cpu", *, widths: Sequence[int] | None = None
    ) -> Batch:
        """widths: how many positions of each pair are computed; by default none after the last compared one."""
        ends = widths or [max(pair.positions) + 1 for pair in pairs]
        width = max(ends)
        positions = [b * width + p for b, pair in enumerate(pairs) for p in pair.positions]
        fields = (
            _side_by_side([pair.clean for pair in pairs], ends),
            _side_by_side([pair.corrupted for pair in pairs], ends),
            torch.tensor(ends),
            torch.tensor(positions),
            torch.tensor([b for b, pair in enumerate(pairs) for _ in pair.positions]),
            _filled([tokens for pair in pairs for tokens in pair.answers], -1),
            _filled([tokens for pair in pairs for tokens in pair.wrong], -1),
        )
        return cls(*(field.to(device, non_blocking=True) for field in fields), width=width)


def unpadded(ids: Tensor, attention_mask: Tensor) -> list[tuple[int, ...]]:
    """The texts of a padded batch, as a tokenizer makes it: ids and mask [b, p], filled up on the left or on the right.

    Padding is not kept and masked but left out, so no result depends on it. Raises ValueError for empty texts, and for
    masks with holes: a position that is not there would still be counted as one.
    """
    if ids.shape != attention_mask.shape or ids.dim() != 2:
        raise ValueError(f"expected ids and mask of one shape [b, p], got {tuple(ids.shape)}, "
                         f"{tuple(attention_mask.shape)}")  # fmt: skip
    present = attention_mask.bool()
    begins = present & ~torch.nn.functional.pad(present, (1, 0))[:, :-1]
    broken = (begins.sum(1) != 1).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"expected one run of ones in each row of the attention mask; rows {broken} have none or more")
    return [tuple(row[there].tolist()) for row, there in zip(ids, present, strict=True)]


def sent(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Places [n] on a device, and nobody waits for it: `torch.tensor(..., device=...)` waits until it has done all."""
    return torch.tensor(numbers, dtype=torch.long).to(device, non_blocking=True)


def _side_by_side(prompts: Sequence[Any], ends: Sequence[int]) -> Tensor:
    if isinstance(prompts[0], Tensor):
        return torch.stack(list(prompts))
    return _filled([prompt[:end] for prompt, end in zip(prompts, ends, strict=True)], 0)


def _filled(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max((len(row) for row in rows), default=0)
    filled = [[*row, *[value] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).reshape(len(rows), width)
