"""Load a model that circuits can be found in: from a folder or a hub, untouched, and proven to be run exactly."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from edge_pruning.forward import MaskedPass
from edge_pruning.fused import FusedPass
from edge_pruning.graph import Graph
from edge_pruning.models import Adapter, adapt, check_supported
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.models.parts import PartsAdapter
from edge_pruning.models.tracr import Compiled, Tracr, compiled_folder
from edge_pruning.self_check import self_check

NAMED = {"bundled": BUNDLED}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True)
class Model:
    """A transformer with its tokenizer, and where it came from."""

    adapter: Adapter
    tokenizer: Any
    name: str
    revision: str | None = None

    def engine(self, graph: Graph | None = None) -> MaskedPass:
        """The masked pass over this model, on `graph` (default: one embedding writer, k and v per key-value head)."""
        if isinstance(self.adapter, PartsAdapter):
            return FusedPass(self.adapter, graph)
        return MaskedPass(self.adapter, graph)

    @property
    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, "revision": self.revision, "type": self.adapter.model_type,
                "shape": asdict(self.adapter.shape), "d_model": self.adapter.d_model}


def load_model(
    name: str = "bundled",
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> Model:
    """Load a causal language model: `bundled`, a folder, or a hub id; or a compiled program (`tracr:reverse`).

    device: cpu, cuda, mps or auto (the best there is). dtype: float32 or bfloat16 (float64 for tests). Raises
    ValueError: not found, no weights or tokenizer, an architecture that cannot be run exactly (with the reason).
    """
    source = str(NAMED.get(name, name))
    compiled = compiled_folder(source)
    remote = {"revision": revision, "trust_remote_code": trust_remote_code}
    if dtype not in DTYPES:
        raise ValueError(f"expected dtype {', '.join(DTYPES)}; got {dtype!r}")
    where = pick_device(device)
    if compiled:
        return _compiled_program(name, compiled, where, DTYPES[dtype])
    config = _read(transformers.AutoConfig, name, source, "configuration (config.json)", **remote)
    check_supported(config)
    tokenizer = _read(transformers.AutoTokenizer, name, source, "tokenizer", **remote)
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):  # made up where there is none
        raise ValueError(f"could not load the tokenizer of model {name!r}: it knows no words{_hint(name)}")
    hf = _read(transformers.AutoModelForCausalLM, name, source, "weights", dtype=DTYPES[dtype], **remote)
    model = Model(adapt(hf.to(where)), tokenizer, name, revision or getattr(config, "_commit_hash", None))
    self_check(model.engine())
    return model


def _compiled_program(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """Programs read values, so the program itself stands where other models have a tokenizer."""
    compiled = Compiled.load(folder)
    model = Model(Tracr(compiled.model.to(device, dtype)), compiled.program, name, compiled.fingerprint)
    self_check(model.engine())
    return model


def pick_device(name: str) -> torch.device:
    """The device called cpu, cuda, mps or auto. Raises ValueError where this machine has none of that kind."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(k for k, yes in available.items() if yes)
        raise ValueError(f"device {name!r} is not available here; use one of: auto, {usable}")
    return torch.device(name)


def _read(loader: Any, name: str, source: str, what: str, **options: Any) -> Any:
    """`loader.from_pretrained`, with errors that say which part of the model is missing and what to do."""
    try:
        return loader.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"could not load the {what} of model {name!r}: {reason}{_hint(name)}") from error


def _hint(name: str) -> str:
    path = Path(name)
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        return f" (the folder {name} holds: {found}; expected config.json, tokenizer files and *.safetensors)"
    near = difflib.get_close_matches(name, NAMED, 1)
    nearest = f" Did you mean {near[0]!r}?" if near else ""
    return f" (no such folder, and not found on the hub; bundled models: {', '.join(NAMED)}.{nearest})"
