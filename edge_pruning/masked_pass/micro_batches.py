"""Work on many pairs, a micro-batch at a time, that survives a GPU that is smaller than was thought.

The micro-batch that does not fit is cut in half and tried again, and all later ones are made no larger. Nothing is
lost: work on a micro-batch must leave nothing behind unless it ends (a mask's gradient, for one, arrives as the last
thing of a backward pass). The cut is said once. Results are the same up to rounding: pairs do not mind their company.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from edge_pruning.batch import Pair
from edge_pruning.masked_pass.masked_pass import MaskedPass

log = logging.getLogger("edge_pruning")
T = TypeVar("T")


class OutOfMemory(RuntimeError):
    """Not even one pair fits."""


def over_tiles(
    engine: MaskedPass, pairs: Sequence[Pair], work: Callable[[list[int]], T], max_tokens: int | None = None
) -> Iterator[tuple[list[int], T]]:
    """`work` on every micro-batch of `pairs` (as indices), with the indices. Raises OutOfMemory."""
    waiting = deque(engine.tiles(pairs, max_tokens))
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


def in_halves(work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`work(rows)`, one result per row; half of the rows at a time where all do not fit. Raises OutOfMemory."""
    try:
        return work(rows)
    except torch.OutOfMemoryError as error:
        failure = _in_short(error)
    if len(rows) == 1:
        raise OutOfMemory(f"out of memory with a single alternative ({failure}). Try --dtype bfloat16 or fewer pairs")
    return torch.cat([in_halves(work, half) for half in rows.tensor_split(2)])


def _in_short(error: torch.OutOfMemoryError) -> str:
    """What was being allocated."""
    return str(error).strip().partition("\n")[0]


def _halves(engine: MaskedPass, pairs: Sequence[Pair], ids: list[int], failure: str) -> list[list[int]]:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    width = max(engine.width(pairs[i]) for i in ids)
    if len(ids) == 1:
        raise OutOfMemory(
            f"out of memory with a single pair of {width} tokens ({failure}). Try --dtype bfloat16, shorter prompts "
            "or a smaller model"
        )
    tokens, first = len(ids) * width // 2, engine.largest_tile is None
    engine.largest_tile = max(1, tokens)
    if first:
        log.warning(
            "out of memory with %d tokens in a micro-batch (%s); going on with at most %d at a time",
            len(ids) * width, failure, tokens,
        )
    middle = (len(ids) + 1) // 2
    return [ids[:middle], ids[middle:]]
