"""The shape of a foreign file's model: from the file as far as it contains it, the rest from the user.

The size of a circuit has no meaning without its graph, so a shape is never guessed: a file that lists 30 edges could
belong to a model with 2 layers or with 200.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from edge_pruning.graph import LARGEST, ModelShape

COUNT = f"a whole number from 1 to {LARGEST:,}"
FIELDS = {"layers": COUNT, "heads": COUNT, "kv_heads": COUNT, "parallel": "true or false"}
HOW = "give the shape, as in --shape layers=12,heads=12 (also kv_heads=2, parallel=true), or --like CIRCUIT"


def shape_from(said: Mapping[str, Any], given: Mapping[str, Any], why: str = "") -> ModelShape:
    """Return the shape from the file (`said`) and from the user (`given`).

    why: what is known of the size, for the message about missing layers or heads.

    Raises ValueError with every contradiction, unknown name and wrong type.
    """
    unknown = sorted(given.keys() - FIELDS)
    problems = [f"a shape has no field {name!r} (its fields are {', '.join(FIELDS)})" for name in unknown]
    problems += [
        f"expected {FIELDS[name]} for {name}, got {value!r}"
        for name, value in [*said.items(), *given.items()] if name in FIELDS and not _fits(name, value)
    ]
    problems += [
        f"the file says {name}={said[name]}, but {name}={given[name]} was given"
        for name in FIELDS if name in said and name in given and said[name] != given[name]
    ]
    known = {**given, **said}
    missing = [name for name in ("layers", "heads") if name not in known]
    if missing:
        problems.append(f"the file does not contain the number of {' and '.join(missing)}{why}; {HOW}")
    if problems:
        raise ValueError("; ".join(problems))
    return ModelShape(**known)


def at_least(names: Iterable[str]) -> str:
    """How large the model must be for these names of nodes, in words, for a file that does not say its shape."""
    text = " ".join(names)
    layers, heads = (max(map(int, re.findall(form, text)), default=-1) + 1 for form in (r"\b[am](\d+)", r"\.h(\d+)"))
    return f" (its names need at least layers={layers},heads={heads})" if layers else ""


def _fits(name: str, value: Any) -> bool:
    if name == "parallel":
        return isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST
