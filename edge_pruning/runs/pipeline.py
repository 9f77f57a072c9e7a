"""From a task and a model to a circuit: load, find, cut, evaluate on held-out pairs, write down.

This file reads as the table of contents of a run. Splits are kept apart: scores are found on training pairs, the size
(if it was left open) is chosen on validation pairs, and test pairs are only for the report.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.circuit import Circuit, EdgeScores
from edge_pruning.discovery import Observer, Search, polish
from edge_pruning.evaluation import evaluate
from edge_pruning.evaluation.measure import measure
from edge_pruning.evaluation.measured import Measured
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import Model, load_model
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.provenance import library_versions
from edge_pruning.runs.checkpoints import Memory, Recorder
from edge_pruning.runs.config import RunConfig, differences
from edge_pruning.runs.folder import RunFolder
from edge_pruning.runs.result import Cut, Run
from edge_pruning.runs.sizes import (
    EXACT_RULE,
    RULE,
    default_sizes,
    evaluated_row,
    requested_sizes,
    scanned_row,
    smallest_faithful,
)
from edge_pruning.tasks import PairSet
from edge_pruning.truth.outputs import Outputs
from edge_pruning.truth.truth import Truth
from edge_pruning.truth.truths import truth_for

log = logging.getLogger("edge_pruning")


class RunObserver(Observer):
    """Watches a whole run: besides the steps of the method, what it is doing now."""

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        """`words`: what is being done; `done` of `total` where that is known."""


def discover(
    task: str,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    model: str | Model | None = None,
    draw: bool = True,
    observer: RunObserver | None = None,
    **settings: Any,
) -> Run:
    """Find the circuit that does a task, and measure it on held-out pairs.

    task: a name such as "ioi", or a path to your own pairs (.jsonl). out: the run folder; None leaves nothing on disk.
    resume: continue a killed run (settings that are not given are the run's own). overwrite: replace the run in that
    folder. model: "bundled", a folder, a hub id, or one that is loaded already.

    settings: the fields of `RunConfig` (edges=100, sparsity=0.97, method=..., ablation=..., seed=...), the method's own
    (steps=300, batch_size=16, ...) and the task's (train=200, test=500). Raises ValueError with everything that is
    wrong, OSError if a file cannot be written, `discovery.Diverged` if the loss is not finite.
    """
    given = {"task": task, **settings, **named(model)}
    folder = None if out is None else RunFolder(out, resume=resume, overwrite=overwrite)
    config, stored = checked_settings(given, folder if resume else None)
    if stored and folder and folder.finished:
        return _again(folder.path, draw)
    watch = observer or RunObserver()
    watch.stage("loading the model")
    place = Workplace.of(config, model if isinstance(model, Model) else None)
    if folder is None:
        return judge(place, find_scores(place, None, watch), watch)
    refuse_differences(folder.path, stored and _identity(stored), _identity(place.description))
    folder.begin({"settings": config.to_json(), **place.description}, resume=resume)
    try:
        found = find_scores(place, folder.path, watch)
        return _saved(judge(place, found, watch), folder.path, draw, watch)
    except ValueError:  # settings that only the method can judge
        if not stored:
            folder.withdraw()
        raise
    finally:
        folder.release()


def named(model: str | Model | None) -> dict[str, str]:
    """The model as a setting, if it is one."""
    return {} if model is None else {"model": model.name if isinstance(model, Model) else model}


def checked_settings(given: Mapping[str, Any], folder: RunFolder | None) -> tuple[RunConfig, Mapping[str, Any] | None]:
    """The run's settings, and config.json of the run that is resumed, if there is one. Refuses other settings."""
    stored = folder.config if folder else None
    config = RunConfig.of(given, stored and stored["settings"])
    if stored and folder:
        refuse_differences(folder.path, RunConfig(**stored["settings"]).to_json(), config.to_json())
    return config, stored


def refuse_differences(path: Path, stored: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Raises ValueError if a run that is to be resumed was made with other settings."""
    found = differences(stored, now) if stored else []
    if found:
        raise ValueError(
            f"{path} is a run with other settings, so it cannot be resumed with these: {'; '.join(found)}. Leave out "
            "what differs, choose another folder with --out, or start again with --overwrite"
        )


def _identity(description: Mapping[str, Any]) -> dict[str, Any]:
    """What must not have changed when a run is resumed, besides its settings; as JSON values."""
    chosen: dict[str, Any] = json.loads(json.dumps({name: description[name] for name in ("model", "method", "data")}))
    return chosen


def _again(path: Path, draw: bool) -> Run:
    run = Run.load(path)
    if draw and not (path / "circuit.svg").exists():
        run.save_pictures(path)
    return run


def _saved(run: Run, path: Path, draw: bool, watch: RunObserver) -> Run:
    run.save(path)
    if draw:
        watch.stage("drawing")
        run.save_pictures(path)
    return replace(run, folder=path)


# --- the parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Workplace:
    """A loaded model and a task's pairs as its tokens, under the settings of a run."""

    config: RunConfig
    model: Model
    train: PairSet
    test: PairSet
    sizes: tuple[int, ...]  # what was asked for; may be empty

    @classmethod
    def of(cls, config: RunConfig, model: Model | None = None) -> Workplace:
        model = model or _load(config, config.device, config.dtype)
        sizes = requested_sizes(config.graph(model.adapter.shape), config.edges, config.sparsity)
        train, test = (_pairs(config, model, split) for split in ("train", "test"))
        place = cls(config, model, train, test, sizes)
        if len(sizes) > 1 or (not sizes and config.method_value.one_run_ranks_all):
            _ = place.validation  # a size will be chosen on it: better to miss it now than after the search
        return place

    @cached_property
    def engine(self) -> MaskedPass:
        return self.model.engine(self.graph)

    @property
    def graph(self) -> Graph:
        return self.config.graph(self.model.adapter.shape)

    @cached_property
    def float32_engine(self) -> MaskedPass:
        """The engine for final numbers: in float32, whatever the scores were found in."""
        if self.model.adapter.dtype in (torch.float32, torch.float64):
            return self.engine
        return _load(self.config, self.model.device, "float32").engine(self.graph)

    @cached_property
    def ablation(self) -> Ablation:
        """What a removed edge carries in `engine`; where that takes data, it is the training pairs'."""
        return self.config.ablation_value.fitted(self.engine, self.train.pairs)

    @cached_property
    def float32_ablation(self) -> Ablation:
        return self.config.ablation_value.fitted(self.float32_engine, self.train.pairs)

    @cached_property
    def truth(self) -> Truth | None:
        """The true circuit, where the model is a compiled program."""
        return truth_for(self.model, self.config.ablation, self.graph)

    @cached_property
    def validation(self) -> PairSet:
        return _pairs(self.config, self.model, "validation")

    @property
    def description(self) -> dict[str, Any]:
        """What the settings were resolved to, for config.json and for the circuits' provenance."""
        config, method = self.config, self.config.method_value
        data = {pairs.split: {"pairs": len(pairs.pairs), "hash": pairs.hash} for pairs in (self.train, self.test)}
        return {
            "model": self.model.provenance,
            "task": {"name": config.task, "settings": dict(config.data)},
            "data": data,
            "method": {"name": method.name, "preset": config.preset, "settings": vars(method)},
            "ablation": config.ablation,
            "graph": {"convention": self.graph.convention, "edges_total": self.graph.n_edges},
            "seed": config.seed,
            "dtype": config.dtype,
            "versions": library_versions(),
        }


def _load(config: RunConfig, device: str, dtype: str) -> Model:
    trust = config.trust_remote_code
    return load_model(config.model, revision=config.revision, device=device, dtype=dtype, trust_remote_code=trust)


def _pairs(config: RunConfig, model: Model, split: str) -> PairSet:
    return config.task_value.pairs(model.tokenizer, split, max_length=model.adapter.max_length)


@dataclass(frozen=True, eq=False)
class Found:
    """What one training has found: scores, its records, and the sizes that circuits are cut to."""

    part: str
    scores: EdgeScores
    records: Sequence[Mapping[str, float]]
    sizes: tuple[int, ...]


def find_scores(place: Workplace, folder: Path | None, watch: RunObserver) -> list[Found]:
    """Run the method: once, or once per size if it aims at one."""
    method = place.config.method_value
    once = method.one_run_ranks_all or len(place.sizes) <= 1
    parts = {"": place.sizes} if once else {f"-{k}": (k,) for k in place.sizes}
    return [_train(place, folder, part, sizes, watch) for part, sizes in parts.items()]


def _train(place: Workplace, folder: Path | None, part: str, sizes: tuple[int, ...], watch: RunObserver) -> Found:
    config = place.config
    watch.stage("finding the circuit" + (f" of {sizes[0]:,} edges" if part else ""))
    identity = json.dumps({"settings": config.to_json(), **_identity(place.description)}, sort_keys=True)
    memory = Memory(watch) if folder is None else Recorder(folder, part, identity, watch)
    scores = config.method_value.find(Search(place.engine, place.train, place.ablation, sizes, observer=memory))
    natural = () if scores.natural_size is None else (scores.natural_size,)
    if not (sizes or natural) and config.task_value.exact:
        natural = (_fewest(place, scores),)
    return Found(part, scores, memory.records, sizes or natural or default_sizes(place.graph, scores.n_candidates))


def _fewest(place: Workplace, scores: EdgeScores) -> int:
    """See `EXACT_RULE`."""
    found = Outputs(place.float32_engine, place.train, place.float32_ablation).smallest_size(scores)
    return scores.n_candidates if found is None else found


def judge(place: Workplace, found: Sequence[Found], watch: RunObserver) -> Run:
    """Cut circuits, choose one on validation pairs if there are several, and evaluate on test pairs.

    Sizes that were asked for are all evaluated. Where the size was left open, only the chosen one is.
    """
    cuts = [(part, size) for part in found for size in part.sizes]
    circuits = [_cut(place, part.scores, size) for part, size in cuts]
    if place.config.polish and place.sizes:
        circuits = [_polished(place, circuit, watch) for circuit in circuits]
    scanned, chosen = _choose(place, circuits, watch)
    if place.config.polish and not place.sizes:  # all of them would cost more than the search
        circuits[chosen] = _polished(place, circuits[chosen], watch)
        scanned[chosen : chosen + 1] = _scan(place, [circuits[chosen].mask], watch) if scanned else []
    done = []
    for i, ((part, _), circuit) in enumerate(zip(cuts, circuits, strict=True)):
        evaluated = _evaluate(place, circuit, part.scores, watch) if place.sizes or i == chosen else None
        row = scanned_row(circuit, scanned[i]) if scanned and not place.sizes else None
        if row is None and evaluated is not None:
            row = evaluated_row(evaluated, scanned[i] if scanned else None)
        done.append(Cut(circuit, evaluated, row or {}, part.part))
    training = {part.part: part.records for part in found}
    config = {"settings": place.config.to_json(), **place.description}
    return Run(tuple(done), chosen, training, config, place.train.notices)


def _cut(place: Workplace, scores: EdgeScores, size: int) -> Circuit:
    provenance = {**place.description, "requested": list(place.sizes)}
    if not place.sizes and scores.natural_size is None:
        provenance["size_rule"] = EXACT_RULE if place.config.task_value.exact else RULE
    return Circuit.from_scores(scores, edges=size, provenance=provenance)


def _choose(
    place: Workplace, circuits: Sequence[Circuit], watch: RunObserver
) -> tuple[list[Measured], int]:
    """What every circuit scores on validation pairs, and which of them is the run's; one needs no choice."""
    if len(circuits) == 1:
        return [], 0
    masks = [*(circuit.mask for circuit in circuits), torch.zeros_like(circuits[0].mask)]
    *scanned, empty = _scan(place, masks, watch)
    return scanned, smallest_faithful([run.mean_loss for run in scanned], empty.mean_loss)


def _scan(place: Workplace, masks: Sequence[Tensor], watch: RunObserver) -> list[Measured]:
    """What each mask scores, at one masked pass; error bars and rivals are for the circuit that is chosen."""
    progress = partial(watch.stage, "choosing the size")
    _, found = measure(place.float32_engine, masks, place.validation, place.float32_ablation, progress)
    return [found.one(i) for i in range(len(masks))]


def _polished(place: Workplace, circuit: Circuit, watch: RunObserver) -> Circuit:
    """Swapped edges, judged on training pairs."""
    watch.stage(f"polishing {len(circuit):,} edges")
    return polish(circuit, place.float32_engine, place.train, place.float32_ablation)


def _evaluate(place: Workplace, circuit: Circuit, scores: EdgeScores, watch: RunObserver) -> dict[str, Any]:
    config, size = place.config, len(circuit)
    return evaluate(
        circuit, place.float32_engine, place.test, place.float32_ablation,
        soft_mask=config.method_value.soft_mask(scores, size), truth=place.truth, seed=config.seed,
        progress=partial(watch.stage, f"evaluating {size:,} edges"),
    ).to_json()
