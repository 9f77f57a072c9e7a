"""Placement of a model's weights: on one device, or spread over several if one is too small for all layers.

For a spread model, accelerate assigns layers to devices (`device_map="auto"` in transformers) and makes every module
move its inputs to its own device, so the model itself runs as before. The masked pass uses weights without their
modules and therefore moves tensors itself (`stream.Stream.moved`): frozen values, masks and logits stay on the home
device, with the embeddings; the differences cross each boundary once. Additional cost: those copies, during which the
other devices wait.

Offloading, in which accelerate keeps layers on the CPU or on disk and fetches them for each use, is refused: the pass
keeps every folded weight on the device that uses it, and would need the memory anyway.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from edge_pruning import ranks
from edge_pruning.masked_pass.memory import total_and_free

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
SPREAD, SHARD = "spread", "shard"
ELSEWHERE = ("cpu", "disk", "meta")


def pick_device(name: str) -> torch.device:
    """Return the device called cpu, cuda, mps or auto. Raises ValueError if this machine has none of that kind."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if name == "cuda" and ranks.launched():
        name = f"cuda:{ranks.local_rank()}"
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(k for k, yes in available.items() if yes)
        raise ValueError(f"device {name!r} is not available here; use one of: auto, {usable}, {SPREAD}")
    return torch.device(name)


def ranks_to_share(device: str) -> int:
    """Return how many ranks share out the weights. Raises ValueError for one rank that was asked to share with others.
    """
    if device != SHARD:
        return 1
    if ranks.count() == 1:
        raise ValueError(
            f"--device {SHARD} shares out the weights over the ranks that torchrun starts, and there is only one: "
            "torchrun --nproc-per-node N -m edge_pruning ...; in one process, use --device spread"
        )
    return ranks.count()


def check_fits(name: str, weights: int, dtype: str, device: torch.device, *, several: bool) -> None:
    """Raise ValueError if the weights alone exceed the memory of the device (or of all GPUs together)."""
    places = [torch.device(device.type, i) for i in range(torch.cuda.device_count())] if several else [device]
    have = sum(total_and_free(place)[0] for place in places or [device])
    need = {kind: weights * DTYPES[kind].itemsize for kind in (dtype, "bfloat16")}
    if need[dtype] > have:
        smaller = f"--dtype bfloat16 (then {need['bfloat16'] / 1e9:.1f} GB), " if dtype != "bfloat16" else ""
        raise ValueError(
            f"model {name!r} does not fit: its {weights / 1e9:.1f} billion weights take {need[dtype] / 1e9:.1f} GB in "
            f"{dtype}, {'all GPUs together have' if several else f'{device} has'} {have / 1e9:.1f} GB. Use {smaller}a "
            "device with more memory, several (--device spread), or a smaller model. `edge-pruning plan` says what a "
            "run needs"
        )


def device_map_options() -> dict[str, Any]:
    """Return the options with which transformers spreads a model over the GPUs. Raises ValueError without accelerate.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError(
            "spreading a model requires accelerate, which is not installed: pip install "
            "'edge-pruning[spread]', or choose one device"
        )
    return {"device_map": "auto"}


def refuse_offloading(hf: Any) -> Any:
    """Return a spread model. Raises ValueError unless all of it is on accelerators (or all on the CPU)."""
    places = {name: str(place) for name, place in getattr(hf, "hf_device_map", {}).items()}  # empty: on one device
    away = [name for name, place in places.items() if place in ELSEWHERE]
    if "disk" in places.values() or (away and len(away) < len(places)):
        raise ValueError(
            f"the model does not fit on the GPUs together: {len(away)} of its {len(places)} parts would lie on the CPU "
            f"or on disk (first: {away[0]}), and be fetched for every use; use --dtype bfloat16, a smaller model, more "
            "GPUs, or --device cpu"
        )
    return hf
