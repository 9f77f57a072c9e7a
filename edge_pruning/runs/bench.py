"""What a circuit from a file is judged on: the model, task and ablation it came from, or others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edge_pruning.ablation import Ablation, get_ablation
from edge_pruning.circuit import Circuit, EdgeScores
from edge_pruning.formats import load as load_circuit
from edge_pruning.loading.loading import Model, load_model
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks import PairSet, get_task
from edge_pruning.truth.truth import Truth
from edge_pruning.truth.truths import truth_for

log = logging.getLogger("edge_pruning")


@dataclass(frozen=True, eq=False)
class Bench:
    """A circuit, and all that it takes to measure it."""

    path: Path
    circuit: Circuit
    engine: MaskedPass
    pairs: PairSet
    ablation: Ablation
    seed: int
    truth: Truth | None = None

    @classmethod
    def of(
        cls,
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
    ) -> Self:
        """What is not given is taken from the circuit's own provenance. The file may be another tool's (see `formats`),
        which seldom says more than the edges.

        task, split, data: which pairs (`data`: settings of the task). model: where another one of the same shape is
        meant. ablation: also another one than the circuit was found under; those that need data take it from training
        pairs, whatever the split. truth: a file with the true circuit, of a compiled program whose own folder has none
        (or another one). seed: of all that is drawn at random (circuits, resampled prompts, intervals). Raises
        ValueError with everything that is wrong: a broken file, unknown names, a circuit of another model.
        """
        circuit = load_circuit(path)
        origin = Origin(circuit, Path(path))
        chosen = {"task": task or origin.task, "model": model or origin.model, "ablation": ablation or origin.ablation}
        missing = [name for name, value in chosen.items() if not value]
        if missing:
            raise ValueError(
                f"{path} does not say which {', '.join(missing)} it belongs to; give --{', --'.join(missing)}"
            )
        settings = origin.task_settings if task in (None, origin.task) else {}
        pairs_of = get_task(str(chosen["task"]), **{**settings, **(data or {})})
        how = get_ablation(str(chosen["ablation"]), seed=seed)
        pairs_of.check_split(split)
        if not isinstance(model, Model):
            revision = revision or origin.revision(model)
            model = load_model(
                str(chosen["model"]), revision=revision, device=device, dtype=dtype, trust_remote_code=trust_remote_code
            )
        origin.check(model)
        longest = model.adapter.max_length
        pairs = pairs_of.pairs(model.tokenizer, split, max_length=longest)
        engine = model.engine(circuit.graph)
        if how.needs_pairs:  # never held-out ones
            how = how.fitted(engine, pairs_of.pairs(model.tokenizer, "train", max_length=longest).pairs)
        known = truth_for(model, how.name, circuit.graph, truth)
        return cls(Path(path), circuit, engine, pairs, how, seed, known)

    @property
    def scores(self) -> EdgeScores:
        """Those that the circuit was cut from. Raises ValueError where there are none."""
        if self.circuit.scores is None:
            raise ValueError(
                f"{self.path} has no scores beside it, so there is one circuit and no curve over sizes; a run of "
                "`edge-pruning discover` writes them, and `edge-pruning convert` keeps those of other tools"
            )
        return self.circuit.scores


class Origin:
    """What a circuit's provenance says about where it came from; None where it says nothing."""

    def __init__(self, circuit: Circuit, path: Path) -> None:
        self.circuit, self.path, self.provenance = circuit, path, circuit.provenance
        self.task, self.model = self._part("task").get("name"), self._part("model").get("name")
        self.ablation: str = self.provenance.get("ablation") or "patch"

    @property
    def task_settings(self) -> dict[str, Any]:
        return dict(self._part("task").get("settings", {}))

    def revision(self, model: str | None) -> str | None:
        """The revision it was found in; of another model it says nothing."""
        revision: str | None = self._part("model").get("revision") if model in (None, self.model) else None
        return revision

    def check(self, model: Model) -> None:
        """Raises ValueError if the circuit cannot be one of this model."""
        if self.circuit.graph.shape != model.adapter.shape:
            raise ValueError(
                f"{self.path} is a circuit of another model: {self.model or 'unknown'} with "
                f"{self.circuit.graph.shape}, but {model.name} has {model.adapter.shape}; "
                "give the --model it was found in"
            )
        if self.model is not None and self.model != model.name:
            log.warning("this circuit was found in %s and is evaluated in %s", self.model, model.name)

    def _part(self, name: str) -> Mapping[str, Any]:
        value = self.provenance.get(name)
        return value if isinstance(value, Mapping) else {}
