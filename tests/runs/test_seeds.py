"""`discover --seeds`: one subfolder per seed, what they agree on, and going on after a kill."""

from __future__ import annotations

import json

import pytest

import edge_pruning as ep
from edge_pruning.circuit import Circuit
from edge_pruning.evaluation import Stability
from edge_pruning.runs import SeedRuns, checkpoints

SHORT = ("--steps", 20, "--no-draw", "--edges", 12)


def read(folder, name="stability.json"):
    return json.loads((folder / name).read_text())


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_seed_has_the_folder_of_its_own_run(discover, tmp_path):
    result = discover("--steps", 20, "--edges", 12, "--seeds", 3, "--seed", 4)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "run"
    assert {path.name for path in folder.glob("[!.]*")} == {
        "config.json", "run.toml", "seed-4", "seed-5", "seed-6", "stability.json", "consensus.json", "core.json",
        "consensus.svg",
    }
    alone = ep.discover(
        read(folder, "config.json")["settings"]["task"], model=read(folder, "config.json")["settings"]["model"],
        steps=20, edges=12, seed=5,
    )
    assert Circuit.load(folder / "seed-5" / "circuit.json") == alone.circuit
    assert read(folder / "seed-5", "evaluation.json") == alone.evaluation


def test_stability_is_that_of_the_circuits_in_the_subfolders(finished, cli, tmp_path):
    result = finished(*SHORT, "--seeds", 3)
    folder = tmp_path / "run"
    circuits = [Circuit.load(folder / f"seed-{seed}" / "circuit.json") for seed in range(3)]
    found, expected = read(folder), Stability(tuple(circuits), (0, 1, 2))
    assert found["sizes"][0].items() >= json.loads(json.dumps(expected.to_json())).items()
    assert Circuit.load(folder / "consensus.json") == expected.consensus
    assert Circuit.load(folder / "core.json") == expected.core
    judged = found["sizes"][0]["evaluation"]
    again = json.loads(cli("evaluate", folder / "consensus.json", "--json").stdout)
    assert judged["consensus"]["kl"] == again["circuit"]["kl"]
    for seed, row in enumerate(judged["seeds"]):
        assert row["kl"] == read(folder / f"seed-{seed}", "evaluation.json")["circuit"]["kl"]
    shown = " ".join(result.stdout.split())
    for words in ("seed 2", "consensus", "core (in all)", "Overlap of two seeds' circuits", "by chance",
                  "edges are in all circuits", "q per head, k and v per key-value head"):
        assert words in shown


def test_accuracy_is_called_agreement_where_the_pairs_have_no_answers(cli, pairs_file, model_folder, tmp_path):
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    without = tmp_path / "without.jsonl"
    without.write_text("".join(json.dumps({name: row[name] for name in ("clean", "corrupted")}) + "\n" for row in rows))
    flags = ("--method", "magnitude", "--edges", "8,12", "--seeds", 2, "--out", tmp_path / "run")
    result = cli("discover", without, "--model", model_folder, *flags)
    assert result.exit_code == 0, result.stderr
    headings = next(line for line in result.stdout.splitlines() if "faithfulness" in line).split()
    assert ("agreement" in headings, "accuracy" in headings) == (True, False), headings
    curve = (tmp_path / "run" / "seed-0" / "curve.svg").read_text()
    assert ("agreement (share of pairs)" in curve, "accuracy (share of pairs)" in curve) == (True, False)


def test_sizes_that_were_asked_for_are_compared_apart(discover, tmp_path):
    assert discover("--steps", 20, "--edges", "9,20", "--seeds", 2, "--no-draw").exit_code == 0
    assert [size["consensus"]["edges"] for size in read(tmp_path / "run")["sizes"]] == [9, 20]
    assert len(Circuit.load(tmp_path / "run" / "consensus-20.json")) == 20
    loaded = SeedRuns.load(tmp_path / "run")
    assert [len(circuit) for circuit in loaded.consensus] == [9, 20]
    assert [len(run.cuts) for run in loaded.runs] == [2, 2]


def test_an_open_size_compares_the_circuits_that_were_chosen(discover, tmp_path):
    assert discover("--steps", 20, "--seeds", 2, "--no-draw").exit_code == 0
    sizes = read(tmp_path / "run")["sizes"]
    chosen = [read(tmp_path / "run" / f"seed-{seed}", "circuit.json")["counts"]["edges"] for seed in (0, 1)]
    assert [counts["edges"] for counts in sizes[0]["sizes"]] == chosen
    assert len(sizes) == 1


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_where_it_was(discover, finished_runs, tmp_path, monkeypatch):
    """Killed in the middle of the second of three seeds."""
    seen = []

    def killed(self, records, total, real=checkpoints.Recorder.progress):
        seen.append(records[0]["step"])
        if seen.count(1) == 2 and records[0]["step"] > 10:
            raise Killed
        real(self, records, total)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Recorder, "progress", killed)
        patch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
        assert isinstance(discover(*SHORT, "--seeds", 3).exception, Killed)
    folder = tmp_path / "run"
    assert (folder / "seed-0" / "evaluation.json").exists()
    assert not (folder / "seed-1" / "evaluation.json").exists()
    assert not (folder / "stability.json").exists()
    first = contents(folder / "seed-0")
    resumed = discover("--resume", "--no-draw", "--seeds", 3)
    assert resumed.exit_code == 0, resumed.stderr
    assert contents(folder / "seed-0") == first
    before = {name: data for name, data in contents(folder).items() if "checkpoint" not in name.name}
    assert discover("--resume", "--no-draw", "--seeds", 3).stdout == resumed.stdout
    whole, _ = finished_runs(*SHORT, "--seeds", 3)
    assert {name: data for name, data in contents(whole).items() if "checkpoint" not in name.name} == before


@pytest.mark.parametrize("seeds", [0, 1, -2])
def test_fewer_than_two_seeds_are_refused_and_leave_nothing(discover, tmp_path, seeds):
    result = discover(*SHORT, "--seeds", seeds)
    assert result.exit_code == 2
    assert f"expected at least 2 seeds to compare, got {seeds}" in result.stderr
    assert not (tmp_path / "run").exists()


def test_one_seed_and_several_do_not_share_a_folder(discover, finished, tmp_path):
    finished(*SHORT, "--seeds", 2)
    for flags in (("--resume",), ("--overwrite",)):
        result = discover(*SHORT, *flags)
        assert result.exit_code == 2
        assert "'edge-pruning/seeds', expected 'edge-pruning/run' (--seeds or not)" in result.stderr
    result = discover(*SHORT, "--seeds", 3, "--resume")
    assert "seeds: 2 in the run, 3 now" in result.stderr
    assert "holds a run" in discover(*SHORT, "--seeds", 2).stderr
    assert (tmp_path / "run" / "stability.json").exists()


def test_a_run_that_is_refused_leaves_nothing_behind(discover, tmp_path):
    result = discover("--edges", 100_000, "--seeds", 2)
    assert result.exit_code == 2
    assert "expected between 1 and" in result.stderr
    assert not (tmp_path / "run").exists()


def test_python_leaves_nothing_on_disk_unless_asked(model_folder, pairs_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = ep.discover_seeds(str(pairs_file), seeds=2, model=str(model_folder), steps=20, edges=12)
    assert list(tmp_path.iterdir()) == []
    assert len(found.consensus[0]) == 12
    assert len(found.runs) == 2
    assert found.stability["sizes"][0]["edge_iou"]["matrix"][0][0] == 1
