"""The page as text: one file that fetches nothing, whose only script is its own, and in which foreign text is inert."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up import HOSTILE, row

import edge_pruning.view as view_room
from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.cli.app import app
from edge_pruning.cli.flags import assignments
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.provenance import MODEL_IN_MEMORY, PAIRS_IN_MEMORY
from edge_pruning.view import Source, sources_of, view_page, view_paths
from edge_pruning.view.commands import commands_of
from edge_pruning.view.content import content_of
from edge_pruning.view.page import hash_of

ROOT = Path(__file__).parents[2]
ROOM = Path(view_room.__file__).parent
CIRCUIT = Circuit.from_names(Graph(ModelShape(1, 1)), ["input->logits"])


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of every script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.scripts[0][1])

    @property
    def policy(self) -> str:
        return next(a["content"] or "" for tag, a in self.tags if a.get("http-equiv") == "Content-Security-Policy")


def test_the_policy_allows_the_pages_own_script_and_nothing_else(make_run):
    page = Parsed(view_paths([make_run()]))
    (data, _), (own, script) = page.scripts
    assert data["type"] == "application/json"
    assert own == {}
    assert f"script-src '{hash_of(script)}'" in page.policy
    assert page.policy.startswith("default-src 'none'")
    assert "connect" not in page.policy


def test_nothing_is_fetched(make_run):
    page = Parsed(view_paths([make_run()]))
    wants = {"src", "srcset", "data", "action", "poster", "background"}
    for tag, attributes in page.tags:
        assert not wants & attributes.keys(), tag
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert (attributes.get("href") or "#").startswith("#")


def test_hostile_names_stay_text(make_run):
    folder = make_run(HOSTILE, model=HOSTILE, warnings=[HOSTILE])
    page = Parsed(view_paths([folder]))
    assert len(page.scripts) == 2
    assert not [a for tag, a in page.tags if tag == "img" or any(name.startswith("on") for name in a)]
    assert page.content["circuits"][0]["provenance"]["model"]["name"] == HOSTILE
    assert "<" not in page.scripts[0][1]


def test_the_content_has_the_measured_sizes_and_marks_their_split(make_run):
    content = Parsed(view_paths([make_run(edges=20)])).content
    points = {point["edges"]: point for point in content["circuits"][0]["points"]}
    assert list(points) == [5, 10, 20, 40]
    assert (points[20]["split"], points[20]["faithfulness"]) == ("test", 0.75)
    assert (points[40]["split"], points[40]["kl"]) == ("validation", 0.25)


def test_the_size_of_the_circuit_is_measured_between_the_sizes_of_a_curve(make_run):
    source = sources_of([make_run(edges=20)])[0]
    assert source.report is not None
    points = [row(source.circuit.graph, size) for size in (0, 10, 40)]
    report = {**source.report, "curve": {"split": "test", "points": points}}
    content = content_of([replace(source, report=report)])["circuits"][0]
    found = {point["edges"]: point["kl"] for point in content["points"]}
    assert found == {10: 1.0, 20: 0.5, 40: 0.25}


def test_a_report_beside_the_circuit_brings_its_curve_and_the_loss_without_each_edge(make_run):
    folder = make_run(edges=5)
    circuit = Circuit.load(folder / "circuit.json")
    evaluation = files.read_json(folder / "evaluation.json")
    from edge_pruning.view import report_of

    lost = {"loss": 0.25, "standard_error": 0.1, "p": 0.9, "verdict": "idle"}
    minimality = {
        "rows": [{"edge": edge, **lost} for edge in circuit.edges], "loss": "kl", "needed": 0, "idle": 5, "harmful": 0,
        "examples": 8, "without_idle": 0.5, "of_circuit": 0.5, "definition": "alone",
    }
    files.write_json(folder / "report.json", {**report_of(circuit, evaluation), "minimality": minimality})
    html = view_paths([folder])
    content = Parsed(html).content["circuits"][0]
    assert content["lost"] == {edge: {"loss": 0.25, "p": 0.9, "verdict": "no clear effect"} for edge in circuit.edges}
    assert ">idle" not in html


def test_a_known_truth_can_be_compared_with(make_run):
    folder = make_run(edges=6)
    edges = Circuit.load(folder / "circuit.json").edges
    truth = {"hits": edges[:4], "missed": ["input->m3"]}
    source = sources_of([folder])[0]
    assert source.report is not None
    source.report["evaluation"]["ground_truth"] = truth
    assert source.truth is not None
    assert sorted(source.truth.edges) == sorted([*edges[:4], "input->m3"])


def test_circuits_that_are_counted_differently_are_recounted(make_run):
    shape = ModelShape(2, 4, 2)
    folders = [make_run("a", graph=Graph(shape)), make_run("b", graph=Graph(shape, "split", "query"))]
    content = Parsed(view_paths(folders)).content
    first, second = (circuit["graph"] for circuit in content["circuits"])
    assert first == second
    assert any("b is recounted" in notice for notice in content["notices"])


def test_several_runs_have_names_of_their_own_and_a_report_each(make_run):
    folder = make_run("a")
    html = view_paths([folder, folder, make_run("b")])
    assert [c["name"] for c in Parsed(html).content["circuits"]] == ["a (1)", "a (2)", "b"]
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_circuit_file_without_evaluation_is_shown(tmp_path):
    graph = Graph(ModelShape(2, 2))
    Circuit.from_names(graph, ["input->m0", "m0->logits"]).save(tmp_path / "mine.json")
    page = Parsed(view_paths([tmp_path / "mine.json"]))
    assert page.content["circuits"][0]["report"] is None
    assert page.content["circuits"][0]["points"] == []


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist; expected run folders"):
        view_paths([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"holds no circuit\.json; expected the folder of a finished run"):
        view_paths([tmp_path])
    with pytest.raises(ValueError, match="at least one circuit"):
        view_page([])


def test_the_commands_repeat_the_run(make_run):
    html = view_paths([make_run("ioi", edges=20, seed=3, model="gpt2 small")])
    assert "edge-pruning discover ioi --model &#39;gpt2 small&#39; --seed 3 --edges 20 --out" in html


def test_the_values_of_settings_are_read_back_from_a_command():
    values = {"a": [1, "x y"], "b": "3", "c": True, "d": None, "e": "two words", "f": 0.5, "g": "it's"}
    command, *_ = commands_of(Source("x", CIRCUIT, settings={"task": "ioi", "settings": values}))
    words = shlex.split(command)
    assert assignments("--set", [words[i + 1] for i, word in enumerate(words) if word == "--set"]) == values


@pytest.mark.parametrize("settings", [
    {"task": PAIRS_IN_MEMORY}, {"task": "a class without a name"}, {"model": f"gpt2{MODEL_IN_MEMORY}"},
    {"own_metric": "margin"}, {"own_objective": "margin"},
])
def test_a_run_of_python_objects_has_no_commands(settings):
    repeatable = {"task": "ioi", "model": "gpt2"}
    assert commands_of(Source("x", CIRCUIT, settings=repeatable))
    assert not commands_of(Source("x", CIRCUIT, settings=repeatable | settings))


@pytest.mark.parametrize("task", ["tracr:reverse", "pairs.jsonl", "hub://someone/pairs", "ioi"])
def test_tasks_that_the_command_line_knows_have_commands(task):
    command, *_ = commands_of(Source("x", CIRCUIT, settings={"task": task}))
    assert command.startswith(f"edge-pruning discover {task} ")


def test_the_command_writes_the_page(make_run, tmp_path):
    from click.testing import CliRunner
    from typer.main import get_command

    done = CliRunner().invoke(get_command(app), ["view", str(make_run()), "-o", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_notebook_gets_a_frame_that_carries_the_page():
    from edge_pruning.view import Inline

    frame = Inline('<p title="x">&amp;</p>')._repr_html_()
    tags = Parsed(frame).tags
    assert [tag for tag, _ in tags] == ["iframe"]
    assert tags[0][1]["srcdoc"] == '<p title="x">&amp;</p>'
    assert tags[0][1]["sandbox"] == "allow-scripts allow-downloads"


# --- the bundle -------------------------------------------------------------------------------------------------------


def test_the_bundle_is_made_of_the_sources_that_lie_here():
    viewer = ROOT / "viewer"
    made_of = hashlib.sha256()
    names = [f"src/{path.name}" for path in sorted((viewer / "src").iterdir(), key=lambda path: path.name)]
    for name in [*names, "build.mjs", "package.json", "package-lock.json"]:
        made_of.update(f"{name}\n".encode() + (viewer / name).read_bytes())
    first = (ROOM / "app.js").read_text(encoding="utf-8").partition("\n")[0]
    assert made_of.hexdigest() in first, "run: cd viewer && npm ci && node build.mjs"


@pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "viewer" / "node_modules").exists(),
    reason="node, or the libraries of viewer/ (npm ci), are not installed",
)
def test_building_it_again_gives_the_same_bundle(tmp_path):
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=ROOT / "viewer", check=True, timeout=60)
    for name in ("app.js", "app.licences.txt"):
        assert (tmp_path / name).read_bytes() == (ROOM / name).read_bytes(), "run: cd viewer && node build.mjs"


def test_every_bundled_library_brings_its_licence():
    words = (ROOM / "app.licences.txt").read_text(encoding="utf-8")
    bundled = json.loads((ROOT / "viewer" / "package.json").read_text())["dependencies"]
    for name, version in bundled.items():
        assert f"{name} {version} (" in words
    assert words.count("Permission to use, copy") + words.count("Permission is hereby granted") >= len(bundled)
