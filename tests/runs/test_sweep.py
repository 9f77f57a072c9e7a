"""Sweeps: what a file may say, and what becomes of workers and cells that fail."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from claiming import someone_else

from edge_pruning import files
from edge_pruning.cli import sweep_table
from edge_pruning.graph import ModelShape
from edge_pruning.runs import Run
from edge_pruning.sweep import Sweep, SweepFolder, Worker, open_sweep, run_workers, slurm, start, submit, work
from edge_pruning.sweep.start import environment

FileOf = Callable[..., Path]
FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.toml") if "[grid]" in path.read_text(encoding="utf-8"))
QUICK = "test = 8\npatterns = 0\ndraw = false\nmethod = 'eap'\n"


@pytest.fixture
def sweep_file(tmp_path: Path) -> FileOf:
    """`sweep_file(text)`: a sweep file."""

    def write(text: str, name: str = "sweep.toml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def tiny(sweep_file: FileOf, model_folder: Path, pairs_file: Path, tmp_path: Path) -> FileOf:
    """`tiny(grid)`: a sweep of the tiny model."""

    def write(grid: str, top: str = "", name: str = "sweep.toml") -> Path:
        setting = f"task = '{pairs_file}'\nmodel = '{model_folder}'\nout = '{tmp_path / 'out'}'\n{QUICK}{top}"
        return sweep_file(f"{setting}\n[grid]\n{grid}\n", name)

    return write


# --- the file ---------------------------------------------------------------------------------------------------------


def test_every_combination_is_a_cell_and_grids_add_up(sweep_file: FileOf) -> None:
    sweep = Sweep.read(sweep_file("""
        train = 50
        settings = {steps = 30}
        [[grid]]
        task = ["ioi", "greater-than"]
        edges = [20, [30, 60]]
        settings = [{}, {steps = 40, batch_size = 8}]
        [[grid]]
        task = "gendered-pronoun"
        method = "eap-ig"
        settings = {steps = 5}
        seed = [0, 1, 2]
    """))  # fmt: skip
    configs = [cell.config for cell in sweep.cells]
    assert len(configs) == 2 * 2 * 2 + 3
    assert [config.edges for config in configs[:4]] == [(20,), (20,), (30, 60), (30, 60)]
    assert [dict(config.settings) for config in configs[:2]] == [{"steps": 30}, {"steps": 40, "batch_size": 8}]
    assert all(config.data["train"] == 50 for config in configs)
    assert [config.seed for config in configs[-3:]] == [0, 1, 2]
    assert len({cell.name for cell in sweep.cells}) == len(configs)
    assert sweep.out == Path("runs/sweep")


def test_a_cell_has_the_same_name_in_a_larger_sweep(sweep_file: FileOf) -> None:
    small = Sweep.read(sweep_file("[grid]\ntask = ['ioi']\nseed = [0]"))
    large = Sweep.read(sweep_file("[grid]\nseed = [1, 0]\ntask = ['greater-than', 'ioi']"))
    assert small.cells[0] in large.cells


@pytest.mark.parametrize(("text", "words"), [
    ("task = 'ioi'", [r"expected a table \[grid\]"]),
    ("[grid]", [r"\[grid\] is empty"]),
    ("[grid]\nseed = []\nstepz = [1]\nedges = ['x']\n[slurm]\nminuts = 3",
     ["4 problems", r"\[slurm\] there is no setting 'minuts' \(nearest: minutes", r"\[grid\] seed: the list is empty",
      r"\[grid\] there is no setting 'stepz'", r"\[grid\] edges: expected a whole number, got 'x'"]),
    ("tasks = 'ioi'\nseeds = 3\n[[grid]]\nseed = [1]\n[[grid]]\ntask = [['ioi']]\nout = ['x']",
     ["there is no setting 'tasks'", r"seeds: expected seed = \[0, 1, 2\]",
      r"\[\[grid\]\] 2 task: expected single values",
      r"\[\[grid\]\] 2 there is no setting 'out'"]),
    ("[grids]\nseed = [1]", [r"there is no setting 'grids' \(nearest: grid"]),
    ("grid = 3", ["expected a table, got 3"]),
    ("[grid]\nseed = [1]", ["expected a task"]),
    ("[grid]\ntask = ['ioi']\nmethod = ['eap', 'epa']\nablation = ['patch', 'zeros']",
     ["3 problems", "no method 'epa'", "no ablation 'zeros'"]),
    ("task = 'ioi'\n[grid]\nseed = [0, 1, 0]", ["1 run would be done more than once: ioi-default-seed-0-"]),
    ("task = 'ioi'\nedges = 30\n[grid]\nsparsity = [0.9]", ["sparsity=0.9: expected edges or sparsity, got both"]),
])  # fmt: skip
def test_everything_that_is_wrong_with_a_file_is_said_at_once(sweep_file: FileOf, text: str, words: list[str]) -> None:
    for expected in words:
        with pytest.raises(ValueError, match=expected):
            Sweep.read(sweep_file(text))


def test_two_sweeps_do_not_share_a_folder_but_one_may_grow(tiny: FileOf, tmp_path: Path) -> None:
    first = open_sweep(tiny("seed = [0, 1]"))
    assert len(open_sweep(tiny("seed = [0, 1, 2]")).cells) == 3
    with pytest.raises(ValueError, match="holds another sweep: 1 of its 3 cells are not in this one"):
        open_sweep(tiny("seed = [0, 1]"))
    assert len(open_sweep(first.path).cells) == 3
    with pytest.raises(ValueError, match="leave out --out"):
        open_sweep(first.path, tmp_path / "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    for place, words in (("full", "holds something else"), ("full/letter.txt", "is a file, expected a folder")):
        with pytest.raises(ValueError, match=words):
            open_sweep(tiny("seed = [0, 1]"), tmp_path / place)
    with pytest.raises(ValueError, match=r"sweep.json does not exist"):
        SweepFolder(tmp_path)


# --- workers ----------------------------------------------------------------------------------------------------------


def test_a_cell_is_the_run_that_discover_makes(tiny: FileOf, finished_runs: Any) -> None:
    folder = open_sweep(tiny("edges = [12]"))
    Worker(folder).work()
    alone, _ = finished_runs("--method", "eap", "--edges", 12, "--test", 8, "--patterns", 0, "--no-draw")
    one, other = Run.load(folder.run_folder(folder.cells[0])), Run.load(alone)
    assert one.circuit == other.circuit
    assert one.evaluation.to_json()["circuit"] == other.evaluation.to_json()["circuit"]


def test_a_cell_that_fails_does_not_stop_the_others(tiny: FileOf, cli: Any, tmp_path: Path) -> None:
    result = cli("sweep", tiny("edges = [12, 100000]\nseed = [0]"))
    assert result.exit_code == 2
    assert "1 of 2 cells failed" in result.stderr
    assert "expected between 1 and" in result.stderr
    shown = json.loads(cli("sweep", "status", tmp_path / "out", "--json").stdout)
    assert [row["state"] for row in shown] == ["finished", "failed"]
    assert "expected between 1 and" in shown[1]["error"]
    tried = list((tmp_path / "out" / "claims").glob("*100000*"))
    assert cli("sweep", tmp_path / "out").exit_code == 2  # the folder is the sweep; a failed cell is not tried again
    assert list((tmp_path / "out" / "claims").glob("*100000*")) == tried
    cli("sweep", tmp_path / "out", "--retry-failed")
    assert len(list((tmp_path / "out" / "claims").glob("*100000*"))) == 2


def test_a_bug_in_one_cell_is_written_down_with_its_place(tiny: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_sweep(tiny("edges = [12, 13]"))
    real = work.run_in

    def broken(place: Any, config: Any, *rest: Any, **about: Any) -> Any:
        return 1 / 0 if config.edges == (12,) else real(place, config, *rest, **about)

    monkeypatch.setattr(work, "run_in", broken)
    Worker(folder).work()
    failed, finished = folder.states()
    assert (failed.state, finished.state) == ("failed", "finished")
    assert failed.failure is not None
    assert failed.failure["error"] == "ZeroDivisionError: division by zero"
    assert "test_sweep.py" in failed.failure["traceback"]


def test_a_cell_at_which_workers_die_is_given_up(tiny: FileOf) -> None:
    folder = open_sweep(tiny("edges = [12]"))
    for _ in range(work.DEATHS):
        os.utime(someone_else(folder.claims, folder.cells[0].name), (1.0, 1.0))
    assert folder.states()[0].state == "interrupted"
    Worker(folder).work()
    state = folder.states()[0]
    assert state.failure is not None
    assert "3 workers died at this run" in state.failure["error"]


def test_an_interrupted_worker_gives_its_cell_back(tiny: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_sweep(tiny("edges = [12]"))

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "run_in", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Worker(folder).work()
    assert folder.states()[0].state == "interrupted"
    Worker(folder).work()
    assert [state.state for state in folder.states()] == ["finished"]
    assert [claim.ended for claim in folder.states()[0].claims] == [True, True]


def test_a_killed_worker_is_replaced_by_the_other_one(tiny: FileOf) -> None:
    folder = open_sweep(tiny("edges = [12, 13]\nseed = [0, 1]"))
    killed: list[int] = []

    def look() -> None:
        running = [state for state in folder.states() if state.state == "running"]
        if running and not killed:
            content = running[0].claims[-1].content
            assert content is not None
            killed.append(content["pid"])
            psutil.Process(content["pid"]).kill()

    run_workers(folder, 2, look)
    assert killed
    states = folder.states()
    assert {state.state for state in states} == {"finished"}
    assert sum(len(state.claims) for state in states) == 5  # one cell was begun twice


def test_workers_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(start.torch.cuda, "device_count", lambda: 2)
    shares = [environment(i, 4, {}) for i in range(4)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "1", "0", "1"]
    assert {share["OMP_NUM_THREADS"] for share in shares} == {"2"}
    assert environment(1, 2, {"CUDA_VISIBLE_DEVICES": "5,7", "OMP_NUM_THREADS": "3"}) == {
        "CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "3",
    }  # fmt: skip


def test_torchrun_starts_no_sweep(tiny: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_sweep(tiny("edges = [12]"))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="start it without torchrun"):
        Worker(folder)


# --- SLURM ------------------------------------------------------------------------------------------------------------


def test_slurm_workers_are_one_array_that_works_the_sweep_off(tiny: FileOf) -> None:
    folder = open_sweep(tiny("edges = [12, 13]\n[slurm]\ncluster = 'debug'"))
    jobs = submit(folder, 2)
    for job in jobs:
        job.result()
    assert [state.state for state in folder.states()] == ["finished", "finished"]


def test_a_preempted_worker_is_queued_again_as_it_was(tmp_path: Path) -> None:
    again = slurm.SlurmWorker(tmp_path).checkpoint()
    assert isinstance(again.function, slurm.SlurmWorker)
    assert (again.function.folder, again.args, again.kwargs) == (tmp_path, (), {})


def test_the_table_of_slurm_is_in_the_words_of_submitit(tiny: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"partition": "gpu", "minutes": 30, "gpus": 2, "memory_gb": 8, "cluster": "slurm"}
    assert slurm.parameters(table, "name", 5) == {
        "name": "name", "slurm_array_parallelism": 5, "timeout_min": 30, "gpus_per_node": 2, "mem_gb": 8,
        "slurm_partition": "gpu",
    }  # fmt: skip
    folder = open_sweep(tiny("edges = [12]"))
    with pytest.raises(ValueError, match="could not be queued"):  # there is no SLURM here
        submit(folder, 1)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"edge-pruning\[slurm\]"):
        submit(folder, 1)


# --- results ----------------------------------------------------------------------------------------------------------


def test_the_report_has_every_circuit_and_means_over_seeds(tiny: FileOf, cli: Any, tmp_path: Path) -> None:
    path = tiny("edges = [[20, 40]]\nseed = [0, 1]\nmethod = ['eap', 'random']")
    result = cli("sweep", path)
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["axes"]) == {"method", "seed"}
    (curve,) = report["curves"]
    points = {(point["label"], point["edges"]): point for point in curve["points"]}
    assert set(points) == {(method, k) for method in ("eap", "random") for k in (20, 40)}
    with (tmp_path / "out" / "report.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    same = [float(line["kl"]) for line in lines if (line["method"], line["edges"]) == ("random", "40")]
    assert len(same) == 2
    assert same[0] != same[1]
    assert points["random", 40]["kl"] == pytest.approx(sum(same) / 2)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 1
    assert "random" in page
    assert "<script" not in page


def test_the_page_escapes_errors(tiny: FileOf, cli: Any, tmp_path: Path) -> None:
    folder = open_sweep(tiny("edges = [12]"))
    files.write_json(folder.error_file(folder.cells[0]), {"error": "<b>&", "worker": "w", "traceback": ""})
    cli("sweep", "report", folder.path)
    page = (folder.path / "report.html").read_text()
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page
    assert "No cell is finished yet" in page


def test_the_table_shows_what_runs_first_and_fits_the_screen(tiny: FileOf) -> None:
    folder = open_sweep(tiny(f"seed = {list(range(30))}"))
    busy = folder.cells[20]
    someone_else(folder.claims, busy.name)
    folder.run_folder(busy).mkdir(parents=True)
    (folder.run_folder(busy) / "metrics.jsonl").write_text('{"step": 4, "kl": 0.5}\n{"step": 5, "kl": 0.25}\n{"st')
    states = folder.states()
    (row,) = [sweep_table.state_row(state) for state in states if state.state == "running"]
    assert (row["cell"], row["step"], row["loss"], row["value"]) == (busy.name, 5, "kl", 0.25)
    table = sweep_table.status_table(folder, states, rows=10)
    assert table.row_count == 10
    first, *_, last = table.columns[0].cells
    assert (first, last) == (busy.name, "and 21 more: 21 waiting")
    assert "1 running, 29 waiting" in str(table.title)


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_what_a_sweep_will_cost(tiny: FileOf, cli: Any) -> None:
    shown = cli("sweep", "plan", tiny("edges = [12]\nseed = [0, 1, 2]\nmethod = ['eap', 'acdc']"))
    assert shown.exit_code == 0, shown.stderr
    assert "6 cells, one after the other" in shown.stdout


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_are_sweeps_of_the_published_targets(path: Path) -> None:
    sweep = Sweep.read(path)
    targets = {cell.config.settings.get("target_sparsity") for cell in sweep.cells} - {None}
    assert len(targets) == 17
    assert (min(targets), max(targets)) == (0.94, 1.1)
    assert all(cell.config.graph(ModelShape(12, 12)).n_edges == 32936 for cell in sweep.cells)


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} == {"ioi", "greater-than", "gendered-pronoun"}
