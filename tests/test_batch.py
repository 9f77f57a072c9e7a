"""Pairs, and batches of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.pair import Pair, unpadded

SHORT = Pair((1, 2, 3), (1, 5, 3), (2,), ((7, 8),), ((9,),))
LONG = Pair((1, 2, 3, 4, 5, 6), (1, 9, 3, 4, 5, 6), (2, 4), ((4,), (6,)), ((), (7, 8)))


def test_rows_point_at_the_compared_positions() -> None:
    batch = Batch.of([SHORT, LONG])
    assert batch.positions.tolist() == [2, 5 + 2, 5 + 4]
    assert batch.example.tolist() == [0, 1, 1]
    assert batch.clean.flatten()[batch.positions].tolist() == [3, 3, 5]


def test_nothing_after_the_last_compared_position_is_kept() -> None:
    batch = Batch.of([SHORT, LONG])
    assert batch.clean.tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]
    assert batch.corrupted.tolist() == [[1, 5, 3, 0, 0], [1, 9, 3, 4, 5]]
    assert batch.lengths.tolist() == [3, 5]
    assert batch.size == 2


def test_answers_are_filled_up_with_minus_one() -> None:
    batch = Batch.of([SHORT, LONG])
    assert batch.answers.tolist() == [[7, 8], [4, -1], [6, -1]]
    assert batch.wrong.tolist() == [[9, -1], [-1, -1], [7, 8]]


def test_no_wrong_answers_at_all_is_an_empty_axis() -> None:
    batch = Batch.of([Pair((1,), (2,), (0,), ((3,),), ((),))])
    assert batch.wrong.shape == (1, 0)
    assert batch.wrong.dtype == torch.long


@pytest.mark.parametrize(
    "changed",
    [{"corrupted": (1, 2)}, {"answers": ()}, {"wrong": ((1,), (2,))}, {"positions": (), "answers": (), "wrong": ()}],
)
def test_pairs_that_do_not_fit_together_are_refused(changed: dict[str, tuple[object, ...]]) -> None:
    fields = {"clean": (1, 2, 3), "corrupted": (1, 5, 3), "positions": (2,), "answers": ((7,),), "wrong": ((9,),)}
    with pytest.raises(ValueError, match="a pair needs prompts of equal length and as many answers"):
        Pair(**(fields | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("position", [3, -1])
def test_positions_outside_the_prompt_are_refused(position: int) -> None:
    with pytest.raises(ValueError, match=r"expected positions from 0 to 2 \(the last token\), got \["):
        Pair((1, 2, 3), (1, 5, 3), (position,), ((7,),), ((9,),))


# --- padded batches --------------------------------------------------------------------------------------------------

TEXTS = [(5, 6, 7), (8, 9, 10, 11, 12), (3,)]


def padded(side: str, width: int = 6, token: int = 0) -> tuple[Tensor, Tensor]:
    """TEXTS as a tokenizer fills them up."""
    ids, mask = torch.full((3, width), token), torch.zeros(3, width, dtype=torch.long)
    for row, text in enumerate(TEXTS):
        at = slice(0, len(text)) if side == "right" else slice(width - len(text), None)
        ids[row, at], mask[row, at] = torch.tensor(text), 1
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out_whatever_it_is(side: str) -> None:
    assert unpadded(*padded(side)) == unpadded(*padded(side, width=9, token=7)) == TEXTS


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_gives_what_hugging_face_gives_under_its_mask(side: str, tiny_llama: Adapter) -> None:
    """With the positions that `generate` would count: from the first token that is there."""
    ids, mask = padded(side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = tiny_llama.hf(ids, attention_mask=mask, position_ids=positions).logits[mask.bool()]
    pairs = [Pair(text, text, tuple(range(len(text))), *[((),) * len(text)] * 2) for text in unpadded(ids, mask)]
    engine = MaskedPass(tiny_llama)
    batch = engine.batch(pairs)
    torch.testing.assert_close(Patch().freeze(engine, batch).logits, expected, rtol=1e-4, atol=1e-5)


def test_masks_with_holes_and_empty_texts_are_refused() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"one run of ones per row of the attention mask; rows \[1, 2\] have none"):
        unpadded(torch.ones(3, 3, dtype=torch.long), mask)
    with pytest.raises(ValueError, match=r"ids and mask of the same shape \[b, p\], got \(3, 3\), \(3, 2\)"):
        unpadded(torch.ones(3, 3, dtype=torch.long), mask[:, :2])
