"""The benchmark of rivals: how edges are read off a curve, and that a broken-off run is continued."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edge_pruning.discovery import training
from edge_pruning.discovery.random_scores import Random
from edge_pruning.discovery.soft_top_k import SoftTopK

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rivals() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "rivals.py"
    spec = importlib.util.spec_from_file_location("rivals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_edges_are_read_off_between_two_sizes_on_logarithmic_axes(rivals: ModuleType) -> None:
    curve = [{"edges": 10, "kl": 1.0}, {"edges": 40, "kl": 0.01}, {"edges": 80, "kl": 0.0}]
    assert rivals.edges_at(curve, 2.0) == 10
    assert rivals.edges_at(curve, 0.1) == pytest.approx(20)
    assert rivals.edges_at(curve, 0.01) == pytest.approx(40)
    assert rivals.edges_at(curve, 0.005) == 80
    assert math.isnan(rivals.edges_at(curve[:2], 0.005))
    assert rivals.kl_at(curve, 40) == 0.01
    assert math.isnan(rivals.kl_at(curve, 41))


def test_sizes_are_so_many_per_doubling_and_those_of_the_table(rivals: ModuleType) -> None:
    assert rivals.sizes_of(8, 128, 2, [20]) == [8, 11, 16, 20, 23, 32, 45, 64, 91, 128]
    assert rivals.sizes_of(50, 400, 1, []) == [50, 100, 200, 400]


def test_passes_are_pairs_times_masks_times_steps(rivals: ModuleType) -> None:
    ugs = rivals.with_passes(rivals.get_method("ugs"), 4800)
    assert ugs.steps * ugs.batch_size * ugs.masks_per_step == 4800
    hard = rivals.with_passes(rivals.get_preset("paper"), 4800)
    assert (hard.steps, hard.target_steps, hard.warmup_steps) == (150, 125, 10)
    eap = rivals.get_method("eap")
    assert rivals.with_passes(eap, 4800) == eap
    assert rivals.with_passes(rivals.get_preset("paper"), None) == rivals.get_preset("paper")


def test_the_ratio_is_to_the_best_of_the_earlier_methods(rivals: ModuleType) -> None:
    def line(name: str, edges: float) -> dict[str, Any]:
        needed = {f"{share:g}": {"mean": edges, "sd": 0.0} for share in rivals.SHARES}
        return {"method": name, "edges_needed": needed}

    found = rivals.ratios([line("edge pruning", 30), line("eap", 90), line("acdc", 60), line("node", 1)])
    assert found["0.1"] == {"ratio": 0.5, "best_of_the_others": "acdc"}
    assert rivals.ratios([line("edge pruning", 30), line("eap", math.nan)]) == {}


@pytest.fixture
def command(rivals: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Row]:
    """Runs the benchmark in a temporary folder, with a few steps of training, and returns what it wrote."""
    short = {"steps": 20, "batch_size": 4}
    monkeypatch.setitem(rivals.RIVALS, "edge pruning", lambda seed: rivals.get_method("soft-top-k", seed=seed, **short))

    def run(only: str, *options: str) -> Row:
        words = ["bundled", "ioi", "--test", "8", "--train", "12", "--only", only, "--out", str(tmp_path / "found")]
        monkeypatch.setattr(sys, "argv", ["rivals.py", *words, *options])
        rivals.main()
        found: Row = json.loads((tmp_path / "found.json").read_text())
        return found

    return run


def cells(found: Row) -> list[tuple[str, int]]:
    return [(row["method"], row["seed"]) for row in found["runs"]]


def test_a_run_is_written_down_and_continued(
    command: Callable[..., Row], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = command("edge pruning+random", "--seeds", "1")
    assert "| edge pruning |" in capsys.readouterr().out
    assert cells(first) == [("edge pruning", 0), ("random", 0)]
    assert first["runs"][0]["seconds"] > 0
    assert (tmp_path / "found.svg").read_text().startswith("<?xml")
    asked = counted_searches(monkeypatch)
    second = command("edge pruning+random", "--seeds", "2")
    assert asked == [1, 1]
    assert sorted(cells(second)) == [("edge pruning", 0), ("edge pruning", 1), ("random", 0), ("random", 1)]
    assert all(row in second["runs"] for row in first["runs"])


def counted_searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the searches that are made from now on, except for that of the empty circuit."""
    asked: list[int] = []
    for cls in (SoftTopK, Random):
        real = cls.find

        def find(self: Any, search: Any, real: Any = real) -> Any:
            if search.data.split == "train":
                asked.append(self.seed)
            return real(self, search)

        monkeypatch.setattr(cls, "find", find)
    return asked


def test_other_methods_add_to_what_is_there(command: Callable[..., Row]) -> None:
    command("random", "--seeds", "1")
    assert sorted(cells(command("magnitude", "--seeds", "1"))) == [("magnitude", 0), ("random", 0)]


def test_a_search_that_was_killed_goes_on_and_one_that_is_done_is_not_made_again(
    command: Callable[..., Row], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "found.cells"
    whole = command("edge pruning", "--seeds", "1")
    for name in ("edge-pruning-0.json", "edge-pruning-0.safetensors"):
        (folder / name).unlink()
    steps: list[int] = []
    monkeypatch.setattr(training, "mask_gradient", counted(training.mask_gradient, steps))
    assert command("edge pruning", "--seeds", "1")["runs"][0]["curve"] == whole["runs"][0]["curve"]
    assert not steps  # the last checkpoint was the end
    (folder / "edge-pruning-0.json").unlink()
    asked = counted_searches(monkeypatch)
    assert command("edge pruning", "--seeds", "1")["runs"][0]["curve"] == whole["runs"][0]["curve"]
    assert not asked


def counted(real: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    return run


def test_cells_with_other_test_pairs_are_refused(command: Callable[..., Row]) -> None:
    command("random", "--seeds", "1")
    with pytest.raises(ValueError, match=r"cells with other test pairs than this run: random \(seed 0\)"):
        command("random", "--seeds", "1", "--test", "9")
