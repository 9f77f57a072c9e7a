"""The benchmark of rivals: how edges are read off a curve, and that a broken-off run is continued."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def rivals() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "rivals.py"
    spec = importlib.util.spec_from_file_location("rivals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
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


def test_sizes_are_two_per_doubling_and_those_of_the_table(rivals: ModuleType) -> None:
    assert rivals.sizes_of(256, [20]) == [8, 11, 16, 20, 23, 32, 45, 64, 91, 128]


def test_the_ratio_is_to_the_best_of_the_earlier_methods(rivals: ModuleType) -> None:
    def line(name: str, edges: float) -> dict[str, Any]:
        needed = {f"{share:g}": {"mean": edges, "sd": 0.0} for share in rivals.SHARES}
        return {"method": name, "edges_needed": needed}

    found = rivals.ratios([line("edge pruning", 30), line("eap", 90), line("acdc", 60), line("node", 1)])
    assert found["0.1"] == {"ratio": 0.5, "best_of_the_others": "acdc"}
    assert rivals.ratios([line("edge pruning", 30), line("eap", math.nan)]) == {}


def test_a_run_is_written_down_and_continued(
    rivals: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = tmp_path / "found"
    command = ["rivals.py", "bundled", "ioi", "--test", "8", "--only", "edge pruning+random", "--sizes", "50", "--out",
               str(stem)]
    short = {"steps": 5, "batch_size": 4}
    monkeypatch.setitem(rivals.RIVALS, "edge pruning", lambda seed: rivals.get_method("soft-top-k", seed=seed, **short))
    monkeypatch.setattr(rivals, "sizes_of", lambda edges, shown: [16, *shown])
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "1"])
    rivals.main()
    assert "| edge pruning |" in capsys.readouterr().out
    first = json.loads(stem.with_suffix(".json").read_text())
    assert [(row["method"], row["seed"]) for row in first["runs"]] == [("edge pruning", 0), ("random", 0)]
    assert first["runs"][0]["seconds"] > 0
    assert stem.with_suffix(".svg").read_text().startswith("<?xml")
    asked: list[int] = []
    real = rivals.run

    def counted(*arguments: Any) -> Any:
        asked.append(1)
        return real(*arguments)

    monkeypatch.setattr(rivals, "run", counted)
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "2"])
    rivals.main()
    second = json.loads(stem.with_suffix(".json").read_text())
    assert len(asked) == 2
    assert second["runs"][:2] == first["runs"]
    assert [row["seed"] for row in second["runs"]] == [0, 0, 1, 1]
