"""What CONTRIBUTING.md adds works as it stands there: a method, a task, a format and a number, a block of code each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from random_models import answered, config_of, pair, random_model
from rich.console import Console
from transformers import AutoTokenizer

from edge_pruning.ablation import Patch
from edge_pruning.circuit import Circuit
from edge_pruning.cli.report import print_evaluation
from edge_pruning.discovery import METHODS, Search, get_method
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import report_on
from edge_pruning.formats import FORMATS, get_format, load
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.numbers import NUMBERS
from edge_pruning.page import render
from edge_pruning.setup import Setup
from edge_pruning.tasks import TASKS, PairSet, get_task
from edge_pruning.tasks.encoding import TextPair

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def _added() -> Iterator[None]:
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), {"__name__": "added"})
    yield
    METHODS.remove("later-first")
    TASKS.remove("repeats")
    FORMATS.remove("lines")
    del NUMBERS["reciprocal_rank"]


def test_the_method_ranks_edges_by_the_order_of_their_writers() -> None:
    engine = FusedPass(random_model(config_of("gpt2"), torch.float32))
    data = PairSet("random", "train", "logit_difference", (answered(pair(0, 5, (4,)), 0),), ())
    first, last = (get_method("later-first", reverse=reverse).find(Search(engine, data, Patch())) for reverse in (0, 1))
    assert get_method("later-first").cost(Search(engine, data, Patch())).frozen == 0
    writers = [name.split("->")[0] for name in engine.graph.names(first.top(2))]
    assert set(writers) == {engine.graph.writers[-1], engine.graph.writers[-2]}
    assert {name.split("->")[0] for name in engine.graph.names(last.top(2))} == {engine.graph.writers[0]}


@pytest.mark.skipif(not (BUNDLED / "config.json").exists(), reason="this checkout has no bundled model")
def test_the_task_yields_pairs() -> None:
    data = get_task("repeats", train=20).pairs(AutoTokenizer.from_pretrained(BUNDLED), "train")
    assert len(data.pairs) == 20
    assert all(text.answer[0] in text.clean and text.answer[0] not in text.corrupted for text in data.texts)


def test_the_format_is_known_by_its_suffix_and_what_is_written_comes_back(tmp_path: Path) -> None:
    graph = Graph(random_model(config_of("gpt2")).shape, kv="query")
    circuit = Circuit(graph, graph.edge_mask & (torch.arange(len(graph.readers)) % 2 == 0))
    assert get_format("lines").write(circuit, tmp_path / "x.lines") == []
    assert load(tmp_path / "x.lines", asdict(graph.shape)) == circuit


def test_the_number_is_measured_and_shown_in_tables_and_charts() -> None:
    engine = FusedPass(random_model(config_of("gpt2"), torch.float32))
    graph = engine.graph
    pairs = tuple(answered(pair(seed, 5, (4,)), 0) for seed in range(4))
    circuit = Circuit(graph, graph.edge_mask, EdgeScores(graph, torch.rand(graph.edge_mask.shape)))
    data = PairSet("random", "test", "logit_difference", pairs, (TextPair("a", "b", ("c",), ()),) * 4)
    report = report_on(circuit, Setup(engine, data, Patch()), random_circuits=2)
    assert report.evaluation.circuit.mean["reciprocal_rank"] == 1  # all edges: the model's own answer comes first
    assert report.evaluation.empty.mean["reciprocal_rank"] < 1
    out = Console(record=True, width=200)
    print_evaluation(report.evaluation, out)
    assert "1 / rank" in out.export_text()
    page = render(report.to_json(), circuit)
    assert "<th>1 / rank</th>" in page
    assert page.count(">Reciprocal rank<") == 4  # a chart on each axis, each with a heading and a description
