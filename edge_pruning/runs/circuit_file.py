"""A circuit in a file, with the setup to judge it on: its own model, task and ablation, or others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_pruning.ablation import get_ablation
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats import load as load_circuit
from edge_pruning.formats.conversion import is_foreign
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.own_functions import register_metric
from edge_pruning.provenance import PAIRS_IN_MEMORY
from edge_pruning.runs.result import Run
from edge_pruning.setup import Setup
from edge_pruning.tasks import LONGEST_NAME, get_task

log = logging.getLogger("edge_pruning")


@dataclass(frozen=True, eq=False)
class CircuitFile:
    """A circuit from a file, with the setup to judge it on."""

    path: Path
    circuit: Circuit
    setup: Setup

    @property
    def scores(self) -> EdgeScores:
        """The scores that the circuit was cut from. Raises ValueError if there are none."""
        if self.circuit.scores is None:
            raise ValueError(
                f"{self.path} has no file of scores, which a curve over sizes needs; a run of "
                "`edge-pruning discover` writes them, and `edge-pruning convert` keeps the scores of other tools"
            )
        return self.circuit.scores


def open_circuit(
    given: str | Path | Circuit | Run,
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
    """Load a circuit and the setup to judge it on. Missing arguments are taken from the circuit's own provenance.

    The file may come from another tool (see `formats`), which seldom stores more than the edges. Missing parts of its
    model's shape are then those of the given `model`.

    task, split, data: the pairs (`data`: settings of the task).
    model: another model of the same shape.
    ablation: may differ from the circuit's own. An ablation that needs data takes it from training pairs, whatever the
        split.
    truth: a file with the true circuit of a compiled program; replaces the one in the program's folder.
    seed: seed of all random choices (circuits, resampled prompts, intervals).

    Raises ValueError with all problems: a broken file, unknown names, a circuit of another model.
    """
    load = partial(load_model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    path, shape = _place(given), None
    if isinstance(given, str | Path) and is_foreign(path):  # names neither, and rarely its model's shape
        _refuse_missing(path, task=task, model=model)
        model = model if isinstance(model, Model) else load(model, revision=revision)
        shape = asdict(model.adapter.shape)
    circuit = open_value(given, shape)
    origin = circuit.provenance
    chosen = {
        "task": origin.task if task is None else task,
        "model": origin.model if model is None else model,
        "ablation": ablation or origin.ablation or "patch",
    }
    _refuse_missing(path, **chosen)
    settings = origin.task_settings if task is None or isinstance(task, str) and task == origin.task else {}
    if chosen["task"] == PAIRS_IN_MEMORY:
        raise ValueError(f"{path} was found with pairs in memory; pass them again (task=...), or give a file")
    pairs_of = get_task(chosen["task"], **{**settings, **(data or {})})
    how = get_ablation(str(chosen["ablation"]), seed=seed)
    pairs_of.check_split(split)
    if not isinstance(model, Model):
        same = model is None or isinstance(model, str) and model == origin.model  # only of the own model
        model = load(chosen["model"], revision=revision or (origin.revision if same else None))
    check_model(path, circuit, model)
    name = None if metric is None else register_metric(metric)
    setup = Setup.of(model, pairs_of, how, graph=circuit.graph, split=split, seed=seed, truth=truth, metric=name)
    return CircuitFile(path, circuit, setup)


def _refuse_missing(path: Path, **chosen: Any) -> None:
    missing = [name for name, value in chosen.items() if value is None or value == ""]
    if missing:
        raise ValueError(f"{path} does not name its {', '.join(missing)}; give --{', --'.join(missing)}")


def _place(given: Any) -> Path:
    """Return the path of a circuit; one that is not on disk gets an invented path. Raises ValueError otherwise."""
    if isinstance(given, Run):
        return (given.folder or Path("run")) / "circuit.json"
    if isinstance(given, Circuit):
        return Path("circuit")
    if not isinstance(given, str | Path):
        raise ValueError(f"expected a circuit, a run, or the path of a circuit file; got {type(given).__name__}")
    if len(str(given)) > LONGEST_NAME:
        raise ValueError(f"expected the path of a circuit file, got a string of {len(str(given)):,} characters")
    return Path(given)


def open_value(given: str | Path | Circuit | Run, shape: Mapping[str, Any] | None = None) -> Circuit:
    """Return the circuit of a value, a run or a file (shape: see `formats.load`). Raises ValueError for other types."""
    path = _place(given)
    if isinstance(given, Run):
        return given.circuit
    return given if isinstance(given, Circuit) else load_circuit(path, shape)


def check_model(path: Path, circuit: Circuit, model: Model) -> None:
    """Raise ValueError if the circuit cannot belong to this model; warn if it was found in another one."""
    found_in = circuit.provenance.model
    if circuit.graph.shape != model.adapter.shape:
        raise ValueError(
            f"{path} is a circuit of another model: {found_in or 'unknown'} with {circuit.graph.shape}, but "
            f"{model.name} has {model.adapter.shape}; give the --model that it was found in"
        )
    if found_in is not None and found_in != model.name:
        log.warning("this circuit was found in %s and is evaluated in %s", found_in, model.name)
    weights = circuit.provenance.part("model").get("weights")
    before = weights.get("fingerprint") if isinstance(weights, Mapping) else None
    if found_in == model.name and before not in (None, model.fingerprint):
        log.warning("the weights of %s have changed since this circuit was found in it", model.name)
