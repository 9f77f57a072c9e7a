"""How much memory there is, and what share of it the parts of a pass may take."""

from __future__ import annotations

import psutil
import torch

CACHE_SHARE = 8  # of all memory, for frozen values


def memory_for_cache(device: torch.device) -> int:
    """Bytes for frozen values: an eighth of all memory, or half of what is free where that is less.

    Counted from all memory, so that the same run on the same machine keeps the same pairs.
    """
    total, free = total_and_free(device)
    return min(total // CACHE_SHARE, free // 2)


def memory_for_pass(device: torch.device) -> int:
    """Bytes for the buffers of one forward and backward pass: half of what is free."""
    return share_for_pass(total_and_free(device)[1])


def share_for_pass(free: int) -> int:
    """What a pass may take of free memory (bytes)."""
    return max(0, free) // 2


def total_and_free(device: torch.device) -> tuple[int, int]:
    """Bytes of memory on a device, and how many are free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total, free
    memory = psutil.virtual_memory()  # other accelerators share the CPU's
    return memory.total, memory.available
