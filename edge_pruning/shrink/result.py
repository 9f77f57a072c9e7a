"""Smaller models in folders, and how good each is: measured on the folder that was written, opened as a user opens it.

shrink_model("bundled-model", "task", keep=0.5, out="small") -> Shrunk
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from edge_pruning import files
from edge_pruning.drawing.shrink_curve import draw_shrink_curve
from edge_pruning.loading import load_model
from edge_pruning.loading.model_source import ModelSource, checked_name, source_of
from edge_pruning.models.tracr import compiled_folder
from edge_pruning.shrink.config import ShrinkConfig
from edge_pruning.shrink.flops import counts_of
from edge_pruning.shrink.folder import RECORD, check_new, load_shrunk, read_record, save_shrunk
from edge_pruning.shrink.job import Stage, silent
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import check_shrinkable
from edge_pruning.shrink.measuring import flops, inputs_to_time, parameters, quality, seconds_of_models, timed
from edge_pruning.shrink.original import Original, Smaller
from edge_pruning.shrink.running import batches, mean_width, outputs
from edge_pruning.tasks import get_task

ONNX, CURVE = "model.onnx", "curve.svg"
CLOSE = 1e-5  # relative to the largest output: how exactly a folder must hold the model


@dataclass(frozen=True)
class Shrunk:
    """One smaller model.

    folder: where it was written.
    content: its `shrunk.json` (`before`, `after`, ...).
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def is_uniform(self) -> bool:
        """Whether `AutoModel...from_pretrained` opens the folder."""
        return bool(self.content["uniform"])

    def load(self, **options: Any) -> Any:
        """Open the model; options: those of `from_pretrained`."""
        return load_shrunk(self.folder, **options)


def shrink_model(
    model: Any,
    task: Any,
    *,
    keep: float | Sequence[float],
    out: str | Path,
    onnx: bool = False,
    data: Mapping[str, Any] | None = None,
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    stage: Stage = silent,
    **settings: Any,
) -> list[Shrunk]:
    """Make smaller models for a task, one for each `keep`, and measure them beside the original on test pairs.

    model, task: as for `discover`.
    keep: the shares of the FLOPs that stay, above 0 and below 1 (see `ShrinkConfig`).
    out: a new folder. With several shares it holds a folder for each, `keep-SHARE`, and `curve.svg`.
    onnx: also write `model.onnx`, and time it with onnxruntime.
    data: settings of the task.
    device, revision, trust_remote_code: as for `load_model`.
    stage: called with what is being done, the steps done, and all steps.
    settings: the other fields of `ShrinkConfig`.
    Raises ValueError for bad input, before the model is loaded if it can be known by then.
    """
    shares = [keep] if isinstance(keep, int | float) else list(keep)
    configs = _configs(shares, settings)
    folder = Path(out)
    check_new(folder)
    if onnx:
        from edge_pruning.shrink.onnx import check_installed

        check_installed()
    chosen = get_task(task, **(data or {}))
    _check_family(model, revision, trust_remote_code)
    options: dict[str, Any] = {"revision": revision, "device": device, "trust_remote_code": trust_remote_code}
    loaded = load_model(model, **options) if isinstance(model, str | Path) else load_model(model)
    original = Original(loaded, chosen, seed=configs[0].seed)
    places = [folder] if len(configs) == 1 else [folder / f"keep-{config.keep:g}" for config in configs]
    done = [
        made(original, config, place, onnx=onnx, stage=stage) for config, place in zip(configs, places, strict=True)
    ]
    if len(done) > 1:
        title = f"{original.setup.pairs.task} in {original.model.name}, {configs[0].method}"
        files.write_text(folder / CURVE, draw_shrink_curve([one.content for one in done], title=title))
    return done


def made(
    original: Original, config: ShrinkConfig, folder: Path, *, onnx: bool = False, stage: Stage = silent
) -> Shrunk:
    """Make one smaller model, write its folder, and measure it there."""
    smaller = original.shrunk(config, stage)
    record = {"model": original.model.name, "task": original.setup.pairs.task, "config": config.to_json()}
    save_shrunk(smaller.hf, smaller.kept, record, folder, original.companions)
    opened = load_shrunk(folder)
    _check_same(original, smaller, opened, folder)
    content = {**read_record(folder), **measured(original, smaller, opened, stage)}
    if onnx:
        content["onnx"] = measured_onnx(original, opened, folder)
    files.write_json(folder / RECORD, content)
    return Shrunk(folder, content)


