"""Load a model for circuit discovery from a folder or the hub, unmodified, and check that it is run exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from edge_pruning.loading import in_memory, in_parts
from edge_pruning.loading.fingerprint import fingerprint
from edge_pruning.loading.model import Model
from edge_pruning.loading.model_source import ModelSource, check_tokenizer, checked_name, source_of
from edge_pruning.loading.placement import (
    DTYPES,
    SHARD,
    SPREAD,
    check_fits,
    device_map_options,
    pick_device,
    ranks_to_share,
    refuse_offloading,
)
from edge_pruning.loading.self_check import self_check
from edge_pruning.models import Adapter, adapt, check_supported
from edge_pruning.models.image_reader import ImageReader
from edge_pruning.models.shards import Shards
from edge_pruning.models.tracr import Compiled, Tracr, compiled_folder

log = logging.getLogger("edge_pruning")


def load_model(
    name: Any = "bundled",
    tokenizer: Any = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> Model:
    """Load a model: `bundled`, `digits`, a folder, a hub id, or a GGUF file; or a compiled program (`tracr:reverse`).

    name: also a Hugging Face model in memory, with its tokenizer or image processor (or both as a tuple); it keeps its
        device and dtype. A `Model` is returned as it is.
    device: cpu, cuda, mps or auto (the best available); or spread (layers over all GPUs, for a model that is too large
        for one; requires accelerate; compiled programs are not spread).
    dtype: float32 or bfloat16 (float64 for tests).
    trust_remote_code: whether code from the model's repository may run on this machine.

    Raises ValueError: not found, no weights or tokenizer, or an architecture that cannot be run exactly (with the
    reason).
    """
    if not isinstance(name, str | Path):
        ignored = {"revision": revision, "device": device, "dtype": dtype}
        _refuse_ignored({key: value for key, value in ignored.items() if value not in (None, "auto", "float32")})
        return name if isinstance(name, Model) else _from_memory(*_with_tokenizer(name, tokenizer))
    if tokenizer is not None:
        raise ValueError(f"model {name!r} has its own tokenizer; leave out the other one")
    name = checked_name(str(name), revision)
    if dtype not in DTYPES:
        raise ValueError(f"expected dtype {', '.join(DTYPES)}; got {dtype!r}")
    where, compiled = pick_device("auto" if device in (SPREAD, SHARD) else device), compiled_folder(source_of(name))
    if compiled:
        return _compiled_program(name, compiled, where, DTYPES[dtype], revision)
    source = ModelSource.of(name, revision, trust_remote_code=trust_remote_code)
    config = source.configuration()
    family = check_supported(config)
    n_weights = source.without_weights(config, dtype).num_parameters()
    check_fits(name, n_weights // ranks_to_share(device), dtype, where, several=device == SPREAD)
    tokenizer = source.image_reader(config) if family.reads_images else source.tokenizer(config)
    options = _options(family, config, dtype) | (device_map_options() if device == SPREAD else {})
    with in_parts.cut_when_registered(where) if device == SHARD else nullcontext():
        hf = source.weights(family.loader, dtype, **options)
    bits = source.packed.bits(hf.num_parameters()) if source.packed else None
    try:
        whole = fingerprint(hf.named_parameters(), in_parts.sample) if device == SHARD else None
        placed = refuse_offloading(hf) if device == SPREAD else hf if device == SHARD else hf.to(where)
        adapter = adapt(placed)
        if device == SHARD:
            adapter.shards = Shards(placed, adapter.shape.layers, where, in_parts.rows_of(placed))
        model = Model(adapter, tokenizer, name, revision or getattr(config, "_commit_hash", None), bits, whole)
        self_check(model.engine())
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"model {name!r} does not fit on {device} ({reason}); use --dtype bfloat16, --device cpu, a device with "
            "more memory, or several (--device spread)"
        ) from error
    if source.packed:
        log.warning("%s: unpacked from about %s bits per weight; circuits are those of the rounded model", name, bits)
    return model


def _with_tokenizer(given: Any, tokenizer: Any) -> tuple[Any, Any]:
    return given if isinstance(given, tuple) and len(given) == 2 else (given, tokenizer)


def _refuse_ignored(settings: Mapping[str, Any]) -> None:
    if settings:
        asked = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        raise ValueError(f"a model in memory is not converted, so {asked} has no effect; omit it, or use model.to(...)")


def _from_memory(hf: Any, tokenizer: Any) -> Model:
    """Wrap a model that the caller has in memory, as it is."""
    import transformers

    if not isinstance(hf, transformers.PreTrainedModel):
        raise ValueError(
            "expected a model: its name, a folder (a string or a Path), a Hugging Face model with its tokenizer, or "
            f"the result of load_model; got {type(hf).__name__}"
        )
    in_memory.check_usable(hf, tokenizer, DTYPES)
    if check_supported(hf.config).reads_images:
        tokenizer = tokenizer and ImageReader.of(tokenizer, hf.config)
    elif tokenizer is None:
        raise ValueError(f"the model {in_memory.name_of(hf)} needs its tokenizer: load_model(model, tokenizer)")
    else:
        check_tokenizer(tokenizer, hf.config, in_memory.name_of(hf))
    model = Model(adapt(hf), tokenizer, in_memory.name_of(hf))
    try:
        self_check(model.engine())
    except ValueError as error:
        hooks = " It has forward hooks: remove those that change its outputs." if in_memory.is_hooked(hf) else ""
        raise ValueError(f"{error}{hooks}") from None
    return model


def describe_model(
    name: str = "bundled", *, revision: str | None = None, dtype: str = "float32", trust_remote_code: bool = False
) -> Model:
    """Return the model without its weights (they are on the device `meta`), for properties that depend on shapes alone.

    The weights need not exist. The tokenizer is None if there is none. Raises ValueError like `load_model`, and for
    compiled programs, which are small enough to be loaded.
    """
    name = checked_name(name, revision)
    if compiled_folder(source_of(name)):
        raise ValueError(f"{name} is a compiled program: it takes seconds and a few megabytes, and needs no plan")
    source = ModelSource.of(name, revision, trust_remote_code=trust_remote_code)
    config = source.configuration()
    family = check_supported(config)
    _options(family, config, dtype)
    hf = source.without_weights(config, dtype)
    try:
        tokenizer = source.image_reader(config) if family.reads_images else source.tokenizer(config)
    except ValueError:
        tokenizer = None
    return Model(adapt(hf), tokenizer, name, revision)


def _options(family: type[Adapter], config: Any, dtype: str) -> dict[str, Any]:
    """Return options for reading the weights. Raises ValueError if they are quantised."""
    options = {"attn_implementation": family.attn_implementation} if family.attn_implementation else {}
    quantised = getattr(config, "quantization_config", None)
    if quantised is None:  # the fast implementation of experts does not support float64
        return options | ({"experts_implementation": "eager"} if dtype == "float64" else {})
    how = quantised if isinstance(quantised, Mapping) else quantised.to_dict()
    if how.get("quant_method") == "mxfp4":  # only experts are packed, and they can be unpacked on reading
        import transformers

        return options | {"quantization_config": transformers.Mxfp4Config(dequantize=True)}
    raise ValueError(
        f"its weights are quantised ({how.get('quant_method', 'unknown method')}), so gradients and the laws of the "
        "self-check would hold only roughly; load the original model, with --dtype bfloat16 if memory is short"
    )


def _compiled_program(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype, revision: str | None
) -> Model:
    """Load a compiled program. Programs read values, so the program itself takes the place of the tokenizer."""
    compiled = Compiled.load(folder)
    if revision not in (None, compiled.fingerprint):
        raise ValueError(
            f"the compiled program {name!r} has weights {compiled.fingerprint}, not {revision}: it was compiled anew "
            "with other settings"
        )
    model = Model(Tracr(compiled.model.to(device, dtype)), compiled.program, name, compiled.fingerprint)
    self_check(model.engine())
    return model
