"""Running Hugging Face models, whole or cut, on a task's pairs: their outputs at the compared positions.

Only the clean prompts (or images) are run: these are where a smaller model should predict what the original does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import check_supported
from edge_pruning.pair import Pair

AT_ONCE = 1024  # positions of a micro-batch


def outputs(hf: Any, batch: Batch) -> Tensor:
    """Logits at the compared positions [n, vocab], with gradients to all that require them."""
    logits: Tensor = check_supported(hf.config)(hf).own_logits(batch.clean)
    return logits.flatten(0, 1)[batch.positions]


def batches(engine: MaskedPass, pairs: Sequence[Pair], positions: int = AT_ONCE) -> Iterator[Batch]:
    """All pairs in micro-batches of at most `positions` positions. Pairs of similar length share a micro-batch."""
    return (engine.batch([pairs[i] for i in ids]) for ids in engine.tiles(pairs, positions))


def present(batch: Batch) -> Tensor:
    """The positions of a batch that belong to a prompt, bool [b, p]; shorter prompts are padded on the right."""
    return torch.arange(batch.width, device=batch.lengths.device) < batch.lengths[:, None]


def mean_width(engine: MaskedPass, pairs: Sequence[Pair]) -> int:
    """How many positions an example has, on average."""
    return round(sum(engine.width(pair) for pair in pairs) / len(pairs))
