"""A circuit in a file, and what it is judged on: the model, task and ablation that it came from, or others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_pruning.ablation import get_ablation
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats import load as load_circuit
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.own_functions import register_metric
from edge_pruning.runs.result import Run
from edge_pruning.setup import Setup
from edge_pruning.tasks import LONGEST_NAME, get_task
from edge_pruning.tasks.own.own_pairs import IN_MEMORY

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
    path: str | Path | Circuit | Run,
    *,
    task: Any = None,
    model: Any = None,
    revision: str | None = None,
    ablation: str | None = None,
    split: str = "test",
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    truth: Path | None = None,
    metric: Callable[..., Any] | None = None,
) -> CircuitFile:
    """Load a circuit and what to judge it on. What is not given is taken from the circuit's own provenance.

    The file may be another tool's (see `formats`), which seldom says more than the edges.

    task, split, data: which pairs (`data`: settings of the task). model: where another one of the same shape is meant.
    ablation: also another one than the circuit was found under; those that need data take it from training pairs,
    whatever the split. truth: a file with the true circuit, of a compiled program whose own folder has none (or another
    one). seed: of all that is drawn at random (circuits, resampled prompts, intervals). Raises ValueError with
    everything that is wrong: a broken file, unknown names, a circuit of another model.
    """
    path, circuit = _loaded(path)
    origin = circuit.provenance
    chosen = {
        "task": origin.task if task is None else task,
        "model": origin.model if model is None else model,
        "ablation": ablation or origin.ablation or "patch",
    }
    missing = [name for name, value in chosen.items() if value is None or value == ""]
    if missing:
        raise ValueError(f"{path} does not say which {', '.join(missing)} it belongs to; give --{', --'.join(missing)}")
    settings = origin.task_settings if task is None or isinstance(task, str) and task == origin.task else {}
    if chosen["task"] == IN_MEMORY:
        raise ValueError(f"{path} was found with pairs in memory; hand them over again (task=...), or give a file")
    pairs_of = get_task(chosen["task"], **{**settings, **(data or {})})
    how = get_ablation(str(chosen["ablation"]), seed=seed)
    pairs_of.check_split(split)
    if not isinstance(model, Model):
        same = model is None or isinstance(model, str) and model == origin.model  # of another one it says nothing
        model = load_model(
            chosen["model"], revision=revision or (origin.revision if same else None), device=device, dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
    check_model(path, circuit, model)
    name = None if metric is None else register_metric(metric)
    setup = Setup.of(model, pairs_of, how, graph=circuit.graph, split=split, seed=seed, truth=truth, metric=name)
    return CircuitFile(path, circuit, setup)


def _loaded(given: Any) -> tuple[Path, Circuit]:
    """A circuit and where it lies; what is not on disk is called by a made-up name. Raises ValueError."""
    if isinstance(given, Run):
        return (given.folder or Path("run")) / "circuit.json", given.circuit
    if isinstance(given, Circuit):
        return Path("circuit"), given
    if not isinstance(given, str | Path):
        raise ValueError(f"expected a circuit, a run, or the path of a circuit file; got {type(given).__name__}")
    if len(str(given)) > LONGEST_NAME:
        raise ValueError(f"expected the path of a circuit file, got a string of {len(str(given)):,} characters")
    return Path(given), load_circuit(Path(given))


def open_value(given: str | Path | Circuit | Run) -> Circuit:
    """The circuit of a value, a run or a file. Raises ValueError for anything else."""
    return _loaded(given)[1]


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
    weights = circuit.provenance.part("model").get("weights")
    before = weights.get("fingerprint") if isinstance(weights, Mapping) else None
    if found_in == model.name and before not in (None, model.fingerprint):
        log.warning("the weights of %s have changed since this circuit was found in it", model.name)
