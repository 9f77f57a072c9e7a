"""Registries: entries by name and alias, duplicates refused, and one wording for names that do not exist."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_pruning import registry
from edge_pruning.ablation import ABLATIONS
from edge_pruning.discovery import METHODS, PRESETS, get_method
from edge_pruning.formats import FORMATS
from edge_pruning.models import ADAPTERS
from edge_pruning.models.tracr import LIBRARY
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.registry import Registry
from edge_pruning.tasks import TASKS

ALL = [ABLATIONS, ADAPTERS, FORMATS, LIBRARY, METHODS, OBJECTIVES, PRESETS, TASKS]


@dataclass(frozen=True)
class Fruit:
    name: str
    aliases: tuple[str, ...] = ()


@pytest.fixture
def fruits() -> Registry[Fruit]:
    return Registry("fruit", [Fruit("pear"), Fruit("apple", ("malus", "manzana"))], hint="or grow your own")


def test_it_is_a_mapping_in_the_order_of_registration(fruits: Registry[Fruit]) -> None:
    assert list(fruits) == ["pear", "apple"]
    assert len(fruits) == 2
    assert fruits["pear"] == Fruit("pear")
    with pytest.raises(KeyError):
        fruits["plum"]


def test_an_alias_finds_the_entry_and_is_not_listed(fruits: Registry[Fruit]) -> None:
    assert fruits.named("malus") is fruits["apple"] is fruits["manzana"]
    assert "malus" in fruits
    assert "malus" not in list(fruits)


def test_a_removed_entry_takes_its_aliases_along(fruits: Registry[Fruit]) -> None:
    fruits.remove("apple")
    assert "apple" not in fruits
    assert "malus" not in fruits
    fruits.register(Fruit("malus"))


@pytest.mark.parametrize("other", [
    Fruit("pear", ("pera",)), Fruit("malus"), Fruit("plum", ("pear",)), Fruit("plum", ("manzana",)),
])
def test_a_taken_name_or_alias_is_refused_and_nothing_changes(fruits: Registry[Fruit], other: Fruit) -> None:
    with pytest.raises(ValueError, match=r"two fruits are called '\w+': Fruit\(.* and Fruit\(.*; rename one"):
        fruits.register(other)
    assert list(fruits) == ["pear", "apple"]
    assert fruits["pear"] == Fruit("pear")


def test_the_same_definition_replaces_itself_as_in_a_notebook_cell_that_runs_twice() -> None:
    classes: Registry[type] = Registry("class")

    def cell() -> type:
        @classes.register
        class Thing:
            name = "thing"
            aliases = ("gadget",)

        return Thing

    first, second = cell(), cell()
    assert classes["thing"] is classes["gadget"] is second is not first


def test_neither_name_nor_aliases_are_inherited() -> None:
    classes: Registry[type] = Registry("class")

    class Base:
        name = "base"
        aliases = ("old",)

    class Nameless(Base):
        pass

    class Other(Base):
        name = "other"

    classes.register(Base)
    with pytest.raises(ValueError, match="Nameless needs its own attribute 'name', the class's name"):
        classes.register(Nameless)
    classes.register(Other)
    assert classes["old"] is Base


def test_an_unknown_name_lists_the_nearest_names_and_aliases_or_else_all(fruits: Registry[Fruit]) -> None:
    with pytest.raises(ValueError, match="^there is no fruit 'appel'; nearest: apple; or grow your own$"):
        fruits.named("appel")
    with pytest.raises(ValueError, match="nearest: manzana;"):
        fruits.named("manzanas")
    with pytest.raises(ValueError, match="there is no fruit 'xyz'; choose from apple, malus, manzana, pear;"):
        fruits.named("xyz")


@pytest.mark.parametrize("entries", ALL, ids=lambda entries: entries.kind)
def test_every_kind_has_the_one_wording(entries: Registry[object]) -> None:
    name = next(iter(entries))
    with pytest.raises(ValueError, match=f"there is no {entries.kind} '{name}z'; nearest: {name}"):
        entries.named(f"{name}z")
    with pytest.raises(ValueError, match=f"two {entries.kind}s are called '{name}'"):
        entries.register(type("Impostor", (), {entries._key: name}))


def test_settings_that_do_not_exist_are_refused_with_those_that_do() -> None:
    @dataclass
    class Thing:
        size: int = 3
        own: int = field(default=0, init=False)

    assert registry.settings_of(Thing) == {"size": 3}
    assert registry.build(Thing, "thing 'a'", {"size": 4}).size == 4
    with pytest.raises(ValueError, match="thing 'a' has no setting sise, own; its settings are size$"):
        registry.build(Thing, "thing 'a'", {"sise": 4, "own": 1})
    with pytest.raises(ValueError, match="method 'magnitude' has no setting steps; its settings are none"):
        get_method("magnitude", steps=3)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "throwaway"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from edge_pruning.registry import import_files\nimport_files(__name__, __path__)\n"
    )
    (folder / "inner" / "__init__.py").write_text("raise AssertionError('a package of its own')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "throwaway"]:
        del sys.modules[name]


def test_a_new_file_in_a_package_registers_itself(package: Path) -> None:
    (package / "new_method.py").write_text(
        "from edge_pruning.discovery.method import Method, method\n\n"
        "@method\nclass New(Method):\n    name = 'brand-new'\n"
    )
    try:
        __import__("throwaway")
        assert METHODS["brand-new"].__module__ == "throwaway.new_method"
    finally:
        METHODS.remove("brand-new")
