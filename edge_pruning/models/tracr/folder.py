"""A compiled program on disk: `config.json`, `model.safetensors`, `inputs.safetensors`.

Nearly all weights are zero, so only the nonzero numbers are stored: under the weight's name, with their indices in the
flattened tensor under `NAME.at`. A program takes a few kilobytes. `inputs.safetensors` holds the outputs of Tracr's own
forward pass on every input (see `inputs.py`), so that anyone can compare them with this module's without JAX.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_pruning import files
from edge_pruning.models.tracr.inputs import Inputs
from edge_pruning.models.tracr.module import TracrTransformer, weight_shapes
from edge_pruning.models.tracr.program import Program
from edge_pruning.registry import nearest_in_words

CONFIG, WEIGHTS, INPUTS = "config.json", "model.safetensors", "inputs.safetensors"
BUNDLED = Path(__file__).parent / "bundled"
PREFIX = "tracr:"


@dataclass(frozen=True, eq=False)
class Compiled:
    """A program, its transformer, and its inputs with Tracr's own outputs. origin: how the program was compiled."""

    program: Program
    model: TracrTransformer
    inputs: Inputs
    origin: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal programs with equal weights. A true circuit belongs to one fingerprint."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self.program)).encode())
        for name in sorted(weight_shapes(self.program)):
            digest.update(self.model.weights[name].float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def parity_error(self) -> float:
        """The largest difference between this module's logits and those of Tracr's own forward pass on the inputs."""
        rows = self.inputs.rows(self.program)
        return max(float((self.model(torch.tensor([tokens]))[0] - logits).abs().max()) for tokens, logits, _ in rows)

    def save(self, folder: str | Path) -> None:
        """Write the folder, its configuration last."""
        folder = Path(folder)
        weights = {name: self.model.weights[name] for name in weight_shapes(self.program)}
        files.write_tensors(folder / WEIGHTS, _sparse(weights))
        files.write_tensors(folder / INPUTS, vars(self.inputs))
        program = {"model_type": Program.model_type, **dataclasses.asdict(self.program)}
        files.write_json(folder / CONFIG, program | {"fingerprint": self.fingerprint, "origin": self.origin})

    @classmethod
    def load(cls, folder: str | Path) -> Compiled:
        """Read what `save` wrote. Raises ValueError with what is missing, truncated or does not fit."""
        folder = Path(folder)
        program, content = read_program(folder)
        weights = _dense(files.read_tensors(folder / WEIGHTS), weight_shapes(program), folder / WEIGHTS)
        inputs = _inputs(files.read_tensors(folder / INPUTS), program, folder / INPUTS)
        compiled = cls(program, TracrTransformer(program, weights), inputs, content.get("origin", {}))
        if compiled.fingerprint != content.get("fingerprint"):
            raise ValueError(f"{folder / WEIGHTS} does not hold the weights that {CONFIG} beside it was written with")
        return compiled


def bundled_programs() -> tuple[str, ...]:
    """The programs that ship with the library, as compiled weights."""
    return tuple(sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}")))


def compiled_folder(name: str) -> Path | None:
    """Where a compiled program lies: `tracr:NAME` is a bundled one, `tracr:PATH` or PATH a folder; None if neither.

    Raises ValueError where the name begins with `tracr:` and there is no such program.
    """
    place = Path(name.removeprefix(PREFIX))
    if name == PREFIX + place.name and place.name in bundled_programs():
        return BUNDLED / place
    if _looks_compiled(place) or (name.startswith(PREFIX) and place.is_dir()):
        return place
    if name.startswith(PREFIX):
        near = nearest_in_words(place.name, bundled_programs())
        raise ValueError(
            f"there is no compiled program {name!r}; {near}; or give a folder that `edge-pruning tracr compile` has "
            "written"
        )
    return None


def _looks_compiled(folder: Path) -> bool:
    """Whether a folder holds a compiled program. A damaged one counts too, so that the error names what is damaged."""
    try:
        content = files.read_json(folder / CONFIG)
    except ValueError:
        return (folder / INPUTS).exists()
    return isinstance(content, dict) and content.get("model_type") == Program.model_type


def read_program(folder: Path) -> tuple[Program, dict[str, Any]]:
    """The program in config.json, and all of the file's content."""
    from edge_pruning.contents import ProgramContent

    content: dict[str, Any] = dict(files.read_json(folder / CONFIG, ProgramContent))
    names = [field.name for field in dataclasses.fields(Program)]
    return Program(**{name: _tuples(content[name]) for name in names}), content


def _tuples(value: Any) -> Any:
    """Turn lists into tuples, which JSON does not have."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _sparse(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    stored: dict[str, Tensor] = {}
    for name, weight in weights.items():
        at = weight.flatten().nonzero().squeeze(1)
        stored |= {name: weight.flatten()[at], f"{name}.at": at.to(torch.int32)}
    return stored


def _dense(stored: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], path: Path) -> dict[str, Tensor]:
    """Raises ValueError with every weight that is missing or does not fit the configuration."""
    weights, problems = {}, []
    for name, shape in shapes.items():
        value, at = stored.get(name), stored.get(f"{name}.at")
        if value is None or at is None:
            problems.append(f"no {name}")
        elif value.shape != at.shape or not _within(at, math.prod(shape)):
            problems.append(f"{name} does not fit into shape {shape}")
        else:
            weights[name] = torch.zeros(math.prod(shape)).index_copy_(0, at.long(), value.float()).view(shape)
    if problems:
        listed = "; ".join(problems)
        raise ValueError(f"{path} does not hold the weights that {CONFIG} beside it was written with: {listed}")
    return weights


def _inputs(stored: dict[str, Tensor], program: Program, path: Path) -> Inputs:
    n, width = len(stored.get("tokens", ())), program.max_length + 1
    expected = {"tokens": (n, width), "logits": (n, width, program.n_outputs), "defined": (n, width)}
    wrong = [name for name, shape in expected.items() if name not in stored or stored[name].shape != shape]
    if wrong:
        raise ValueError(f"{path} does not hold the inputs of the program in {CONFIG} beside it: {', '.join(wrong)}")
    if not _within(stored["tokens"], len(program.tokens)):
        raise ValueError(f"{path}: expected token ids from 0 to {len(program.tokens) - 1}, as {CONFIG} has them")
    return Inputs(**{name: stored[name] for name in expected})


def _within(ids: Tensor, size: int) -> bool:
    return not ids.is_floating_point() and (not ids.numel() or 0 <= int(ids.min()) <= int(ids.max()) < size)
