"""Settings of runs in a TOML file: which names there are, and of what type each value is.

The names are those of the flags of `edge-pruning discover`, with underscores. Nothing heavy is imported, so that a
mistyped name is refused at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.registry import nearest_in_words

TEXT, WHOLE, NUMBER, SWITCH, TABLE = "a string", "a whole number", "a number", "true or false", "a table"
KINDS: dict[str, type | tuple[type, ...]] = {
    TEXT: str, WHOLE: int, NUMBER: (int, float), SWITCH: bool, TABLE: dict,
}  # fmt: skip
SETTINGS = {
    **dict.fromkeys(("task", "model", "revision", "method", "preset", "ablation", "embeddings", "heads", "device",
                     "dtype", "cuda_graph", "out"), TEXT),
    **dict.fromkeys(("steps", "batch_size", "seed", "seeds", "train", "validation", "test", "edges", "patterns"),
                    WHOLE),
    **dict.fromkeys(("learning_rate", "sparsity"), NUMBER),
    **dict.fromkeys(("polish", "chat", "trust_remote_code", "draw"), SWITCH),
    **dict.fromkeys(("settings", "data"), TABLE),
}  # fmt: skip
OF_STUDY = {"against": TABLE, "anyway": SWITCH}
OF_AGAINST = {"task": TEXT, "model": TEXT, "data": TABLE}
SEVERAL = ("edges", "sparsity")  # accept a list


def read(path: Path, *, of_study: bool = False) -> dict[str, Any]:
    """Read a file of settings. Raises ValueError with all problems in the file."""
    known = {**SETTINGS, **OF_STUDY} if of_study else SETTINGS
    content = read_toml(path)
    if "grid" in content:
        raise ValueError(f"{path} describes many runs ([grid]); run edge-pruning sweep {path}")
    if not of_study:
        refuse_study(path, content)
    problems = list(problems_in(content, known))
    if not problems and of_study:
        problems = [f"against: {words}" for words in problems_in(content.get("against", {}), OF_AGAINST)]
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}")
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ValueError that names the file."""
    try:
        return tomllib.loads(files.read_text(path).removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def refuse_study(path: Path, content: Mapping[str, Any]) -> None:
    """Raise ValueError for a file of `edge-pruning study`."""
    if "against" in content:
        raise ValueError(f"{path} describes two settings ([against]); run edge-pruning study --config {path}")


def problems_in(content: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with settings: names that do not exist, values of another type. known: the type of each."""
    return (words for name, value in content.items() if (words := _problem(name, value, known)))


def _problem(name: str, value: Any, known: Mapping[str, str]) -> str:
    if name not in known:
        return f"there is no setting {name!r} ({nearest_in_words(name, known)})"
    expected = known[name]
    values = value if isinstance(value, list) and name in SEVERAL else [value]
    fits = all(isinstance(one, KINDS[expected]) and isinstance(one, bool) == (expected == SWITCH) for one in values)
    return "" if fits else f"{name}: expected {expected}, got {value!r}"
