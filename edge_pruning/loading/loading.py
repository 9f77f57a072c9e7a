"""Load a model that circuits can be found in: from a folder or a hub, untouched, and proven to be run exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from edge_pruning.graph import Graph
from edge_pruning.loading import in_memory
from edge_pruning.loading.fingerprint import fingerprint, is_sampled
from edge_pruning.loading.gguf import GgufFile, gguf_file
from edge_pruning.loading.pretrained import hint, only_local_files, read, without_weights
from edge_pruning.loading.self_check import self_check
from edge_pruning.loading.spreading import spread, spreading
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.memory import total_and_free
from edge_pruning.models import Adapter, adapt, check_supported
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.models.parts import PartsAdapter
from edge_pruning.models.tracr import Compiled, Tracr, compiled_folder

log = logging.getLogger("edge_pruning")
NAMED = {"bundled": BUNDLED}
SPREAD = "spread"
LONGEST_NAME = 500  # characters; a file system takes fewer
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True, repr=False)
class Model:
    """A transformer with its tokenizer, and where it came from.

    unpacked_bits: how many bits each weight had in the file that it was unpacked from; None where none was packed.
    """

    adapter: Adapter
    tokenizer: Any
    name: str
    revision: str | None = None
    unpacked_bits: float | None = None
    _engines: dict[Graph, MaskedPass] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        shape = self.adapter.shape
        return f"Model({self.name}, {shape.layers} layers of {shape.heads} heads, {self.dtype} on {self.device})"

    def engine(self, graph: Graph | None = None) -> MaskedPass:
        """The masked pass over this model, on `graph` (default: one embedding writer, k and v per key-value head).

        There is one per graph: engines hold memory that the next pass uses again.
        """
        graph = graph or Graph(self.adapter.shape)
        if graph not in self._engines:
            adapter = self.adapter
            engine = FusedPass(adapter, graph) if isinstance(adapter, PartsAdapter) else MaskedPass(adapter, graph)
            self._engines[graph] = engine
        return self._engines[graph]

    @property
    def device(self) -> str:
        """Where it is, as `load_model` takes it."""
        places = {self.adapter.layer_device(layer) for layer in range(self.adapter.shape.layers)}
        return SPREAD if len(places) > 1 else str(self.adapter.device)

    @property
    def dtype(self) -> str:
        """What its weights are kept in, such as `float32`."""
        return str(self.adapter.dtype).removeprefix("torch.")

    @property
    def fingerprint(self) -> str:
        """Which weights these are, as they are now; see `fingerprint.py`."""
        return fingerprint(self.adapter.hf.named_parameters())

    @property
    def provenance(self) -> dict[str, Any]:
        packed = {} if self.unpacked_bits is None else {"weights_unpacked_from_bits": self.unpacked_bits}
        return {"name": self.name, "revision": self.revision, "type": self.adapter.model_type,
                "shape": asdict(self.adapter.shape), "d_model": self.adapter.d_model, **packed,
                "weights": {"fingerprint": self.fingerprint, "sampled": is_sampled(self.adapter.hf.named_parameters())}}


def load_model(
    name: Any = "bundled",
    tokenizer: Any = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> Model:
    """Load a model: `bundled`, a folder, a hub id, or a GGUF file; or a compiled program (`tracr:reverse`).

    name: also a Hugging Face model in memory, with its tokenizer (or both as a tuple); it stays where it is, in its own
    dtype. A `Model` is returned as it is.
    device: cpu, cuda, mps or auto (the best there is); or spread (layers over all GPUs, where one is too small, which
    takes accelerate; a compiled program stays whole).
    dtype: float32 or bfloat16 (float64 for tests).
    trust_remote_code: whether code that comes with the model may run on this machine.
    Raises ValueError: not found, no weights or tokenizer, an architecture that cannot be run exactly (with the reason).
    """
    if not isinstance(name, str | Path):
        ignored = {"revision": revision, "device": device, "dtype": dtype}
        _refuse_ignored({key: value for key, value in ignored.items() if value not in (None, "auto", "float32")})
        return name if isinstance(name, Model) else _from_memory(*_with_tokenizer(name, tokenizer))
    if tokenizer is not None:
        raise ValueError(f"model {name!r} brings its own tokenizer; leave out the other one")
    name = _checked_name(str(name), revision)
    source, remote = str(NAMED.get(name, name)), {"revision": revision, "trust_remote_code": trust_remote_code}
    if dtype not in DTYPES:
        raise ValueError(f"expected dtype {', '.join(DTYPES)}; got {dtype!r}")
    where, compiled = pick_device("auto" if device == SPREAD else device), compiled_folder(source)
    if compiled:
        return _compiled_program(name, compiled, where, DTYPES[dtype], revision)
    packed = gguf_file(source, revision)
    if packed:
        source, remote = packed.source, {**remote, "revision": None, **packed.options}
    if only_local_files(source, revision):
        remote |= {"local_files_only": True}
    config = _configuration(name, source, packed, remote)
    family = check_supported(config)
    _check_fits(name, config, dtype, where, several=device == SPREAD)
    reads_text = family.loader == Adapter.loader
    tokenizer = _tokenizer(name, source, config, remote) if reads_text else None
    options = _options(family, config, dtype)
    if device == SPREAD:
        options |= spreading()
    hf = read(family.loader, name, source, "weights", known=NAMED, dtype=DTYPES[dtype], **options, **remote)
    try:
        placed = spread(hf) if device == SPREAD else hf.to(where)
        bits = packed.bits(hf.num_parameters()) if packed else None
        model = Model(adapt(placed), tokenizer, name, revision or getattr(config, "_commit_hash", None), bits)
        self_check(model.engine())
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"model {name!r} does not fit on {device} ({reason}); use --dtype bfloat16, --device cpu, a device with "
            "more memory, or several (--device spread)"
        ) from error
    if packed:
        log.warning("%s: unpacked from about %s bits per weight; circuits are those of the rounded model", name, bits)
    return model


def _with_tokenizer(given: Any, tokenizer: Any) -> tuple[Any, Any]:
    return given if isinstance(given, tuple) and len(given) == 2 else (given, tokenizer)


def _refuse_ignored(settings: Mapping[str, Any]) -> None:
    if settings:
        asked = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        raise ValueError(f"a model in memory stays as it is, so {asked} has no effect; leave it out, or model.to(...)")


def _from_memory(hf: Any, tokenizer: Any) -> Model:
    """The model of a caller, as it is."""
    import transformers

    if not isinstance(hf, transformers.PreTrainedModel):
        raise ValueError(
            "expected a model: its name, a folder (a text or a Path), a Hugging Face model with its tokenizer, or what "
            f"load_model returns; got {type(hf).__name__}"
        )
    in_memory.check(hf, tokenizer, DTYPES)
    if tokenizer is None and check_supported(hf.config).loader == Adapter.loader:
        raise ValueError(f"the model {in_memory.name_of(hf)} needs its tokenizer: load_model(model, tokenizer)")
    if tokenizer is not None:
        _check_tokenizer(tokenizer, hf.config, in_memory.name_of(hf))
    model = Model(adapt(hf), tokenizer, in_memory.name_of(hf))
    try:
        self_check(model.engine())
    except ValueError as error:
        hooks = " It has forward hooks: remove those that change what it computes." if in_memory.is_hooked(hf) else ""
        raise ValueError(f"{error}{hooks}") from None
    return model


def _checked_name(name: str, revision: str | None) -> str:
    """The name of a model. Raises ValueError for a model that was in memory, and for a revision without effect."""
    if name.endswith(in_memory.IN_MEMORY):
        raise ValueError(
            f"{name}: no file has this model. Hand it over again (model=(model, tokenizer)), or save it with "
            "save_pretrained and give the folder"
        )
    if len(name) > LONGEST_NAME:
        raise ValueError(f"expected the name of a model or a folder, got a text of {len(name):,} characters")
    here = name in NAMED or Path(name).exists()
    if revision is not None and here and not compiled_folder(name):
        raise ValueError(f"model {name!r} is on this machine and has no revision {revision!r}; leave out --revision")
    return name


def describe_model(
    name: str = "bundled", *, revision: str | None = None, dtype: str = "float32", trust_remote_code: bool = False
) -> Model:
    """The model without its weights (they are on the device `meta`), for what follows from shapes alone.

    The weights need not be there. The tokenizer is None where there is none. Raises ValueError like `load_model`, and
    for compiled programs, which are small enough to be loaded.
    """
    name = _checked_name(name, revision)
    source, remote = str(NAMED.get(name, name)), {"revision": revision, "trust_remote_code": trust_remote_code}
    if compiled_folder(source):
        raise ValueError(f"{name} is a compiled program: it takes seconds and a few megabytes, and needs no plan")
    packed = gguf_file(source, revision)
    if packed:
        source, remote = packed.source, {**remote, "revision": None, **packed.options}
    if only_local_files(source, revision):
        remote |= {"local_files_only": True}
    config = _configuration(name, source, packed, remote)
    _options(check_supported(config), config, dtype)
    hf = _without_weights(name, config, dtype)
    try:
        tokenizer = _tokenizer(name, source, config, remote)
    except ValueError:
        tokenizer = None
    return Model(adapt(hf), tokenizer, name, revision)


def weights_at_hand(name: str, revision: str | None = None) -> bool:
    """Whether a model's weights are on this machine already."""
    from huggingface_hub import try_to_load_from_cache

    source = str(NAMED.get(name, name))
    if Path(source).exists():
        return Path(source).is_file() or any(Path(source).glob("*.safetensors"))
    files = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(source, file, revision=revision), str) for file in files)


