"""run.toml: the settings of a run as `edge-pruning discover --config run.toml` reads them, to repeat it."""

from __future__ import annotations

from typing import Any

import tomli_w

from edge_pruning.runs.config import DEFAULT_PRESET, RunConfig
from edge_pruning.version import __version__

ABOUT = "# Written by edge-pruning {}. To repeat this run: edge-pruning discover --config run.toml --out FOLDER\n"
FUNCTIONS = "# {} was a function, which no file holds: hand it over again in Python.\n"


def run_toml(config: RunConfig, *, seeds: int | None = None) -> str:
    """Every setting that is not empty; seeds: how many runs with consecutive seeds there are, if there are several."""
    values = config.to_json()
    functions = [name for name in ("own_metric", "own_objective") if values.pop(name) is not None]
    if config.preset is None and config.method is None:
        values["preset"] = DEFAULT_PRESET
    if seeds is not None:
        values["seeds"] = seeds
    about = ABOUT.format(__version__) + "".join(FUNCTIONS.format(name) for name in functions)
    return about + tomli_w.dumps(_filled(values))


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty or off: TOML has no null."""
    inner = {name: _filled(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in inner.items() if value not in (None, [], {}) and value is not False}
