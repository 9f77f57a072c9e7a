"""The request for a run: settings, a task and a model from the user, resolved once into a `RunConfig`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.loading.search_dtype import AUTO
from edge_pruning.own_functions import register_metric, register_objective
from edge_pruning.runs.config import RunConfig, differences
from edge_pruning.runs.folder import OWN_PAIRS, Place
from edge_pruning.runs.task_setting import task_setting
from edge_pruning.tasks import Task, get_task

log = logging.getLogger("edge_pruning")


@dataclass(frozen=True, eq=False)
class Request:
    """Settings that have been checked.

    model: the model in memory, if one was given.
    """

    config: RunConfig
    model: Model | None

    @classmethod
    def of(cls, task: Any, model: Any, settings: Mapping[str, Any], place: Place, *, resume: bool) -> Request:
        """Resolve the arguments of `discover`. If a run is resumed, missing settings are those of that run.

        Raises ValueError with all problems, and for settings that differ from those of the resumed run.
        """
        model = in_hand(model)
        given = {"task": _kept(task, place.path), **_with_functions(settings), **_named(model, settings)}
        config = RunConfig.of(given, place.stored and place.stored["settings"])
        if place.stored and place.path:
            before = RunConfig(**place.stored["settings"], source=config.source)
            refuse_differences(place.path, before.to_json(), config.to_json())
        elif resume and place.path:
            log.warning("there is no run to resume in %s; starting from the beginning", place.path)
        return cls(config, model if isinstance(model, Model) else None)

    def warn_of_ignored_seed(self) -> None:
        """Warn if the seed does not change the search."""
        if not self.config.draws_at_random:
            name = self.config.method_value.name
            log.warning("method %s is deterministic: the seed changes baselines and intervals only", name)


def in_hand(model: Any) -> str | Model | None:
    """Return the name of a model, or a loaded model; a Hugging Face model is wrapped."""
    if model is None or isinstance(model, str | Model):
        return model
    return str(model) if isinstance(model, Path) else load_model(model)


def refuse_differences(path: Path, stored: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Raise ValueError if the run to be resumed has other settings."""
    differing = differences(stored, now) if stored else []
    if differing:
        raise ValueError(
            f"{path} is a run with other settings, so it cannot be resumed with these: {'; '.join(differing)}. Leave "
            "out what differs, choose another folder with --out, or start again with --overwrite"
        )


def _named(model: str | Model | None, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the model as settings. Raises ValueError for settings that contradict a model in memory."""
    if model is None or isinstance(model, str):
        return {} if model is None else {"model": model}
    as_it_is = {
        "dtype": (model.dtype, AUTO), "revision": (None, model.revision), "device": (None, "auto", model.device)
    }
    ignored = [name for name, fine in as_it_is.items() if settings.get(name, fine[0]) not in fine]
    if ignored:
        raise ValueError(
            f"the model in memory is in {model.dtype} on {model.device}, revision {model.revision}; it is "
            f"used as it is, so leave out {', '.join(ignored)}"
        )
    return settings_in_memory(model)


def settings_in_memory(model: Model) -> dict[str, str]:
    """Return a model in memory as settings."""
    return {"model": model.name} if model.dtype == "float32" else {"model": model.name, "dtype": model.dtype}


def _with_functions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with registered names in place of metrics and objectives that are functions.

    A `metric` or `objective` that is not a function is a setting of the method.
    """
    changed = dict(settings)
    for name, register in (("metric", register_metric), ("objective", register_objective)):
        if callable(changed.get(name)):
            changed[f"own_{name}"] = register(changed.pop(name))
    return changed


def _kept(task: Any, folder: Path | None) -> Any:
    """Return the task. Pairs in memory get the name of the file in the run folder that will hold them."""
    setting = task_setting(task)
    if folder is None or "source" not in setting or isinstance(setting["source"], Task):
        return task
    source = list(task) if isinstance(task, Iterator) else task
    return get_task(source, name_of_source=str(folder / OWN_PAIRS))
