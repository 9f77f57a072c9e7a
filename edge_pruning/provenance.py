"""Provenance: the model, task, method, ablation, seed and versions behind a circuit.

Files of this library contain all of it. Files of other tools contain little, and possibly in another form. A provenance
can therefore be read like the JSON object in the file (`provenance["seed"]`). The usual entries are also attributes,
which are None or empty if the file does not have them.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_pruning.version import __version__

NAMED = ("model", "task", "method", "ablation", "seed")
PAIRS_IN_MEMORY = "own pairs"  # the name of a task whose pairs were objects in memory
MODEL_IN_MEMORY = " (in memory)"  # ends the name of a model that was an object in memory


def titled(task: str | None, model: str | None) -> str | None:
    """Return `TASK in MODEL`, or the one that is known. Of an absolute path only the last part is shown."""
    return " in ".join(dict.fromkeys(without_folders(name) for name in (task, model) if name)) or None


def without_folders(name: str) -> str:
    """Return the last part of an absolute path, and any other name as it is."""
    return Path(name).name if Path(name).is_absolute() else name


@dataclass(frozen=True, eq=False)
class Provenance(Mapping[str, Any]):
    """Everything a file contains about the origin of a circuit, as JSON values by name."""

    entries: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> Provenance:
        return entries if isinstance(entries, Provenance) else cls(entries)

    # --- as a mapping ----------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def with_entries(self, **entries: Any) -> Provenance:
        """Return a copy with some entries added or replaced."""
        return Provenance({**self.entries, **entries})

    # --- the usual entries -----------------------------------------------------------------------------------------

    @property
    def model(self) -> str | None:
        return self._name("model")

    @property
    def revision(self) -> str | None:
        """The branch, tag or commit of the model."""
        revision: str | None = self.part("model").get("revision")
        return revision

    @property
    def task(self) -> str | None:
        return self._name("task")

    @property
    def task_settings(self) -> dict[str, Any]:
        return dict(self.part("task").get("settings") or {})

    @property
    def method(self) -> str | None:
        return self._name("method")

    @property
    def method_settings(self) -> dict[str, Any]:
        return dict(self.part("method").get("settings") or {})

    @property
    def ablation(self) -> str | None:
        return self._name("ablation")

    @property
    def is_polished(self) -> bool:
        """Whether edges were swapped after the circuit was cut from its scores."""
        return "polish" in self.entries

    @property
    def names(self) -> dict[str, str]:
        """The names of the model, task, method, ablation and seed, as far as known."""
        known = {key: self._name(key) for key in NAMED}
        return {key: str(name) for key, name in known.items() if name is not None}

    @property
    def shown(self) -> str:
        """The names in a line, as pictures show them: `model: gpt2, task: ioi`; without folders."""
        return ", ".join(f"{key}: {without_folders(name)}" for key, name in self.names.items())

    def part(self, name: str) -> Mapping[str, Any]:
        """Return an entry that is an object, or an empty one if there is none."""
        value = self.entries.get(name)
        return value if isinstance(value, Mapping) else {}

    def _name(self, key: str) -> Any:
        value = self.entries.get(key)
        return value.get("name") if isinstance(value, Mapping) else value


def library_versions() -> dict[str, str]:
    """Return the versions of the software that a result depends on."""
    import torch
    import transformers

    return {
        "edge_pruning": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
