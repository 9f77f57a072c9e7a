"""From cells to two submissions: the ranking with the best CPR of each cell, and the one with the best CMD.

CPR rewards circuits that do more than the model, CMD those that do the same, so one ranking seldom wins both. Each
method ranks the edges with training rows, and the rankings are compared on rows of the same split that were kept back:
the benchmark's validation and test rows are never read. Edges are scored per key-value head, as the model computes, and
written per query head, as the benchmark counts.

    OUT/cpr/edge/TASK_MODEL/importances.pt     the submission for CPR, ready to be uploaded
    OUT/cmd/edge/TASK_MODEL/importances.pt     the one for CMD
    OUT/report.json                            CPR and CMD of every method, and which was taken
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_pruning import files
from edge_pruning.ablation import get_ablation
from edge_pruning.circuit import Circuit
from edge_pruning.discovery import METHODS, Method, Search, get_method, get_preset
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import evaluate_curve
from edge_pruning.evaluation.curve_numbers import mib_sizes
from edge_pruning.formats.eap_ig_tensors import content_of
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.mib.cells import MODELS, TASKS, Cell
from edge_pruning.mib.rules import FILE
from edge_pruning.provenance import Provenance
from edge_pruning.recount import recount
from edge_pruning.setup import Setup

METRICS = {"cpr": max, "cmd": min}
SIGNED = "eap-ig-signed"
DEFAULT_METHODS = (SIGNED, "eap-ig", "default")  # `default` is the preset
FORMAT, FORMAT_VERSION = "edge-pruning/mib", 1
Stage = Callable[[str], None]


@dataclass(frozen=True)
class Submission:
    """What was written. report: for each cell the areas of every method, and the method that was taken for each."""

    out: Path
    report: Mapping[str, Any]

    def folder(self, metric: str) -> Path:
        """The folder to upload for `cpr` or `cmd`."""
        return self.out / metric


def submit(
    cells: Sequence[Cell],
    out: str | Path,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    models: Mapping[str, Any] | None = None,
    data: Mapping[str, str] | None = None,
    train: int | None = 200,
    seed: int = 0,
    device: str = "auto",
    stage: Stage = lambda words: None,
) -> Submission:
    """Rank the edges of every cell and write both submissions. Cells that are written already are kept.

    methods: names of methods or presets, and `eap-ig-signed`. models: by MIB's name, what to load instead (a folder, a
    loaded model). data: by MIB's name of a task, a file or folder with the dataset's columns instead of the hub.
    train: at most so many training rows. Raises ValueError before the work for unknown names.
    """
    rankers = {name: _method(name, seed) for name in methods}
    for kind, given, known in (("model", models or {}, MODELS), ("task", data or {}, TASKS)):
        if unknown := sorted(given.keys() - known):
            raise ValueError(f"MIB has no {kind} {', '.join(unknown)}; there are {', '.join(known)}")
    out = Path(out)
    report = _stored(out)
    loaded: dict[str, Model] = {}
    for cell in cells:
        if cell.folder in report["cells"] and all(_path(out, metric, cell).exists() for metric in METRICS):
            continue
        if cell.model not in loaded:
            loaded.clear()  # one model at a time
            stage(f"loading {cell.model}")
            loaded[cell.model] = _load(cell.model, (models or {}).get(cell.model), device)
        report["cells"][cell.folder] = _of_cell(cell, loaded[cell.model], rankers, data or {}, train, seed, out, stage)
        files.write_json(out / "report.json", report)
    return Submission(out, report)


def _stored(out: Path) -> dict[str, Any]:
    path = out / "report.json"
    if not path.exists():
        return {"format": FORMAT, "version": FORMAT_VERSION, "cells": {}}
    content: dict[str, Any] = files.read_own(path, FORMAT, FORMAT_VERSION, dict)
    return content


def _method(name: str, seed: int) -> Method:
    if name == SIGNED:
        return EapIg(sign="signed")
    return get_method(name) if name in METHODS else get_preset(name)


def _load(name: str, instead: Any, device: str) -> Model:
    if isinstance(instead, Model):
        return instead
    source, dtype = MODELS[name]
    return load_model(instead or source, device=device, dtype=dtype)


def _path(out: Path, metric: str, cell: Cell) -> Path:
    return out / metric / "edge" / cell.folder / FILE


def _of_cell(
    cell: Cell,
    model: Model,
    rankers: Mapping[str, Method],
    data: Mapping[str, str],
    train: int | None,
    seed: int,
    out: Path,
    stage: Stage,
) -> dict[str, Any]:
    """Rank by every method, compare on rows that were kept back, write the best for each metric."""
    task, patch = cell.pairs(model.tokenizer, data.get(cell.task), train=train), get_ablation("patch", seed=seed)
    found = Setup.of(model, task, patch, seed=seed)
    per_query = Graph(model.adapter.shape, "joint", "query")
    judged = Setup.of(model, task, patch, graph=per_query, split="validation", seed=seed).judging
    rankings, areas = {}, {}
    for name, ranker in rankers.items():
        stage(f"{cell.folder}: ranking edges by {name}")
        scores = ranker.find(Search(found.engine, found.train, found.ablation))
        rankings[name] = _per_query_head(scores)
        stage(f"{cell.folder}: measuring {name}")
        curve = evaluate_curve(rankings[name], judged, sizes=[k for k in mib_sizes(per_query.n_edges) if k])
        if curve.areas is None:
            raise ValueError(f"{cell.folder}: {name} has no CPR and CMD")
        areas[name] = {metric: curve.areas[metric] for metric in METRICS}
    taken = {metric: best(areas, key=lambda name: areas[name][metric]) for metric, best in METRICS.items()}
    for metric, name in taken.items():
        files.write_bytes(_path(out, metric, cell), importances(rankings[name], model))
    return {
        "model": model.provenance["name"], "fingerprint": model.fingerprint, "train_pairs": len(found.train.pairs),
        "chosen_on_pairs": len(judged.pairs.pairs), "methods": areas, "taken": taken, "notices": found.train.notices,
    }


def _per_query_head(scores: EdgeScores) -> EdgeScores:
    circuit, _ = recount(Circuit.from_scores(scores, edges=0), kv="query")
    assert circuit.scores is not None
    return circuit.scores


def importances(scores: EdgeScores, model: Model) -> bytes:
    """The file of a cell: scores [writer, reader] per query head, minus infinity where there is no edge."""
    circuit = Circuit(scores.graph, scores.graph.edge_mask, scores, Provenance({"model": model.provenance}))
    content, _ = content_of(circuit, signed=True)
    content["edges_scores"] = content["edges_scores"].masked_fill(~scores.graph.edge_mask, -torch.inf)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
