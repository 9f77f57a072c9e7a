"""How a circuit was found and judged, as names and sentences: the part of a report that makes it repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]


def asked(report: Json) -> list[tuple[str, str]]:
    """Rows of a list: what, and its value in words. What a circuit's provenance does not say is left out."""
    return [*_how_it_was_found(report["circuit"]["provenance"]), *_how_it_was_judged(report)]


def _how_it_was_found(origin: Json) -> Iterator[tuple[str, str]]:
    task, model, method = (_part(origin, name) for name in ("task", "model", "method"))
    if task:
        yield "Task", _with_settings(task)
    if model:
        revision = f", revision {model['revision']}" if model.get("revision") else ""
        shape = f", {_settings(model['shape'])}" if model.get("shape") else ""
        yield "Model", f"{model.get('name')}{revision}{shape}"
    if method:
        preset = f", preset {method['preset']}" if method.get("preset") else ""
        yield "Method", f"{method.get('name')}{preset}: {_settings(method.get('settings') or {})}"
    if origin.get("requested"):
        yield "Size", f"asked for: {', '.join(map(str, origin['requested']))} edges"
    elif origin.get("size_rule"):
        yield "Size", str(origin["size_rule"])
    train = _part(_part(origin, "data"), "train")
    if train:
        yield "Found on", f"{train.get('pairs')} training pairs ({str(train.get('hash'))[:12]})"
    search = {"ablation": "Ablation in the search", "seed": "Seed of the search", "dtype": "Precision of the search"}
    yield from ((name, str(origin[key])) for key, name in search.items() if origin.get(key) is not None)
    if _part(origin, "versions"):
        yield "Versions", _settings(origin["versions"])


def _how_it_was_judged(report: Json) -> Iterator[tuple[str, str]]:
    on = report["evaluation"]
    yield "Judged on", f"{on['examples']:,} {on['split']} pairs of {on['task']} ({on['data_hash'][:12]})"
    yield "Ablation in the evaluation", f"{on['ablation']}: a removed edge carries {_lower(on['ablation_description'])}"
    yield "Precision of the evaluation", str(on["dtype"])
    yield "Seed of the evaluation", str(on["seed"])
    yield "Counting", f"{on['convention']}; {on['circuit']['edges_total']:,} edges in the graph"


def _part(of: Json, name: str) -> Json:
    value = of.get(name)
    return value if isinstance(value, Mapping) else {}


def _with_settings(part: Json) -> str:
    settings = _settings(part.get("settings") or {})
    return f"{part.get('name')}{f', {settings}' if settings else ''}"


def _settings(values: Json) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
