"""All settings of a run, as plain values for config.json, checked together before anything is loaded.

The settings of the task and of the method have a dictionary each. In Python and on the command line, they can also be
given flat (`steps=100`, `train=50`); `RunConfig.of` sorts them.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_pruning.ablation import Ablation, get_ablation
from edge_pruning.discovery import METHODS, PRESETS, Method, get_method, get_preset
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.loading.placement import DTYPES
from edge_pruning.loading.search_dtype import AUTO
from edge_pruning.masked_pass.captured import CHOICES
from edge_pruning.metrics import DIFFERENCES
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.registry import nearest
from edge_pruning.runs.task_setting import task_setting
from edge_pruning.tasks import Task, get_task

DEFAULT_PRESET = "default"
SEEDS = 2**63
FASTEST = 1000.0  # largest learning rate
TASK_SETTINGS = (
    "train", "validation", "test", "bos", "chat", "columns", "skip_unequal", "group", "space", "first_token", "style",
    "shots",
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of a run. Raises ValueError with all problems.

    task: a name, or a path to pairs.
    data: settings of the task.
    source: pairs in memory, or a task without a name; not stored.
    model: `bundled`, a folder or a hub id. preset or method: how circuits are found; `settings` are changes to it.
        edges or sparsity: one or several sizes; if neither is given, see `sizes.py`.
    ablation: what a removed edge carries.
    dtype: of the weights. `auto`: float32, and some methods may search a copy in bfloat16 (see `search_dtype.py`).
    embeddings: `joint` or `split` embedding writers.
    heads: key and value readers per `kv` or per `query` head.
    polish: swap edges at the end.
    cuda_graph: whether steps are captured as CUDA graphs: `auto`, `on` or `off` (see `masked_pass/captured.py`).
    trust_remote_code: whether code from the model's repository may run.
    own_metric, own_objective: names of functions that replace those of the task (see `own_functions.py`).
    """

    task: str
    data: Mapping[str, Any] = field(default_factory=dict)
    model: str = "bundled"
    revision: str | None = None
    preset: str | None = None
    method: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    edges: tuple[int, ...] = ()
    sparsity: tuple[float, ...] = ()
    ablation: str = "patch"
    embeddings: str = "joint"
    heads: str = "kv"
    polish: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = AUTO
    cuda_graph: str = "auto"
    trust_remote_code: bool = False
    own_metric: str | None = None
    own_objective: str | None = None
    source: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", _several(self.edges))
        object.__setattr__(self, "sparsity", _several(self.sparsity))
        for names, kind in ((METHODS, "method"), (PRESETS, "preset")):
            if (name := getattr(self, kind)) is not None:
                object.__setattr__(self, kind, names.canonical(name))
        problems = list(self._problems())
        if problems:
            raise ValueError("\n  ".join([f"{len(problems)} problems:", *problems] if len(problems) > 1 else problems))

    @classmethod
    def of(cls, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> RunConfig:
        """Build a configuration from flat settings. `stored` (of a run to be resumed) provides the missing ones."""
        setting = task_setting(given["task"]) if "task" in given else {}
        given = {**given, **setting, "data": {**setting.get("data", {}), **given.get("data", {})}}
        own = {f.name for f in dataclasses.fields(cls)}
        merged = dict(stored or _defaults_of_task(given))
        merged |= {name: value for name, value in given.items() if name in own - {"data", "settings"}}
        flat = {name: value for name, value in given.items() if name not in own}
        data = {name: value for name, value in flat.items() if name in TASK_SETTINGS}
        rest = {name: value for name, value in flat.items() if name not in TASK_SETTINGS}
        _refuse_twice({**data, **rest}, {**given["data"], **given.get("settings", {})})
        merged["data"] = {**merged.get("data", {}), **given.get("data", {}), **data}
        merged["settings"] = {**merged.get("settings", {}), **given.get("settings", {}), **rest}
        return cls(**merged)

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "source"}
        content: dict[str, Any] = json.loads(json.dumps(values))
        return content

    # --- values of the names ---------------------------------------------------------------------------------------

    @cached_property
    def task_value(self) -> Task:
        if self.source is None:
            return get_task(self.task, **self.data)
        named = {} if isinstance(self.source, Task) else {"name_of_source": self.task}
        return get_task(self.source, **named, **self.data)

    @cached_property
    def method_value(self) -> Method:
        """The preset or method, changed by the settings."""
        base, settings = self._base_method, dict(self.settings)
        if "seed" in _fields(type(base)):
            settings.setdefault("seed", self.seed)
        return dataclasses.replace(base, **settings)

    @property
    def _base_method(self) -> Method:
        if self.preset is None and self.method is not None:
            return get_method(self.method)
        base = get_preset(self.preset or DEFAULT_PRESET)
        if self.method not in (None, base.name):
            raise ValueError(f"preset {self.preset!r} is of method {base.name!r}, not {self.method!r}; leave out one")
        return base

    @cached_property
    def ablation_value(self) -> Ablation:
        return get_ablation(self.ablation, seed=self.seed)

    def graph(self, shape: ModelShape) -> Graph:
        return Graph(shape, self.embeddings, self.heads)  # type: ignore[arg-type]  # checked by Graph

    @property
    def loaded_dtype(self) -> str:
        """The dtype in which the model is loaded."""
        return "float32" if self.dtype == AUTO else self.dtype

    @property
    def search_dtype(self) -> str:
        """The dtype of the search; `auto` if the device decides."""
        return self.dtype if self.method_value.rounds_weights else self.loaded_dtype

    @property
    def draws_at_random(self) -> bool:
        """Whether the search depends on the seed."""
        return "seed" in _fields(type(self._base_method)) or self.ablation == "resample"

    # --- checks ----------------------------------------------------------------------------------------------------

    def _problems(self) -> Iterator[str]:
        names = (
            lambda: self.task_value, self._check_method, lambda: self.ablation_value,
            lambda: self.graph(ModelShape(1, 1)),
        )
        for check in names:
            try:
                check()
            except (ValueError, OSError) as error:
                yield str(error)
        yield from self._problems_with_sizes()
        if self.dtype not in (AUTO, *DTYPES):
            yield f"expected dtype {AUTO}, {', '.join(DTYPES)}; got {self.dtype!r}"
        if self.cuda_graph not in CHOICES:
            yield f"expected cuda_graph {', '.join(CHOICES)}; got {self.cuda_graph!r}"
        if self.own_metric not in (None, *DIFFERENCES):
            yield f"the metric {self.own_metric!r} was a function; pass it again (metric=...)"
        if self.own_objective not in (None, *OBJECTIVES):
            yield f"the objective {self.own_objective!r} was a function; pass it again (objective=...)"
        if not _is_a(self.seed, int) or not 0 <= self.seed < SEEDS:
            yield f"expected a seed from 0 to 2**63 - 1, got {self.seed!r}"

    def _problems_with_sizes(self) -> Iterator[str]:
        if self.edges and self.sparsity:
            yield "expected edges or sparsity, got both: each of them says how large the circuit is"
        if any(not _is_a(k, int) or k < 1 for k in self.edges):
            yield f"expected whole numbers of edges, at least 1, got {', '.join(map(str, self.edges))}"
        if any(not _is_a(s, float) or not 0 <= s < 1 for s in self.sparsity):
            yield (
                "expected a sparsity (the share of edges that is removed) of at least 0 and below 1, "
                f"got {', '.join(map(str, self.sparsity))}"
            )

    def _check_method(self) -> None:
        if self.method is not None and self.method not in METHODS:
            get_method(self.method)  # raises ValueError with the nearest names
        base = self._base_method
        fields, problems = _fields(type(base)), []
        for name, value in self.settings.items():
            if name not in fields:
                near = nearest(name, fields)  # if none is near, the message ends with all names
                problems.append(f"no setting {name!r}" + (f" (nearest: {', '.join(near)})" if near else ""))
            elif not _is_a(value, fields[name]):
                problems.append(f"{name}: expected {_type_name(fields[name])}, got {value!r}")
            elif name.endswith("learning_rate") and value is not None and value > FASTEST:
                problems.append(f"{name}: expected at most {FASTEST:g}, got {value!r}; no mask converges with that")
        if problems:
            known = ", ".join(fields)
            raise ValueError(f"method {base.name!r}: {'; '.join(problems)}. Its settings are {known}")
        _ = self.method_value  # runs the method's own checks


