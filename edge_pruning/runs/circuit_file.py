"""A circuit in a file, and what it is judged on: the model, task and ablation that it came from, or others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_pruning.ablation import get_ablation
from edge_pruning.circuit import Circuit, EdgeScores
from edge_pruning.formats import load as load_circuit
from edge_pruning.loading.loading import Model, load_model
from edge_pruning.setup import Setup
from edge_pruning.tasks import get_task

log = logging.getLogger("edge_pruning")


@dataclass(frozen=True, eq=False)
class CircuitFile:
    """A circuit from a file, with the setup to judge it on."""

    path: Path
    circuit: Circuit
    setup: Setup

    @property
    def scores(self) -> EdgeScores:
        """Those that the circuit was cut from. Raises ValueError where there are none."""
        if self.circuit.scores is None:
            raise ValueError(
                f"{self.path} has no scores beside it, so there is one circuit and no curve over sizes; a run of "
                "`edge-pruning discover` writes them, and `edge-pruning convert` keeps those of other tools"
            )
        return self.circuit.scores


def open_circuit(
    path: str | Path,
    *,
    task: str | None = None,
    model: str | Model | None = None,
    revision: str | None = None,
    ablation: str | None = None,
    split: str = "test",
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    truth: Path | None = None,
) -> CircuitFile:
    """Load a circuit and what to judge it on. What is not given is taken from the circuit's own provenance.

    The file may be another tool's (see `formats`), which seldom says more than the edges.

    task, split, data: which pairs (`data`: settings of the task). model: where another one of the same shape is meant.
    ablation: also another one than the circuit was found under; those that need data take it from training pairs,
    whatever the split. truth: a file with the true circuit, of a compiled program whose own folder has none (or another
    one). seed: of all that is drawn at random (circuits, resampled prompts, intervals). Raises ValueError with
    everything that is wrong: a broken file, unknown names, a circuit of another model.
    """
    path = Path(path)
    circuit = load_circuit(path)
    origin = circuit.provenance
    chosen = {
        "task": task or origin.task,
        "model": model or origin.model,
        "ablation": ablation or origin.ablation or "patch",
    }
    missing = [name for name, value in chosen.items() if not value]
    if missing:
        raise ValueError(f"{path} does not say which {', '.join(missing)} it belongs to; give --{', --'.join(missing)}")
    settings = origin.task_settings if task in (None, origin.task) else {}
    pairs_of = get_task(str(chosen["task"]), **{**settings, **(data or {})})
    how = get_ablation(str(chosen["ablation"]), seed=seed)
    pairs_of.check_split(split)
    if not isinstance(model, Model):
        same = model in (None, origin.model)  # of another model the circuit's revision says nothing
        model = load_model(
            str(chosen["model"]), revision=revision or (origin.revision if same else None), device=device, dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
    check_model(path, circuit, model)
    setup = Setup.of(model, pairs_of, how, graph=circuit.graph, split=split, seed=seed, truth=truth)
    return CircuitFile(path, circuit, setup)


def check_model(path: Path, circuit: Circuit, model: Model) -> None:
    """Raises ValueError if the circuit cannot be one of this model; warns if it was found in another."""
    found_in = circuit.provenance.model
    if circuit.graph.shape != model.adapter.shape:
        raise ValueError(
            f"{path} is a circuit of another model: {found_in or 'unknown'} with {circuit.graph.shape}, but "
            f"{model.name} has {model.adapter.shape}; give the --model it was found in"
        )
    if found_in is not None and found_in != model.name:
        log.warning("this circuit was found in %s and is evaluated in %s", found_in, model.name)
