"""A format: how a circuit is written into a file of some tool, and read from one.

A format says which way of counting its files have (`embeddings`, `kv`; None: any); the conversion recounts a circuit
before it is written, so `write` gets what it can express. Both directions return notices: whatever a file cannot hold,
or what was taken to be meant, is said and not silently changed. A format whose tools or libraries cannot cope with
millions of edges says how many they can (`most_edges`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning.circuit import Circuit
from edge_pruning.recount import Embeddings, KeyValues
from edge_pruning.registry import Registry, settings_of

FORMATS: Registry[type[Format]] = Registry("format")
circuit_format = FORMATS.register


@dataclass(frozen=True, eq=False)
class Found:
    """What a file held, and what to know about it."""

    circuit: Circuit
    notices: tuple[str, ...] = ()


class Format(ABC):
    """Teaches the library one kind of file. Subclasses are frozen dataclasses whose fields are their settings."""

    name: ClassVar[str]
    summary: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    embeddings: ClassVar[Embeddings | None] = None
    kv: ClassVar[KeyValues | None] = None
    most_edges: ClassVar[int | None] = None
    why_most: ClassVar[str] = ""

    @classmethod
    def check_size(cls, edges: int) -> None:
        """Raises ValueError for more edges than the format is fit for, with the formats that have no limit."""
        if cls.most_edges is not None and edges > cls.most_edges:
            others = ", ".join(name for name, other in sorted(FORMATS.items()) if other.most_edges is None)
            raise ValueError(
                f"{edges:,} edges are too many for {cls.name}, which takes at most {cls.most_edges:,}: {cls.why_most}. "
                f"Keep fewer edges (--edges K, where there are scores), or choose one of: {others}"
            )

    @classmethod
    def holds(cls, content: Any) -> bool:
        """Whether the content of a JSON file looks like this format; asked where several formats share a suffix."""
        return False

    @abstractmethod
    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        """The circuit in a file. shape: what the caller knows of the model's shape, for files that do not say it.

        Raises ValueError, with everything that is wrong: a malformed file, names that are no edges, a missing shape.
        """

    @abstractmethod
    def write(self, circuit: Circuit, path: Path) -> list[str]:
        """Write the circuit, atomically; returns what the file does not hold or others read differently."""


def get_format(name: str, **settings: Any) -> Format:
    """Build the format of a name, with those of the settings that it has.

    Raises ValueError with the nearest names if there is none.
    """
    cls = FORMATS.named(name)
    return cls(**{key: value for key, value in settings.items() if key in settings_of(cls)})
