"""The memory of a device, and the share of it that each part of a pass may use."""

from __future__ import annotations

import psutil
import torch

CACHE_SHARE = 8  # of all memory, for frozen values


def memory_for_cache(device: torch.device) -> int:
    """Bytes for frozen values: an eighth of all memory, or half of the free memory if that is less.

    The share is of all memory, so that the same run on the same machine keeps the same pairs.
    """
    total, free = total_and_free(device)
    return min(total // CACHE_SHARE, free // 2)


def memory_for_pass(device: torch.device) -> int:
    """Bytes for the buffers of one forward and backward pass: half of the free memory."""
    return share_for_pass(total_and_free(device)[1])


def share_for_pass(free: int) -> int:
    """The share of the free memory (bytes) that a pass may use."""
    return max(0, free) // 2


def total_and_free(device: torch.device) -> tuple[int, int]:
    """Bytes of memory on a device, and how many are free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total, free
    memory = psutil.virtual_memory()  # other accelerators share the CPU's
    return memory.total, memory.available
