"""The notebooks in examples/ run from the first cell to the last, and are stored without output."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
SHOWS = {  # what the output of each of them holds
    "first_circuit": "<svg",
    "own_data": "answer log probability",
    "comparing_methods": "soft-top-k",
    "compiled_program": "0 missed",
}
nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "store it without output"
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert SHOWS[path.stem] in str([cell.get("outputs") for cell in notebook.cells])


def test_every_notebook_is_known_and_uses_public_names() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SHOWS)
