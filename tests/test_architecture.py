"""The layer table of ARCHITECTURE.md holds: imports go downward only, and never in a circle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edge_pruning"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def layer_table(text: str) -> dict[str, int]:
    """`{"graph": 0, ...}`: names come before the first gap of three spaces, which begins the description."""
    block = re.search(r"```layers\n(.*?)```", text, re.DOTALL)
    assert block, "ARCHITECTURE.md has no ```layers block"
    table = {}
    for line in block[1].strip().splitlines():
        number, names = line.split(maxsplit=1)
        for name in re.split(r"\s{3,}", names)[0].split():
            table[name] = int(number)
    return table


def forbidden(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(\w+) -> (\w+)`", text)


LAYERS, FORBIDDEN = layer_table(TEXT), forbidden(TEXT)
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module(path): path for path in SOURCES}


def part(name: str) -> str:
    """The first part of a module below the package: what the table lists."""
    return name.split(".")[1] if "." in name else "__init__"


def resolved(name: str) -> str:
    """`edge_pruning.circuit.Circuit` is in the module `edge_pruning.circuit`."""
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name if name in MODULES else "edge_pruning.__init__"


def imports(source: str) -> Iterator[str]:
    """Everything of this package that a source imports, wherever in the file; not what only type checkers import."""
    tree = ast.parse(source)
    hidden = {
        id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "edge_pruning")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            if (node.module or "").split(".")[0] == "edge_pruning":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def problems(name: str, source: str) -> list[str]:
    found = []
    for imported in map(resolved, imports(source)):
        here, there = part(name), part(imported)
        if LAYERS[there] > LAYERS[here]:
            found.append(f"{name} (layer {LAYERS[here]}) imports {imported} (layer {LAYERS[there]})")
        if (here, there) in FORBIDDEN:
            found.append(f"{name} imports {imported}, which ARCHITECTURE.md forbids")
    return found


def test_every_file_has_a_layer_and_every_name_in_the_table_exists():
    assert {part(name) for name in MODULES} == set(LAYERS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward_only(name):
    assert not problems(name, MODULES[name].read_text(encoding="utf-8"))


def test_no_imports_form_a_cycle():
    graph = {
        name: {other for other in map(resolved, imports(path.read_text(encoding="utf-8"))) if other != name}
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these imports form a cycle: {' -> '.join(error.args[1])}")


def test_the_check_sees_an_upward_and_a_forbidden_import():
    assert problems("edge_pruning.graph", "from edge_pruning.circuit import Circuit")
    assert problems("edge_pruning.graph", "def f():\n    import edge_pruning.cli.app")
    assert problems("edge_pruning.evaluation.caveats", "from edge_pruning.discovery.training import train")
    assert not problems("edge_pruning.circuit", "from edge_pruning import files\nfrom edge_pruning.graph import Graph")


def test_importing_the_package_loads_neither_torch_nor_transformers():

    code = (
        "import sys, edge_pruning, edge_pruning.cli.app; "
        "print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