def _without_weights(name: str, config: Any, dtype: str) -> Any:
    """The model with empty weights on the device `meta`; takes no memory."""
    with torch.device("meta"):
        return without_weights(check_supported(config).loader, config, name, DTYPES[dtype], known=NAMED)


def _check_fits(name: str, config: Any, dtype: str, device: torch.device, *, several: bool) -> None:
    """Raises ValueError for a model whose weights alone are larger than the memory of the device (or of all GPUs)."""
    places = [torch.device(device.type, i) for i in range(torch.cuda.device_count())] if several else [device]
    have = sum(total_and_free(place)[0] for place in places or [device])
    weights = _without_weights(name, config, dtype).num_parameters()
    need = {kind: weights * DTYPES[kind].itemsize for kind in (dtype, "bfloat16")}
    if need[dtype] > have:
        smaller = f"--dtype bfloat16 (then {need['bfloat16'] / 1e9:.1f} GB), " if dtype != "bfloat16" else ""
        raise ValueError(
            f"model {name!r} does not fit: its {weights / 1e9:.1f} billion weights take {need[dtype] / 1e9:.1f} GB in "
            f"{dtype}, {'all GPUs together have' if several else f'{device} has'} {have / 1e9:.1f} GB. Use {smaller}a "
            "device with more memory, several (--device spread), or a smaller model. `edge-pruning plan` says what a "
            "run needs"
        )


