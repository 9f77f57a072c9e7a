"""Results as JSON values: what is undefined (NaN) or infinite becomes null, because JSON has no such numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def json_values(value: Any) -> Any:
    """The same dictionaries and lists, with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: json_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
