"""A picture is of the kind that its file name says, or there is none."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import check_picture, draw_circuit, save_picture, title_of
from edge_pruning.graph import Graph, ModelShape

CIRCUIT = Circuit.from_names(Graph(ModelShape(2, 2)), ["input->logits", "input->m0", "m0->logits"])


@pytest.mark.parametrize(("name", "begins"), [
    ("x.svg", b"<svg"), ("x.png", b"\x89PNG\r\n"), ("x.pdf", b"%PDF-"), ("x.PNG", b"\x89PNG\r\n"),
])  # fmt: skip
def test_the_name_says_which_kind_of_picture_it_is(name: str, begins: bytes, tmp_path: Path) -> None:
    save_picture(tmp_path / name, draw_circuit(CIRCUIT, title="a < b"))
    content = (tmp_path / name).read_bytes()
    assert content.startswith(begins)
    assert len(content) > 1000


def test_a_png_has_two_pixels_per_unit(tmp_path: Path) -> None:
    save_picture(tmp_path / "x.png", '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="10"></svg>')
    header = (tmp_path / "x.png").read_bytes()[16:24]
    assert (int.from_bytes(header[:4]), int.from_bytes(header[4:])) == (60, 20)


@pytest.mark.parametrize("name", ["x.jpg", "x", "x.svgz"])
def test_other_kinds_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a name that ends with \.svg, \.png, \.pdf"):
        save_picture(tmp_path / name, "<svg/>")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("error", "words"), [
    (ImportError("no module"), r"pip install 'edge-pruning\[pictures\]'"),
    (OSError("no library called cairo-2\nand more"), r"does not find the library cairo \(no library called cairo-2\)"),
])  # fmt: skip
def test_what_is_missing_is_named_before_the_work(error: Exception, words: str, monkeypatch: Any) -> None:
    real = importlib.import_module

    def missing(name: str) -> Any:
        if name == "cairosvg":
            raise error
        return real(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=words):
        check_picture(Path("x.pdf"))
    check_picture(Path("x.svg"))


@pytest.mark.parametrize(("provenance", "title"), [
    ({}, None), ({"task": "ioi"}, "ioi"), ({"task": {"name": "ioi"}, "model": {"name": "gpt2"}}, "ioi in gpt2"),
    ({"task": "tracr:sort", "model": "tracr:sort"}, "tracr:sort"),
])  # fmt: skip
def test_a_circuit_is_called_by_its_task_and_model(provenance: dict[str, Any], title: str | None) -> None:
    assert title_of(Circuit(CIRCUIT.graph, CIRCUIT.mask, provenance=provenance)) == title  # type: ignore[arg-type]
