"""The package `tracr-pypi`. It is an extra because it needs JAX, and is imported only when a program is compiled."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def is_installed() -> bool:
    spec = importlib.util.find_spec("tracr")
    return spec is not None and spec.origin is not None  # a plain folder called tracr is found, but has no origin


def tracr(module: str) -> Any:
    """A module of the package tracr, `rasp.rasp` say. Raises ValueError with the line that installs it."""
    if not is_installed():
        raise ValueError(
            "compiling a program needs Tracr, which is not installed: pip install 'edge-pruning[tracr]' (it brings JAX "
            "and Haiku). Programs that are already compiled do not need it: see edge-pruning list programs"
        )
    return importlib.import_module(f"tracr.{module}")
