"""Devices to plan for: those of this machine, and some GPUs by name, so that a run can be planned without them.

Rates of named GPUs are the vendors' figures for dense products; `Device.seconds` assumes shares of them. They are
estimates; the plan states which of its numbers were measured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from edge_pruning.masked_pass.memory import total_and_free

COMPUTE_SHARE, TRAFFIC_SHARE = 0.4, 0.6  # of the vendors' rates
ON_CPU = 0.5  # of the measured rate of one large product
PROBE, PROBE_SECONDS = 512, 0.2
SMALL, BRIEFLY = 256, 0.03  # for the two dtypes, of which one may be very slow


@dataclass(frozen=True)
class Device:
    """A device: its kind (cpu, cuda or mps), memory in bytes, and rates in operations and bytes per second.

    bfloat16: how many times as fast as in float32 products are in bfloat16; 1 if that is not known.
    """

    name: str
    kind: str
    memory: int
    free: int
    operations: float
    traffic: float | None
    measured: bool
    bfloat16: float = 1.0

    def seconds(self, operations: float, traffic: float) -> float:
        """Return the time of the arithmetic or of the memory traffic, whichever is longer."""
        return max(operations / self.operations, traffic / self.traffic if self.traffic else 0.0)


_GIB = 2**30
# name: GiB, operations per second by dtype, bytes per second
DEVICES: Mapping[str, tuple[int, Mapping[str, float], float]] = {
    "h100": (80, {"bfloat16": 989e12, "float32": 67e12}, 3.35e12),
    "h200": (141, {"bfloat16": 989e12, "float32": 67e12}, 4.8e12),
    "a100": (80, {"bfloat16": 312e12, "float32": 19.5e12}, 2.0e12),
    "a100-40gb": (40, {"bfloat16": 312e12, "float32": 19.5e12}, 1.55e12),
    "rtx-4090": (24, {"bfloat16": 165e12, "float32": 82e12}, 1.0e12),
    "l4": (24, {"bfloat16": 121e12, "float32": 30e12}, 0.3e12),
}


def named_device(name: str, dtype: str) -> Device | None:
    """Return a GPU of the table; None for an unknown name. Raises ValueError for a dtype without figures."""
    if name not in DEVICES:
        return None
    gib, rates, traffic = DEVICES[name]
    if dtype not in rates:
        raise ValueError(f"no figures for {dtype} on {name}; expected {' or '.join(rates)}")
    usable = gib * _GIB * 95 // 100  # the driver and its libraries use the rest
    return Device(name, "cuda", usable, usable, COMPUTE_SHARE * rates[dtype], TRAFFIC_SHARE * traffic, False,
                  rates["bfloat16"] / rates["float32"])  # fmt: skip


def this_device(device: torch.device, dtype: torch.dtype) -> Device:
    """Return a device of this machine, with its measured rate of matrix products."""
    total, free = total_and_free(device)
    rate, gain = _rate(device, dtype), 1.0
    if device.type in ("cpu", "cuda"):
        gain = _rate(device, torch.bfloat16, SMALL, BRIEFLY) / _rate(device, torch.float32, SMALL, BRIEFLY)
    return Device(str(device), device.type, total, free, ON_CPU * rate, None, False, gain)


def _rate(device: torch.device, dtype: torch.dtype, size: int = PROBE, seconds: float = PROBE_SECONDS) -> float:
    """Measure the operations per second of square products."""
    a = torch.ones(size, size, device=device, dtype=dtype)
    (a @ a)[0, 0].item()  # the first product loads what it needs
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        (a @ a)[0, 0].item()
        done += 1
    return done * 2 * size**3 / (time.perf_counter() - begin)
