"""A pair of prompts as token ids, or of images, with the compared positions and the answers there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from edge_pruning.answer_tree import branch_of_each, branches_of


@dataclass(frozen=True)
class Pair:
    """One clean and one corrupted prompt, as token ids.

    `positions[n]` is where the n-th compared prediction is made; `answers[n]` are the tokens that count as right there,
    `wrong[n]` those that count as wrong (empty if no token in particular is wrong). An answer of several tokens is
    teacher-forced: the prompt ends with all its tokens but the last.

    prefixes: the nodes of the answers' tree (`answer_tree.py`), if right answers differ before their last token; else
        empty. The n-th prediction is then made after the prompt and the tokens `prefixes[n]`; the root comes first.
    """

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    positions: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...]
    template: str = ""
    prefixes: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        counts = {len(self.positions), len(self.answers), len(self.wrong)}
        if len(self.clean) != len(self.corrupted) or len(counts) != 1 or not self.positions:
            raise ValueError(
                "a pair needs prompts of equal length and as many answers and wrong answers as positions; got "
                f"{len(self.clean)} and {len(self.corrupted)} tokens, {len(self.positions)} positions, "
                f"{len(self.answers)} answers, {len(self.wrong)} wrong answers"
            )
        if self.prefixes:
            self._check_tree()
            return
        outside = [position for position in self.positions if not 0 <= position < len(self.clean)]
        if outside:
            raise ValueError(f"expected positions from 0 to {len(self.clean) - 1} (the last token), got {outside}")

    def _check_tree(self) -> None:
        nodes = dict.fromkeys(self.prefixes)
        whole = self.prefixes[0] == () and all(not prefix or prefix[:-1] in nodes for prefix in self.prefixes)
        expected = tuple(len(self.clean) - 1 + len(prefix) for prefix in self.prefixes)
        if not whole or len(nodes) != len(self.prefixes) or self.positions != expected:
            raise ValueError(
                "the prefixes of a pair are the nodes of a tree: expected the root () first, every node once with its "
                f"parent, and positions {expected}; got {self.prefixes} and positions {self.positions}"
            )

    @cached_property
    def branches(self) -> tuple[tuple[int, ...], ...]:
        """The tokens that follow the prompt in each sequence to run; most pairs are one sequence, with none."""
        return branches_of(self.prefixes) or ((),)

    @property
    def length(self) -> int:
        """The number of tokens of the longest sequence."""
        return len(self.clean) + max(map(len, self.branches))

    @property
    def sequences(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The clean and the corrupted prompt, followed by each branch."""
        return [(self.clean + branch, self.corrupted + branch) for branch in self.branches]

    @property
    def sequence_of_each(self) -> tuple[int, ...]:
        """For every compared position, the number of the sequence in which it is."""
        return branch_of_each(self.prefixes, self.branches) or (0,) * len(self.positions)


@dataclass(frozen=True, eq=False)
class ImagePair(Pair):
    """One clean and one corrupted image [channel, height, width], as the model's image processor returns them.

    `answers` are the classes that count as right, `wrong` those that count as wrong: one tuple each, for the single
    position where a class is predicted.
    """

    clean: Tensor  # type: ignore[assignment]
    corrupted: Tensor  # type: ignore[assignment]
    positions: tuple[int, ...] = (0,)
    answers: tuple[tuple[int, ...], ...] = ((),)
    wrong: tuple[tuple[int, ...], ...] = ((),)

    def __post_init__(self) -> None:
        shapes = [tuple(image.shape) for image in (self.clean, self.corrupted)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 3:
            raise ValueError(f"expected images of equal shape [channel, height, width], got {shapes[0]}, {shapes[1]}")
        if self.positions != (0,) or self.prefixes or len(self.answers) != 1 or len(self.wrong) != 1:
            raise ValueError(
                "an image has one class: expected positions (0,) and one tuple each of answers and wrong answers, got "
                f"{self.positions}, {len(self.answers)} and {len(self.wrong)}"
            )

    @property
    def sequences(self) -> list[tuple[Tensor, Tensor]]:  # type: ignore[override]
        return [(self.clean, self.corrupted)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImagePair):
            return NotImplemented
        same = (self.answers, self.wrong, self.template) == (other.answers, other.wrong, other.template)
        return same and torch.equal(self.clean, other.clean) and torch.equal(self.corrupted, other.corrupted)

    def __hash__(self) -> int:
        return hash((self.answers, self.wrong, self.template))


def unpadded(ids: Tensor, attention_mask: Tensor) -> list[tuple[int, ...]]:
    """Return the texts of a padded batch from a tokenizer: ids and mask [b, p], padded on the left or on the right.

    Padding is removed rather than masked, so no result depends on it. Raises ValueError for empty texts, and for masks
    with holes, because a missing position would still be counted.
    """
    if ids.shape != attention_mask.shape or ids.dim() != 2:
        raise ValueError(f"expected ids and mask of the same shape [b, p], got {tuple(ids.shape)}, "
                         f"{tuple(attention_mask.shape)}")  # fmt: skip
    present = attention_mask.bool()
    begins = present & ~torch.nn.functional.pad(present, (1, 0))[:, :-1]
    broken = (begins.sum(1) != 1).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"expected one run of ones per row of the attention mask; rows {broken} have none or several")
    return [tuple(row[there].tolist()) for row, there in zip(ids, present, strict=True)]
