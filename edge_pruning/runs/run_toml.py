"""run.toml: the settings of a run, from which `edge-pruning discover --config run.toml` repeats it."""

from __future__ import annotations

from typing import Any

import tomli_w

from edge_pruning.runs.config import DEFAULT_PRESET, RunConfig
from edge_pruning.version import __version__

ABOUT = "# Written by edge-pruning {}. To repeat this run: edge-pruning discover --config run.toml --out FOLDER\n"
FUNCTIONS = "# {} was a function, which is not in this file: pass it again in Python.\n"


def run_toml(config: RunConfig, *, seeds: int | None = None) -> str:
    """Return every setting that is not empty. seeds: the number of runs with consecutive seeds, if there are several.
    """
    values = config.to_json()
    functions = [name for name in ("own_metric", "own_objective") if values.pop(name) is not None]
    if config.preset is None and config.method is None:
        values["preset"] = DEFAULT_PRESET
    if seeds is not None:
        values["seeds"] = seeds
    about = ABOUT.format(__version__) + "".join(FUNCTIONS.format(name) for name in functions)
    return about + tomli_w.dumps(_filled(values))


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without empty and disabled ones, because TOML has no null."""
    inner = {name: _filled(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in inner.items() if value not in (None, [], {}) and value is not False}
