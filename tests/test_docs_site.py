"""The documentation site: it is built without a warning, reaches every page, and shows every public name."""

from __future__ import annotations

import logging
import os
import runpy
from pathlib import Path
from typing import Any

import pytest

import edge_pruning as ep

pytest.importorskip("mkdocstrings_handlers.python", reason="needs the extra [docs]")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, and what was said while it was built as an error."""
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        build(config)
    except Abort:
        pytest.fail("; ".join(said))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    return folder


def test_every_page_is_built_without_a_warning(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages | {"index", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"} <= {path.stem for path in site.glob("*.html")}
    assert (site / "benchmarks" / "results" / "index.html").exists()


def test_links_to_sources_lead_to_copies(site: Path) -> None:
    page = (site / "CONTRIBUTING.html").read_text(encoding="utf-8")
    assert 'href="files/edge_pruning/discovery/search.py"' in page
    copied = site / "files" / "edge_pruning" / "discovery" / "search.py"
    assert copied.read_bytes() == (ROOT / "edge_pruning" / "discovery" / "search.py").read_bytes()


def test_the_reference_has_every_public_name(site: Path) -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = {line.removeprefix("::: ") for line in text.splitlines() if line.startswith("::: ")}
    homes = {f"{getattr(ep, name).__module__}.{getattr(ep, name).__name__}" for name in ep.__all__ if name[0] != "_"}
    assert homes <= listed
    page = (site / "api.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in listed)


def test_links_keep_their_anchors_and_code_is_left_alone() -> None:
    hook: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "docs_site.py"))
    text = "[a](docs/methods.md#eap) [b](nowhere.md) `[c](docs/faq.md)`\n\n    [d](docs/faq.md)\n\n[e](https://x.org/y)"
    assert hook["in_site"](text, ROOT / "README.md") == text.replace("docs/methods.md#eap", "methods.md#eap")
    found = hook["in_site"]("[a](../../docs/methods.md) [b](tracr.json)", ROOT / "benchmarks" / "results" / "README.md")
    assert found == "[a](../../methods.md) [b](../../files/benchmarks/results/tracr.json)"


def test_the_tutorial_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    exec(text.partition("```python\n")[2].partition("```")[0], {})
    circuit, numbers, heads = capsys.readouterr().out.splitlines()
    assert circuit.startswith("Circuit(60 of 1519 edges")
    assert float(numbers.split()[0]) >= 0
    assert heads.startswith("['")
