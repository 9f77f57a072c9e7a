"""What the documentation shows is run."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from edge_pruning.models.bundled import BUNDLED
from edge_pruning.models.tracr.extra import is_installed

ROOT = Path(__file__).parent.parent
EXAMPLES = dict.fromkeys(sorted((ROOT / "examples").glob("*.py")), "circuit.svg")  # what each of them writes
EXAMPLES |= {ROOT / "examples" / "judge_any_circuit.py": "report.html"}
SMALLER = {  # the same with fewer steps, pairs and edges
    "quickstart.py": {"edges=100": "edges=30, steps=5, train=16, test=16"},
    "judge_any_circuit.py": {"edges=100": "edges=20", "train=100, test=50": "train=16, test=8"},
    "three_against_eight.py": {
        "edges=60": "edges=60, steps=3, train=16, validation=8, test=8", "(0, 1, 2, 4, 5, 6, 7, 9)": "(0,)",
    },
}
SAYS = {"own_program.py": "exact: True"}


@pytest.mark.skipif(not (BUNDLED / "config.json").exists(), reason="this checkout has no bundled model")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs_and_writes(path, tmp_path, monkeypatch, capsys):
    if path.name == "own_program.py" and not is_installed():
        pytest.skip("needs tracr-pypi: pip install 'edge-pruning[tracr]'")
    code = path.read_text()
    for usual, smaller in SMALLER.get(path.name, {}).items():
        assert usual in code
        code = code.replace(usual, smaller)
    (tmp_path / path.name).write_text(code)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(path.name, run_name="__main__")
    assert SAYS.get(path.name, "Circuit(") in capsys.readouterr().out
    assert (tmp_path / EXAMPLES[path]).read_text().startswith(("<svg", "<!doctype html>"))


def test_the_quickstart_is_under_ten_lines():
    code = [line for line in (ROOT / "examples" / "quickstart.py").read_text().splitlines() if line.strip()]
    assert len(code) - 1 < 10  # the first line is the docstring
