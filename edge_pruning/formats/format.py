"""The interface of a format: how a circuit is written to a tool's file and read from it.

A format declares the counting convention of its files (`embeddings`, `kv`; None: any). A circuit is recounted before it
is written, so `write` receives one that the format can express. Both directions return notices about everything that
the file cannot hold and everything that was assumed. A format whose tools cannot handle millions of edges declares a
limit (`most_edges`).
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
    """The content of a file, with notices."""

    circuit: Circuit
    notices: tuple[str, ...] = ()


class Format(ABC):
    """One kind of file. Subclasses are frozen dataclasses whose fields are their settings.

    suffixes, read_only: suffixes of files that are read and written, and of files that are only read.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    read_only: ClassVar[tuple[str, ...]] = ()
    embeddings: ClassVar[Embeddings | None] = None
    kv: ClassVar[KeyValues | None] = None
    most_edges: ClassVar[int | None] = None
    why_most: ClassVar[str] = ""

    @classmethod
    def check_size(cls, edges: int) -> None:
        """Raise ValueError for more edges than the format supports, with the formats that have no limit."""
        if cls.most_edges is not None and edges > cls.most_edges:
            others = ", ".join(name for name, other in sorted(FORMATS.items()) if other.most_edges is None)
            raise ValueError(
                f"{edges:,} edges are too many for {cls.name}, which takes at most {cls.most_edges:,}: {cls.why_most}. "
                f"Keep fewer edges (--edges K, where there are scores), or choose one of: {others}"
            )

    @classmethod
    def all_suffixes(cls) -> tuple[str, ...]:
        return cls.suffixes + cls.read_only

    @classmethod
    def holds(cls, content: Any) -> bool:
        """Return whether the content of a file looks like this format; used if several formats share a suffix."""
        return False

    @abstractmethod
    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        """Read the circuit in a file. shape: the known parts of the model's shape, for files that do not contain it.

        Raises ValueError with all problems: a malformed file, names that are not edges, a missing shape.
        """

    @abstractmethod
    def write(self, circuit: Circuit, path: Path) -> list[str]:
        """Write the circuit atomically. Returns notices about missing information and different conventions."""


def get_format(name: str, **settings: Any) -> Format:
    """Build the format of a name, with those of the settings that it has.

    Raises ValueError with the nearest names if the name is unknown.
    """
    cls = FORMATS.named(name)
    return cls(**{key: value for key, value in settings.items() if key in settings_of(cls)})
