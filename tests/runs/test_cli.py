"""The command, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edge_pruning as ep
from edge_pruning.circuit import Circuit
from edge_pruning.version import __version__

SHORT = ("--steps", 20, "--no-draw")
TWELVE = (*SHORT, "--edges", 12)


def test_a_run_folder_can_be_read_with_cat(finished, tmp_path):
    finished("--steps", 20, "--edges", "9,20")
    assert {path.name for path in (tmp_path / "run").glob("[!.]*")} == {
        "config.json", "run.toml", "metrics.jsonl", "checkpoint.safetensors", "scores.safetensors", "curve.json",
        "circuit.json", "circuit-9.json", "circuit-20.json",
        "evaluation.json", "evaluation-9.json", "evaluation-20.json", "patterns.json",
        "circuit.html", "circuit.svg", "training.svg", "curve.svg",
    }
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["method"]["settings"]["steps"] == 20
    assert config["settings"]["edges"] == [9, 20]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert all(row["kl"] >= 0 for row in rows)


def test_the_table_says_sizes_with_both_counts_and_the_convention(finished):
    shown = " ".join(finished(*TWELVE).stdout.split())
    for words in ("model (all edges)", "circuit", "soft mask, before the cut", "without dangling edges",
                  "empty circuit", "random circuits of the same size", "KL (nats)", "logit difference", "faithfulness"):
        assert words in shown
    assert "Size: 12 edges, " in shown
    assert "without dangling ones, of " in shown
    assert "one embedding writer; q per head, k and v per key-value head" in shown
    assert "%" not in shown.partition("Note:")[0]


def test_evaluation_json_holds_what_is_promised(finished, cli, tmp_path):
    finished(*TWELVE)
    result = cli("evaluate", tmp_path / "run" / "circuit.json", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    for run in ("model", "circuit", "empty", "random"):
        assert {"kl", "accuracy", "exact_match", "faithfulness", "logit_difference"} <= set(found[run])
    assert {"edges", "edges_without_dangling", "edges_total", "convention"} <= set(found["circuit"])
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["data_hash"] == written["data_hash"]
    assert found["circuit"]["kl"] == pytest.approx(written["circuit"]["kl"], rel=1e-6)


def test_evaluate_takes_other_splits_and_ablations(finished, cli, tmp_path):
    finished(*TWELVE)
    file = tmp_path / "run" / "circuit.json"
    found = json.loads(cli("evaluate", file, "--split", "validation", "--ablation", "zero", "--json").stdout)
    assert (found["split"], found["ablation"]) == ("validation", "zero")
    shown = cli("evaluate", file, "--random", 0)
    assert shown.exit_code == 0
    assert "random circuits" not in shown.stdout


def test_every_size_gets_a_circuit_of_exactly_that_size(discover, tmp_path):
    discover(*SHORT, "--edges", "20,9")
    small, large = (Circuit.load(tmp_path / "run" / f"circuit-{k}.json") for k in (9, 20))
    assert (len(small), len(large)) == (9, 20)
    assert len(small & large) == 9
    rows = json.loads((tmp_path / "run" / "curve.json").read_text())["sizes"]
    assert [(row["edges"], row["split"]) for row in rows] == [(9, "test"), (20, "test")]


def test_sparsity_is_the_share_of_removed_edges(discover, tmp_path):
    discover(*SHORT, "--sparsity", 0.75)
    circuit = Circuit.load(tmp_path / "run" / "circuit.json")
    assert len(circuit) == round(0.25 * circuit.graph.n_edges)


def test_an_open_size_is_chosen_on_validation_pairs_and_the_rule_is_written_down(discover, tmp_path):
    discover(*SHORT)
    circuit = Circuit.load(tmp_path / "run" / "circuit.json")
    assert "validation pairs" in circuit.provenance["size_rule"]
    rows = json.loads((tmp_path / "run" / "curve.json").read_text())["sizes"]
    assert {row["split"] for row in rows} == {"validation"}
    assert len(circuit) in {row["edges"] for row in rows}


def test_conventions_are_chosen_by_flags(discover, tmp_path):
    discover(*SHORT, "--edges", 9, "--embeddings", "split")
    assert Circuit.load(tmp_path / "run" / "circuit.json").graph.writers[:2] == ("tok", "pos")


def test_the_report_is_in_float32_whatever_the_search_was_in(discover, tmp_path):
    result = discover(*SHORT, "--edges", 9, "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["dtype"] == "float32"
    assert Circuit.load(tmp_path / "run" / "circuit.json").provenance["dtype"] == "bfloat16"


def test_nothing_but_results_on_stdout_and_nothing_on_a_stderr_that_is_no_terminal(finished):
    assert finished(*TWELVE).stderr == ""


def test_overwrite_replaces_a_run_and_leaves_other_files_alone(discover, finished, tmp_path):
    finished("--steps", 20, "--edges", "9,20")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert discover(*TWELVE, "--overwrite").exit_code == 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "notes.txt" in names
    assert "circuit-20.json" not in names


def test_draw_writes_a_picture(finished, cli, tmp_path):
    finished(*TWELVE)
    result = cli("draw", tmp_path / "run" / "circuit.json", "-o", tmp_path / "picture.svg", "--title", "a < b")
    assert result.exit_code == 0, result.stderr
    assert "a &lt; b" in (tmp_path / "picture.svg").read_text()


def test_draw_writes_the_kind_of_picture_that_the_name_says_under_the_title_of_the_run(discover, cli, tmp_path):
    discover(*SHORT, "--edges", 12)
    file = tmp_path / "run" / "circuit.json"
    assert cli("draw", file).exit_code == 0
    origin = Circuit.load(file).provenance
    title = f"{Path(origin.task).name} in {Path(origin.model).name}"
    assert f"<title>{title}</title>" in file.with_suffix(".svg").read_text()
    assert cli("draw", file, "-o", tmp_path / "x.pdf").exit_code == 0
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF-")
    refused = cli("draw", file, "-o", tmp_path / "x.jpg")
    assert (refused.exit_code, "expected a name that ends with .svg, .png, .pdf" in refused.stderr) == (2, True)


@pytest.mark.parametrize(("what", "name"), [
    ("models", "bundled"), ("tasks", "gendered-pronoun"), ("methods", "soft-top-k"), ("ablations", "zero"),
    ("presets", "paper"), ("formats", "eap-ig-json"), ("programs", "xproportion"),
])
def test_list_shows_names(cli, what, name):
    result = cli("list", what)
    assert result.exit_code == 0
    assert name in result.stdout


def test_a_curve_shows_every_size_the_levels_and_the_areas(finished, cli, tmp_path):
    finished(*TWELVE)
    file = tmp_path / "run" / "circuit.json"
    shown = " ".join(cli("curve", file).stdout.split())
    for words in ("without dangling", "faithfulness of 85 %", "KL of 5 % of the empty circuit's", "CPR", "CMD",
                  "removed edges carry the patch ablation", "q per head, k and v per key-value head"):
        assert words in shown
    found = json.loads(cli("curve", file, "--sizes", "12,5", "--ablation", "zero", "--json").stdout)
    assert [point["edges"] for point in found["points"]] == [0, 5, 12]
    assert (found["ablation"], found["cpr"]) == ("zero", None)


def test_a_circuit_without_scores_has_no_curve(finished, cli, tmp_path):
    finished(*TWELVE)
    file = tmp_path / "run" / "circuit.json"
    content = json.loads(file.read_text())
    del content["scores"]
    file.write_text(json.dumps(content))
    result = cli("curve", file)
    assert result.exit_code == 2
    assert "has no file of scores" in result.stderr
    assert "edge-pruning convert" in result.stderr


@pytest.mark.parametrize(("sizes", "words"), [("0", "expected sizes from 1 to"), ("many", "--sizes: expected numbers")])
def test_impossible_sizes_of_a_curve_are_refused(finished, cli, tmp_path, sizes, words):
    finished(*TWELVE)
    result = cli("curve", tmp_path / "run" / "circuit.json", "--sizes", sizes)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("command", [[], ["discover"], ["evaluate"], ["curve"], ["draw"], ["list"]])
def test_help_teaches(cli, command):
    result = cli(*command, "--help")
    assert result.exit_code == 0
    words = {"": "circuit", "discover": "--resume", "evaluate": "--json", "curve": "--sizes", "draw": "--out",
             "list": "models"}
    assert words["".join(command)] in result.stdout


def test_version(cli):
    assert cli("--version").stdout.strip() == f"edge-pruning {__version__}"


def test_python_leaves_nothing_on_disk_unless_asked(model_folder, pairs_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ep.load_model(str(model_folder))
    run = ep.discover(str(pairs_file), model=model, steps=20, edges=12)
    assert list(tmp_path.iterdir()) == []
    assert len(run.circuit) == 12
    assert run.evaluation["circuit"]["edges"] == 12
    run.draw("circuit.svg")
    assert (tmp_path / "circuit.svg").exists()


def test_a_run_is_loaded_as_it_was_saved(model_folder, pairs_file, tmp_path):
    run = ep.discover(str(pairs_file), model=str(model_folder), steps=20, edges=[9, 20], out=tmp_path, draw=False)
    loaded = ep.Run.load(tmp_path)
    assert loaded.circuits == run.circuits
    assert (loaded.circuit, loaded.evaluation, loaded.curve) == (run.circuit, run.evaluation, run.curve)
    assert loaded.training == run.training


def test_a_preset_is_a_method_with_settings_that_flags_change(discover, tmp_path):
    arguments = ("--preset", "paper-short", "--edges", "9,15", "--no-draw")
    settings = [f"--set={name}={value}" for name, value in (("target_steps", 15), ("warmup_steps", 2))]
    result = discover(*arguments, "--steps", 20, *settings)
    assert result.exit_code == 0, result.stderr
    method = json.loads((tmp_path / "run" / "config.json").read_text())["method"]
    assert (method["name"], method["preset"]) == ("edge-pruning", "paper-short")
    assert (method["settings"]["steps"], method["settings"]["initial_log_alpha"]) == (20, 2.0)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"metrics-9.jsonl", "scores-15.safetensors", "checkpoint-9.safetensors", "circuit-15.json"} <= names
    assert discover("--resume", "--no-draw").stdout == result.stdout
    assert ep.Run.load(tmp_path / "run").training.keys() == {"-9", "-15"}


def test_polishing_keeps_the_size_and_is_written_down(discover, tmp_path):
    discover(*TWELVE, "--polish")
    circuit = Circuit.load(tmp_path / "run" / "circuit.json")
    assert len(circuit) == 12
    assert circuit.provenance["polish"]["swapped"] >= 0


def test_polishing_an_open_size_measures_the_polished_circuit(discover, tmp_path):
    result = discover(*SHORT, "--polish")
    assert result.exit_code == 0, result.stderr
    run = ep.Run.load(tmp_path / "run")
    assert "polish" in run.circuit.provenance
    assert len(run.circuit) == run.curve[run.chosen]["edges"]


def test_a_report_is_a_page_and_the_same_as_json(finished, cli, tmp_path):
    finished("--steps", 20, "--edges", 12)
    folder = tmp_path / "run"
    result = cli("evaluate", folder / "circuit.json", "--report")
    assert result.exit_code == 0, result.stderr
    assert "report.html (and as JSON: report.json)" in " ".join(result.stdout.split())
    page, content = (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())
    assert "Circuit report" in page
    assert content["curve"]["cpr"] is not None
    assert content["minimality"]["edges"] == 12
    written = json.loads((folder / "evaluation.json").read_text())
    assert content["evaluation"]["circuit"]["kl"] == written["circuit"]["kl"]
    assert content["evaluation"]["soft"]["kl"] == written["soft"]["kl"]
    assert content["evaluation"]["discretisation_gap"] == written["discretisation_gap"]
    assert content["circuit"]["provenance"]["method"]["name"] == "soft-top-k"
    assert "What each edge is good for" in (folder / "circuit.html").read_text()  # a section that only a report has


def test_a_report_elsewhere_with_json_on_stdout_and_the_seeds_beside_it(finished, cli, tmp_path):
    finished(*TWELVE, "--seeds", 2)
    for file in ("consensus.json", "seed-1/circuit.json"):
        result = cli("evaluate", tmp_path / "run" / file, "-o", tmp_path / "pages" / "one.html", "--json")
        assert json.loads(result.stdout)["format"] == "edge-pruning/evaluation"
        assert "Other seeds" in (tmp_path / "pages" / "one.html").read_text()
    assert "Quality against size" in (tmp_path / "pages" / "one.html").read_text()


@pytest.mark.parametrize("name", ["report.txt", "circuit.json", "circuit.html"])
def test_a_report_does_not_replace_what_is_no_page(finished, cli, tmp_path, name):
    finished(*TWELVE)
    file = tmp_path / "run" / "circuit.json"
    before = file.read_bytes()
    result = cli("evaluate", file, "-o", tmp_path / "run" / name)
    assert result.exit_code == 2
    assert "expected a report name that ends in .html and differs from the circuit's" in result.stderr
    assert file.read_bytes() == before


def test_a_circuit_in_another_tools_file_is_judged_too(finished, cli, tmp_path):
    """Such a file says neither the task nor the model, but its edges and scores."""
    finished(*TWELVE)
    ours, theirs = tmp_path / "run" / "circuit.json", tmp_path / "theirs.json"
    assert cli("convert", ours, theirs, "--to", "eap-ig-json", "--signed").exit_code == 0
    assert "does not name its task, model" in cli("evaluate", theirs).stderr
    origin = json.loads(ours.read_text())["provenance"]
    known = ("--task", origin["task"]["name"], "--model", origin["model"]["name"], "--json")
    expected, found = (json.loads(cli("evaluate", file, *known).stdout) for file in (ours, theirs))
    assert found["circuit"]["kl"] == pytest.approx(expected["circuit"]["kl"], abs=1e-6)
    assert json.loads(cli("curve", theirs, *known, "--sizes", 12).stdout)["points"][1]["edges"] == 12


def test_the_shape_that_another_tools_file_does_not_say_is_that_of_the_model(finished, cli, tmp_path):
    finished(*TWELVE)
    ours, theirs = tmp_path / "run" / "circuit.json", tmp_path / "x-graph.json"
    assert cli("convert", ours, theirs).exit_code == 0
    assert "does not name its task, model; give --task, --model" in cli("evaluate", theirs).stderr
    origin = json.loads(ours.read_text())["provenance"]
    known = ("--task", origin["task"]["name"], "--model", origin["model"]["name"], "--json")
    expected, found = (json.loads(cli("evaluate", file, *known).stdout) for file in (ours, theirs))
    assert found["circuit"]["kl"] == pytest.approx(expected["circuit"]["kl"], abs=1e-6)
