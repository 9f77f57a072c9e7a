"""Run folders made without a model, from random scores and made-up numbers; the page about them; a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser
from made_up import evaluation, row

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.view import view_paths

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run("ioi", edges=30)`: a run folder with random scores. extra: entries of the evaluation to replace."""

    def make(
        name: str = "ioi", *, graph: Graph | None = None, edges: int = 20, seed: int = 0, model: str = "tiny",
        sizes: tuple[int, ...] = (5, 10, 20, 40), **extra: Any,
    ) -> Path:
        graph = graph or Graph(ModelShape(4, 4))
        values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
        for layer in range(graph.shape.layers):  # MLPs matter most, so that small circuits are connected
            values[graph.mlp_writer(layer)] += 1.5
            values[:, graph.mlp_reader(layer)] += 1.5
        values[0] += 2
        values[:, -1] += 2
        origin = {"task": {"name": name, "settings": {}}, "model": {"name": model}, "ablation": "patch", "seed": seed}
        circuit = Circuit.from_scores(EdgeScores(graph, values), edges=edges, provenance=origin)
        folder = tmp_path / name.replace("/", "-").replace("<", "(")[:40]
        circuit.save(folder / "circuit.json")
        files.write_json(folder / "evaluation.json", {**evaluation(circuit, name), **extra})
        files.write_json(folder / "curve.json", {"sizes": [row(graph, size) for size in sizes]})
        settings = {"task": name, "model": model, "edges": [edges], "seed": seed}
        files.write_json(folder / "config.json", {"settings": settings})
        return folder

    return make


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.driver.quit()


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written(run, run)`: the page about these runs, on disk."""

    def write(*runs: Path) -> Path:
        path = tmp_path / "page.html"
        path.write_text(view_paths(list(runs)), encoding="utf-8")
        return path

    return write