def _configuration(name: str, source: str, packed: GgufFile | None, remote: Mapping[str, Any]) -> Any:
    if packed:
        return packed.configuration()
    return read("AutoConfig", name, source, "configuration (config.json)", known=NAMED, **remote)


def _tokenizer(name: str, source: str, config: Any, remote: Mapping[str, Any]) -> Any:
    """The model's tokenizer. Raises ValueError if it knows no words, or words that the model does not."""
    tokenizer = read("AutoTokenizer", name, source, "tokenizer", known=NAMED, **remote)
    _check_tokenizer(tokenizer, config, name)
    return tokenizer


def _check_tokenizer(tokenizer: Any, config: Any, name: str) -> None:
    ids, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()  # each call makes a dictionary of all words
    if set(ids.values()) <= set(tokenizer.all_special_ids):  # made up where there is none
        raise ValueError(f"could not load the tokenizer of model {name!r}: it knows no words{hint(name, NAMED)}")
    rows, own = config.vocab_size, ids.keys() - added.keys()
    beyond = sum(ids[word] >= rows for word in own)  # added ones may lie beyond; no text has them
    if beyond:
        raise ValueError(
            f"the tokenizer of model {name!r} belongs to another model: {beyond:,} of its {len(own):,} tokens have ids "
            f"beyond the {rows:,} that the model knows. Give the folder of the right model, or replace tokenizer files"
        )
    if len(own) < rows / 2:
        log.warning(
            "the tokenizer of model %r has %s tokens, the model %s: is it this model's?", name, f"{len(own):,}",
            f"{rows:,}",
        )


def _options(family: type[Adapter], config: Any, dtype: str) -> dict[str, Any]:
    """How the weights are to be read. Raises ValueError if they are quantised."""
    options = {"attn_implementation": family.attn_implementation} if family.attn_implementation else {}
    quantised = getattr(config, "quantization_config", None)
    if quantised is None:  # the fast way to run experts has no float64
        return options | ({"experts_implementation": "eager"} if dtype == "float64" else {})
    how = quantised if isinstance(quantised, Mapping) else quantised.to_dict()
    if how.get("quant_method") == "mxfp4":  # experts only, and they can be unpacked on reading
        import transformers

        return options | {"quantization_config": transformers.Mxfp4Config(dequantize=True)}
    raise ValueError(
        f"its weights are quantised ({how.get('quant_method', 'unknown method')}), so gradients and the laws of the "
        "self-check would hold only roughly; load the original model, with --dtype bfloat16 if memory is short"
    )


def _compiled_program(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype, revision: str | None
) -> Model:
    """Programs read values, so the program itself stands where other models have a tokenizer."""
    compiled = Compiled.load(folder)
    if revision not in (None, compiled.fingerprint):
        raise ValueError(
            f"the compiled program {name!r} has weights {compiled.fingerprint}, not {revision}: it was compiled anew "
            "with other settings"
        )
    model = Model(Tracr(compiled.model.to(device, dtype)), compiled.program, name, compiled.fingerprint)
    self_check(model.engine())
    return model


def pick_device(name: str) -> torch.device:
    """The one device called cpu, cuda, mps or auto. Raises ValueError where this machine has none of that kind."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(k for k, yes in available.items() if yes)
        raise ValueError(f"device {name!r} is not available here; use one of: auto, {usable}, {SPREAD}")
    return torch.device(name)
