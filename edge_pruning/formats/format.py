"""A format: how a circuit is written into a file of some tool, and read from one.

A format says which way of counting its files have (`embeddings`, `kv`; None: any); the conversion recounts a circuit
before it is written, so `write` gets what it can express. Both directions return notices: whatever a file cannot hold,
or what was taken to be meant, is said and not silently changed.
"""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning.circuit import Circuit
from edge_pruning.recount import Embeddings, KeyValues

FORMATS: dict[str, type[Format]] = {}


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


def circuit_format(cls: type[Format]) -> type[Format]:
    """Register a format under its name."""
    FORMATS[cls.name] = cls
    return cls


def get_format(name: str, **settings: Any) -> Format:
    """The format of that name. Raises ValueError with the nearest names, or with the settings that it does not have."""
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, 3, 0.4) or sorted(FORMATS)
        raise ValueError(f"no format {name!r} (nearest: {', '.join(near)}); there are {', '.join(sorted(FORMATS))}")
    cls = FORMATS[name]
    return cls(**{key: value for key, value in settings.items() if key in settings_of(cls)})


def settings_of(cls: type[Format]) -> set[str]:
    return {field.name for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
