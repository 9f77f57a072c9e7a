"""Process many pairs in micro-batches, and retry with half the micro-batch when memory runs out.

All later micro-batches are at most as large as the largest that fits. Nothing is lost or counted twice, because work on
a micro-batch must have no effect unless it completes (a mask's gradient, for example, arrives at the end of a backward
pass). The first reduction is logged. Results are equal up to rounding: they do not depend on the batch's composition.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.pair import Pair

log = logging.getLogger("edge_pruning")
T = TypeVar("T")


class OutOfMemory(RuntimeError):
    """Not even one pair fits into memory."""


def over_tiles(
    engine: MaskedPass,
    pairs: Sequence[Pair],
    work: Callable[[list[int]], T],
    max_tokens: int | None = None,
    *,
    shared: bool = False,
) -> Iterator[tuple[list[int], T]]:
    """Apply `work` to every micro-batch of `pairs` (its indices); yield the indices and result. Raises OutOfMemory.

    shared: whether every rank gets only its share of the micro-batches (see `ranks.py`).
    """
    waiting = deque(_shared(engine, pairs, max_tokens) if shared else engine.tiles(pairs, max_tokens))
    while waiting:
        ids, failure = waiting.popleft(), ""
        try:
            result = work(ids)
        except torch.OutOfMemoryError as error:
            failure = _in_short(error)
        if failure:  # outside `except`, where the error no longer holds what the failed attempt has allocated
            waiting.extendleft(reversed(_halves(engine, pairs, ids, failure)))
            continue
        yield ids, result


def _shared(engine: MaskedPass, pairs: Sequence[Pair], max_tokens: int | None) -> Sequence[list[int]]:
    """This rank's micro-batches. They are those of a single process, unless there are too few for all ranks."""
    tiles = engine.tiles(pairs, max_tokens)
    if len(tiles) < ranks.count():
        each = sum(map(engine.tokens, pairs)) // ranks.count()
        tiles = engine.tiles(pairs, max(1, min(each, max_tokens or engine.tile_tokens)))
    return ranks.share(tiles)


def in_halves(work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return `work(rows)`, one result per row; run it on halves if memory runs out. Raises OutOfMemory."""
    try:
        return work(rows)
    except torch.OutOfMemoryError as error:
        failure = _in_short(error)
    if len(rows) == 1:
        raise OutOfMemory(f"out of memory with a single alternative ({failure}). Try --dtype bfloat16 or fewer pairs")
    return torch.cat([in_halves(work, half) for half in rows.tensor_split(2)])


def _in_short(error: torch.OutOfMemoryError) -> str:
    """The first line of the error: the size that could not be allocated."""
    return str(error).strip().partition("\n")[0]


def _halves(engine: MaskedPass, pairs: Sequence[Pair], ids: list[int], failure: str) -> list[list[int]]:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    width = max(engine.width(pairs[i]) for i in ids)
    sequences = sum(len(pairs[i].branches) for i in ids)
    if len(ids) == 1:
        several = f"{sequences} sequences of {width} tokens each" if sequences > 1 else f"{width} tokens"
        raise OutOfMemory(
            f"out of memory with a single pair of {several} ({failure}). Try --dtype bfloat16, shorter prompts "
            f"or a smaller model{', or --data first_token=true' if sequences > 1 else ''}"
        )
    tokens, first = sequences * width // 2, engine.largest_tile is None
    engine.largest_tile = max(1, tokens)
    if first:
        log.warning(
            "out of memory with %d tokens in a micro-batch (%s); going on with at most %d at a time",
            sequences * width, failure, tokens,
        )
    middle = (len(ids) + 1) // 2
    return [ids[:middle], ids[middle:]]