def default_folder(given: Mapping[str, Any], seeds: int | None = None) -> Path:
    """Return runs/<task>, with the model's name unless it is the bundled one.

    given: settings as for `RunConfig.of`. seeds: the number of runs, if there are several.
    """
    task, model = given["task"], {"model": "bundled", **_defaults_of_task(given), **given}["model"]
    names = [Path(task.replace(":", "-")).stem]
    names += [] if model in ("bundled", task) else [Path(model).name]
    names += [] if seeds is None else ["seeds"]
    return Path("runs", "-".join(names))


def _refuse_twice(flat: Mapping[str, Any], nested: Mapping[str, Any]) -> None:
    """Raise ValueError for a setting that is given in two ways with different values."""
    differ = [name for name, value in flat.items() if nested.get(name, value) != value]
    twice = [f"{name}={flat[name]!r} and {name}={nested[name]!r}" for name in differ]
    if twice:
        raise ValueError(f"set twice, with different values: {'; '.join(twice)}; leave out one of them")


def _defaults_of_task(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the task prefers to the defaults; empty for an unknown task, which the checks report."""
    try:
        defaults = dict(get_task(given["task"], **given.get("data", {})).defaults)
    except (ValueError, OSError, KeyError):
        return {}
    if given.get("method") or given.get("preset"):
        defaults.pop("preset", None)
    return defaults


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe every setting in which two nested dictionaries of JSON values differ."""
    lines = []
    for name in dict.fromkeys([*stored, *now]):
        before, after = stored.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += [f"{name}.{line}" for line in differences(before, after)]
        elif before != after:
            lines.append(f"{name}: {json.dumps(before)} in the run, {json.dumps(after)} now")
    return lines


def _fields(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def _is_a(value: Any, kind: Any) -> bool:
    """Return whether a value has a setting's type. Whole numbers are numbers; True and False are not."""
    options = typing.get_args(kind) if typing.get_origin(kind) not in (None, typing.Literal) else (kind,)
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(value, bool):
        return bool in options
    types = tuple(float if option is float else option for option in options if isinstance(option, type))
    return not types or isinstance(value, (*types, *((int,) if float in types else ())))


def _type_name(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}.get(kind, str(kind))


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else () if value is None else (value,)
