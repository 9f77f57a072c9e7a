"""The dtype of a search. A search in bfloat16 takes half of the time on a CPU with instructions for it.

The search then runs on a copy of the model with weights rounded to bfloat16; the model itself stays in float32, and
circuits are judged in it. Measured on SmolLM2-135M: the circuits have the same KL (benchmarks/results). With the dtype
bfloat16 (`--dtype bfloat16`), the model itself is loaded in it instead, which halves the memory for weights.
"""

from __future__ import annotations

import copy
import gc
import logging
from dataclasses import replace

import torch
from torch import nn

from edge_pruning import ranks
from edge_pruning.loading.model import Model
from edge_pruning.loading.placement import DTYPES, SPREAD
from edge_pruning.loading.self_check import self_check
from edge_pruning.masked_pass.memory import total_and_free
from edge_pruning.models import adapt

log = logging.getLogger("edge_pruning")

AUTO = "auto"
LARGE = 50_000_000  # weights: a smaller model is searched in a few minutes anyway
MEMORY_SHARE = 3  # the model and its copy take at most a third of the device's memory


class SearchCopy:
    """A copy of a model in another dtype. It can be dropped, and is made again when it is next used."""

    def __init__(self, of: Model, made: Model) -> None:
        self._of, self.dtype = of, made.dtype
        self._made: Model | None = made

    @property
    def model(self) -> Model:
        if self._made is None:
            self._made = copied(self._of, self.dtype)
        return self._made

    def drop(self) -> None:
        """Free its memory, even if objects of a search refer to it and to each other."""
        self._made = None
        gc.collect()


def model_to_search(model: Model, dtype: str) -> Model:
    """Return the model in which circuits are searched: the given one, or its copy in another dtype.

    dtype: that of the search. `auto`: a copy in bfloat16 if that pays and it passes the self-check.
    """
    decided = _decided(model) if dtype == AUTO else dtype
    if decided == model.dtype:
        return model
    try:
        searched = copied(model, decided)
        self_check(searched.engine())
    except (ValueError, torch.OutOfMemoryError) as error:
        if dtype != AUTO:
            raise
        log.warning("%s is searched in %s, not in a copy in %s: %s", model.name, model.dtype, decided, error)
        return model
    return searched


def _decided(model: Model) -> str:
    """Return the dtype in which a loaded model is searched if the device decides."""
    place = model.adapter.device
    in_one_place = model.device != SPREAD and model.adapter.shards is None
    if in_one_place and multiplies_bfloat16(place) and pays(model, memory_of_each(place, ranks.count())):
        return "bfloat16"
    return model.dtype


def pays(model: Model, memory: int) -> bool:
    """Return whether a model is large enough for a copy in bfloat16, and small enough for the memory in bytes."""
    weights = sum(x.numel() for x in model.adapter.hf.parameters())
    return model.dtype == "float32" and weights >= LARGE and 6 * weights <= memory // MEMORY_SHARE


def memory_of_each(device: torch.device, ranks: int) -> int:
    """Return the bytes of memory of a device that each of so many ranks has; they share that of a CPU."""
    return total_and_free(device)[0] // (1 if device.type == "cuda" else ranks)


def copied(model: Model, dtype: str) -> Model:
    """Return a copy of a model with its weights in another dtype; the model may be without weights."""
    return replace(model, adapter=adapt(rounded(model.adapter.hf, DTYPES[dtype])))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device of this machine has instructions for products in bfloat16. PyTorch says so of GPUs, and
    of Intel's and AMD's CPUs; other devices count as having none.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of PyTorch
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in names)


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
