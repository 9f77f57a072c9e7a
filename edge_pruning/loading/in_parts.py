"""Read a model of which this rank keeps its part only (`--device shard`): one whole parameter is in memory at a time.

Transformers reads a model tensor by tensor: it renames and converts what a file holds, and registers the result with a
module. Here every parameter is cut as it is registered: this rank's rows are copied, and a placeholder on the device
`meta` takes its place in the module. So whatever transformers can read is read as usual, with its names, conversions,
tied weights and buffers; and a parameter that it registers in another way stays whole, which costs memory only.

Not in parts: a GGUF file is unpacked whole before its first parameter is registered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from edge_pruning import ranks
from edge_pruning.loading.fingerprint import sample_of

ONE_BY_ONE = "HF_DEACTIVATE_ASYNC_LOAD"  # otherwise transformers' threads read ahead, up to the whole model


@dataclass(frozen=True)
class Part:
    """What is kept of a parameter: this rank's rows, and the values that the model's fingerprint is made of."""

    rows: Tensor
    sample: Tensor | None


@contextmanager
def cut_when_registered(device: torch.device) -> Iterator[None]:
    """A context in which every parameter that a module is given leaves this rank's rows on a device."""

    def cut(module: nn.Module, name: str, whole: Tensor | None) -> nn.Parameter | None:
        if whole is None or whole.is_meta:
            return None  # registered unchanged
        rows = ranks.rows_of(whole.detach()).to(device, copy=True)
        placeholder = nn.Parameter(torch.empty_like(whole, device="meta"), requires_grad=whole.requires_grad)
        placeholder.__dict__.update(whole.__dict__)  # transformers marks what it has read
        placeholder.part = Part(rows, sample_of(whole))  # type: ignore[attr-defined]
        return placeholder

    before = os.environ.get(ONE_BY_ONE)
    hook = register_module_parameter_registration_hook(cut)  # type: ignore[arg-type]  # may return a parameter
    os.environ[ONE_BY_ONE] = "1"
    try:
        yield
    finally:
        hook.remove()
        if before is None:
            del os.environ[ONE_BY_ONE]
        else:
            os.environ[ONE_BY_ONE] = before


def rows_of(hf: nn.Module) -> dict[str, Tensor]:
    """This rank's rows of a model read in that context, by the names of parameters (a tied one has several)."""
    parts = {name: part_of(p) for name, p in hf.named_parameters(remove_duplicate=False)}
    return {name: part.rows for name, part in parts.items() if part is not None}


def sample(parameter: Tensor) -> Tensor | None:
    """Return the values of a whole parameter that the fingerprint is made of, also if it was cut."""
    part = part_of(parameter)
    return sample_of(parameter) if part is None else part.sample


def part_of(parameter: Tensor) -> Part | None:
    return getattr(parameter, "part", None)
