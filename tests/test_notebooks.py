"""The notebooks in examples/ run from the first cell to the last, and are stored without output.

They share one kernel, which imports torch once; a notebook sees no name of another one, and has a folder of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


SMALLER = {  # the same with fewer steps and pairs
    "first_circuit": {"steps=60, train=60, test=60": "steps=5, train=16, test=16"},
    "own_data": {"steps=40": "steps=5"},
    "comparing_methods": {'"steps": 60': '"steps": 5', '"train": 40, "test": 60': '"train": 16, "test": 16'},
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from jupyter_client.manager import start_new_kernel

    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    manager, client = start_new_kernel(env=environment, cwd=str(tmp_path_factory.mktemp("notebooks")))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, kernel: Any, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "store it without output"
    for usual, smaller in SMALLER.get(path.stem, {}).items():
        assert any(usual in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(usual, smaller)
    alone = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}")
    notebook.cells.insert(0, alone)
    nbclient.NotebookClient(notebook, km=kernel, timeout=300).execute()
    assert SHOWS[path.stem] in str([cell.get("outputs") for cell in notebook.cells])


def test_every_notebook_is_known_and_uses_public_names() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SHOWS)
