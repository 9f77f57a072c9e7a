"""Shrinking methods by name. The name of a method that finds circuits gives `SummedEdges` of that method."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from edge_pruning.checked import check
from edge_pruning.discovery import METHODS
from edge_pruning.registry import build, settings_of, unknown
from edge_pruning.shrink.method import SHRINKERS, Shrinker
from edge_pruning.shrink.summed_edges import SummedEdges


def get_shrinker(name: str, settings: Mapping[str, Any] = MappingProxyType({}), *, seed: int = 0) -> Shrinker:
    """Build a shrinking method with these settings.

    seed: for a method that has a setting `seed`, unless the settings give one.
    Raises ValueError for an unknown name (with the nearest ones), and for settings that the method does not take.
    """
    if name not in SHRINKERS and name not in METHODS:
        raise unknown(SHRINKERS.kind, name, [*SHRINKERS.known, *METHODS])
    cls: type[Any] = SHRINKERS.named(name) if name in SHRINKERS else METHODS.named(name)
    check_types(cls, settings)
    if "seed" in settings_of(cls):
        settings = {"seed": seed, **settings}
    if name not in SHRINKERS:
        return SummedEdges(METHODS.canonical(name), settings)
    built: Shrinker = build(cls, f"{SHRINKERS.kind} {name!r}", settings)
    return built


def check_types(cls: type[Any], settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings whose types are not those of a dataclass's fields."""
    hints, problems = get_type_hints(cls), []
    for name in settings_of(cls).keys() & settings.keys():
        try:
            check(settings[name], hints[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError(f"method {cls.name!r}: {'; '.join(sorted(problems))}")
