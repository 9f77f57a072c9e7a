"""A model spread over several devices, some layers on each, where one device is too small for all.

Accelerate decides which layers go where (`device_map="auto"` in transformers) and makes every module take its inputs to
its own device, so the model itself runs as before. The masked pass uses weights without their modules, so it moves by
itself (`stream.Stream.moved`): what is frozen, masks and logits stay at home, with the embeddings; the differences go
over each boundary once. Cost on top of one device: those copies, while the other devices wait for their turn.

What accelerate would leave on the CPU or on disk, to be fetched for each use, is refused: the pass holds every weight,
folded, where it is used, and would need the memory after all.
"""

from __future__ import annotations

import importlib.util
from typing import Any

ELSEWHERE = ("cpu", "disk", "meta")


def spreading() -> dict[str, Any]:
    """How transformers is told to spread a model. Raises ValueError where accelerate is not installed."""
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError(
            "a model is spread over several devices by accelerate, which is not installed: pip install "
            "'edge-pruning[spread]', or choose one device"
        )
    return {"device_map": "auto"}


def spread(hf: Any) -> Any:
    """The model, if all of it lies on accelerators (or all on the CPU). Raises ValueError where a part does not."""
    places = {name: str(place) for name, place in getattr(hf, "hf_device_map", {}).items()}  # none: it fits on one
    away = [name for name, place in places.items() if place in ELSEWHERE]
    if "disk" in places.values() or (away and len(away) < len(places)):
        raise ValueError(
            f"the model does not fit on the GPUs together: {len(away)} of its {len(places)} parts would lie on the CPU "
            f"or on disk (first: {away[0]}), and be fetched for every use; use --dtype bfloat16, a smaller model, more "
            "GPUs, or --device cpu"
        )
    return hf
