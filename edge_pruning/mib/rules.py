"""The rules of MIB's circuit track for a submission of edges, checked before it is uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from edge_pruning.formats.eap_ig_tensors import EapIgTensors
from edge_pruning.formats.torch_file import read_torch
from edge_pruning.mib.cells import CELLS

FILE = "importances.pt"
LARGEST = 50 * 2**20  # bytes: the benchmark skips larger files
FEWEST = 2  # tasks, and models


def problems_of(folder: Path) -> list[str]:
    """Everything for which the benchmark would refuse or skip a submission: `folder/edge/TASK_MODEL/importances.pt`."""
    cells = sorted(path for path in (folder / "edge").glob("*") if path.is_dir())
    if not cells:
        return [f"{folder} holds no edge/TASK_MODEL/{FILE}"]
    problems = [problem for cell in cells for problem in _of_cell(cell)]
    names = [cell.name.partition("_") for cell in cells]
    for what, found in (("tasks", {task for task, _, _ in names}), ("models", {model for _, _, model in names})):
        if len(found) < FEWEST:
            problems.append(f"a submission covers at least {FEWEST} {what}, this one {', '.join(sorted(found))}")
    return problems


def _of_cell(cell: Path) -> Iterator[str]:
    task, _, model = cell.name.partition("_")
    if model not in CELLS.get(task, ()):
        yield f"{cell.name} is no cell of the benchmark"
    found = sorted(path.name for path in cell.iterdir())
    if found != [FILE]:
        yield f"{cell} holds {', '.join(found) or 'nothing'}; expected {FILE} alone"
        return
    path = cell / FILE
    if path.stat().st_size > LARGEST:
        yield f"{path} has {path.stat().st_size / 2**20:,.0f} MB; the benchmark skips files of more than 50 MB"
    try:
        EapIgTensors(signed=True).read(path, {})
        content = read_torch(path)
    except ValueError as error:
        yield f"{path}: {error}"
        return
    if "d_model" not in content["cfg"]:
        yield f"{path}: cfg has no d_model"
    scores = content["edges_scores"]
    if not torch.equal(scores > -torch.inf, content["edges_in_graph"]):
        yield f"{path}: scores must be minus infinity where there is no edge, and finite elsewhere"