def measured(original: Original, smaller: Smaller, opened: Any, stage: Stage = silent) -> dict[str, Any]:
    """What both models cost and how good they are (see `measuring.py`), and what each layer keeps."""
    engine, pairs, sizes = original.setup.engine, original.setup.pairs, original.sizes
    width = mean_width(engine, pairs.pairs)
    layers = layers_left(smaller.kept, width)
    whole = {name: n if isinstance(n, int) else len(n) for name, n in layers_left(Kept.all(sizes), width)[0].items()}
    models = {"before": original.hf, "after": opened}
    stage("measuring", 0, 3)
    inputs = inputs_to_time(engine, pairs)
    costs = {name: {"parameters": parameters(hf), "flops": flops(hf, inputs[0])} for name, hf in models.items()}
    seconds = seconds_of_models(models, inputs)
    stage("measuring", 1, 3)
    found = {name: quality(hf, engine, pairs) for name, hf in models.items()}
    stage("measuring", 3, 3)
    return {
        "examples": len(pairs.pairs),
        "split": pairs.split,
        "predicted": pairs.predicted,
        **{name: {**costs[name], "seconds": seconds[name], **found[name]} for name in models},
        "uniform": smaller.kept.is_uniform,
        "of": {"heads_per_group": sizes.heads_per_group, **whole},
        "layers": layers,
    }


def measured_onnx(original: Original, opened: Any, folder: Path) -> dict[str, Any]:
    """Write `model.onnx`, and time it with onnxruntime beside the original's, which is deleted afterwards."""
    from edge_pruning.shrink.onnx import export_onnx, onnx_runner

    inputs = inputs_to_time(original.setup.engine, original.setup.pairs)
    with tempfile.TemporaryDirectory() as place:
        paths = {"before": Path(place) / ONNX, "after": folder / ONNX}
        for name, hf in (("before", original.hf), ("after", opened)):
            export_onnx(hf, inputs[-1], paths[name])
        seconds = timed({name: onnx_runner(path) for name, path in paths.items()}, inputs)
        sizes = {name: path.stat().st_size for name, path in paths.items()}
    return {name: {"seconds": seconds[name], "bytes": sizes[name]} for name in paths}


def layers_left(kept: Kept, width: int) -> list[dict[str, Any]]:
    """What each layer keeps: the indices of its groups of heads, and how many of everything else."""
    groups = [of_layer.nonzero().flatten().tolist() for of_layer in kept.groups]
    return [{**asdict(counts), "groups": g} for counts, g in zip(counts_of(kept, width), groups, strict=True)]


@torch.no_grad()
def _check_same(original: Original, smaller: Smaller, opened: Any, folder: Path) -> None:
    """Raise RuntimeError if the opened folder's outputs differ from those of the model that was cut."""
    batch = next(batches(original.setup.engine, original.setup.pairs.pairs[:32]))
    expected, found = outputs(smaller.hf, batch), outputs(opened, batch)
    off = float((expected - found).abs().max() / expected.abs().max())
    if off > CLOSE:
        raise RuntimeError(
            f"{folder} does not hold the model that was made: expected outputs equal to {CLOSE:g} of the largest one, "
            f"got a difference of {off:.1e}; do not use it, and report it as a bug"
        )


def _configs(shares: Sequence[float], settings: Mapping[str, Any]) -> list[ShrinkConfig]:
    """One configuration for each share. Raises ValueError if a setting or a share is wrong."""
    known = [name for name in ShrinkConfig.__dataclass_fields__ if name != "keep"]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ValueError(f"there is no setting {', '.join(unknown)}; settings are {', '.join(known)}")
    if not shares or len({*shares}) < len(shares):
        raise ValueError(f"expected different shares to keep, got {', '.join(map(str, shares)) or 'none'}")
    return [ShrinkConfig(keep=share, **settings) for share in shares]


def _check_family(model: Any, revision: str | None, trust_remote_code: bool) -> None:
    """Raise ValueError for a family that cannot be shrunk, before its weights are read."""
    if not isinstance(model, str | Path):
        return
    name = checked_name(str(model), revision)
    if compiled_folder(source_of(name)):
        raise ValueError(f"{name} is a compiled program, which cannot be shrunk: its parts are what its author wrote")
    check_shrinkable(ModelSource.of(name, revision, trust_remote_code=trust_remote_code).configuration())
