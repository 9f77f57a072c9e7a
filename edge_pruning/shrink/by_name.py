"""Shrinking methods by their names, and methods that find circuits by theirs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from edge_pruning.checked import check
from edge_pruning.discovery import METHODS
from edge_pruning.registry import build, settings_of, unknown
from edge_pruning.shrink.method import SHRINKERS, Shrinker
from edge_pruning.shrink.summed_edges import SummedEdges


def get_shrinker(name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> Shrinker:
    """Build a shrinking method with these settings. Raises ValueError with the nearest names if there is none."""
    if name in METHODS and name not in SHRINKERS:
        check_types(METHODS.named(name), settings)
        return SummedEdges(METHODS.canonical(name), settings)
    if name not in SHRINKERS:
        raise unknown(SHRINKERS.kind, name, [*SHRINKERS.known, *METHODS])
    check_types(SHRINKERS.named(name), settings)
    built: Shrinker = build(SHRINKERS.named(name), f"{SHRINKERS.kind} {name!r}", settings)
    return built


def check_types(cls: type[Any], settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings of another type than the fields of a dataclass."""
    hints, problems = get_type_hints(cls), []
    for name in settings_of(cls).keys() & settings.keys():
        try:
            check(settings[name], hints[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError(f"method {cls.name!r}: {'; '.join(sorted(problems))}")
