"""The dtype of a search. In bfloat16, a large model is searched in half of the time or less, if the device has
instructions for it.

The search then runs on a copy of the model with weights rounded to bfloat16; the model itself stays in float32, and
circuits are judged in it. Measured on SmolLM2-135M: the circuits have the same KL (benchmarks/results). With the dtype
bfloat16 (`--dtype bfloat16`), the model itself is loaded in it instead, which halves the memory for weights.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import torch
from torch import nn

from edge_pruning.loading.model import Model
from edge_pruning.loading.placement import DTYPES, SPREAD
from edge_pruning.loading.self_check import self_check
from edge_pruning.masked_pass.memory import total_and_free
from edge_pruning.models import adapt

log = logging.getLogger("edge_pruning")

AUTO = "auto"
LARGE = 50_000_000  # weights: a smaller model is searched in a few minutes anyway
MEMORY_SHARE = 3  # the model and its copy take at most a third of the device's memory


def model_to_search(model: Model, dtype: str) -> Model:
    """Return the model in which circuits are searched: the given one, or its copy in another dtype.

    dtype: that of the search. `auto`: see `search_dtype`; a copy that is not exact enough is then not used.
    """
    place, decided = model.adapter.device, dtype
    if dtype == AUTO:
        whole = model.device != SPREAD and model.adapter.shards is None
        decided = search_dtype(model, place, total_and_free(place)[0]) if whole else model.dtype
    if decided == model.dtype:
        return model
    searched = copied(model, decided)
    try:
        self_check(searched.engine())
    except ValueError as error:
        if dtype != AUTO:
            raise
        log.warning("%s is searched in %s, because in %s %s", model.name, model.dtype, decided, error)
        return model
    return searched


def search_dtype(model: Model, device: torch.device, memory: int) -> str:
    """Return bfloat16 if a copy in it is worth its memory, else the model's own dtype.

    device, memory: where the model is to be, and that device's memory in bytes.
    """
    weights = sum(x.numel() for x in model.adapter.hf.parameters())
    pays = weights >= LARGE and 6 * weights <= memory // MEMORY_SHARE and multiplies_bfloat16(device)
    return "bfloat16" if pays and model.dtype == "float32" else model.dtype


def copied(model: Model, dtype: str) -> Model:
    """Return a copy of a model with its weights in another dtype; the model may be without weights."""
    return replace(model, adapter=adapt(rounded(model.adapter.hf, DTYPES[dtype])))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products in bfloat16. A GPU that is not in this machine counts as a
    recent one. Instructions of CPUs other than Intel's and AMD's are not known here.
    """
    if device.type == "cuda":
        return not torch.cuda.is_available() or torch.cuda.get_device_capability(device) >= (8, 0)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)


def rounded(hf: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a Hugging Face model with its weights in another dtype.

    Tensors that are computed rather than stored, such as the frequencies of rotary embeddings, keep their dtype.
    """
    stored = {id(x): x for x in hf.state_dict(keep_vars=True).values() if x.is_floating_point()}
    converted = {key: _like(x, dtype) for key, x in stored.items()}
    return copy.deepcopy(hf, converted)


def _like(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    converted = x.detach().to(dtype)
    return nn.Parameter(converted, requires_grad=x.requires_grad) if isinstance(x, nn.Parameter) else converted
