"""From a task and a model to a circuit: load, find, cut, evaluate on held-out pairs, write down.

This file reads as the table of contents of a run: `search.py` finds scores, `judging.py` makes circuits of them and
measures them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.discovery import Search
from edge_pruning.evaluation.faithfulness import expected_passes
from edge_pruning.evaluation.measure import LARGE, LARGE_PAIRS
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.own_functions import register_metric, register_objective
from edge_pruning.patterns import MOST_HEADS, find_patterns
from edge_pruning.runs.config import RunConfig, differences
from edge_pruning.runs.folder import OWN_PAIRS, RunFolder
from edge_pruning.runs.judging import CHOOSING, evaluating, judge
from edge_pruning.runs.observer import Callback, RunObserver, with_callback
from edge_pruning.runs.planned import planned_line
from edge_pruning.runs.result import Run
from edge_pruning.runs.search import describe, find_scores, identity, searching
from edge_pruning.runs.sizes import default_sizes, requested_sizes
from edge_pruning.runs.task_setting import task_setting
from edge_pruning.setup import Setup
from edge_pruning.tasks import Task, get_task
from edge_pruning.tasks.own.records import written

log = logging.getLogger("edge_pruning")

GRADIENT_PASS, FROZEN_PASS = 3.0, 1.0  # in masked forward passes, roughly


def discover(
    task: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    model: Any = None,
    draw: bool = True,
    patterns: int = MOST_HEADS,
    observer: RunObserver | None = None,
    callback: Callback | None = None,
    **settings: Any,
) -> Run:
    """Find the circuit that does a task, and measure it on held-out pairs.

    task: a name such as "ioi", a path to your own pairs, or pairs in memory (a list of `ep.Pair`, dictionaries or
    tuples, a DataFrame, a `datasets.Dataset`).
    out: the run folder; None leaves nothing on disk.
    resume: continue a killed run (settings that are not given are the run's own).
    overwrite: replace the run in that folder.
    model: "bundled", a folder, a hub id, what `load_model` returns, or a Hugging Face model in memory with its
    tokenizer, as a tuple. The model that circuits are found in is the one that they are judged in.
    patterns: for how many of the circuit's heads to keep attention patterns and direct effects; 0 for none.
    callback: called with the record of every training step (`step`, `total`, `kl`, ...).
    metric=FUNCTION, objective=FUNCTION: your own, in place of the task's (see `own_functions.py`).

    settings: the fields of `RunConfig` (edges=100, sparsity=0.97, method=..., ablation=..., seed=...), the method's own
    (steps=300, batch_size=16, ...) and the task's (train=200, test=500). Raises ValueError with everything that is
    wrong, OSError if a file cannot be written, `discovery.Diverged` if the loss is not finite.
    """
    model = in_hand(model)
    given = {"task": kept_task(task, out), **named(model, settings), **with_functions(settings)}
    folder = None if out is None else RunFolder(out, resume=resume, overwrite=overwrite)
    config, stored = checked_settings(given, folder if resume else None)
    say_what_has_no_effect(config, given, folder, resume=resume)
    if stored and folder and folder.finished:
        return _again(folder.path, draw)
    watch = with_callback(observer or RunObserver(), callback)
    watch.stage("loading the model")
    setup = setup_of(config, model if isinstance(model, Model) else None)
    return run_in(folder, config, setup, watch, resume=resume, draw=draw, patterns=patterns)


def run_in(
    folder: RunFolder | None,
    config: RunConfig,
    setup: Setup,
    watch: RunObserver,
    *,
    resume: bool,
    draw: bool,
    patterns: int,
) -> Run:
    """The run of these settings on a setup that is loaded already; on disk if there is a folder."""
    sizes = checked_sizes(config, setup)
    if words := planned_line(config, setup):
        watch.forecast(words)
    watch.stages(planned_work(config, setup, sizes))
    if folder is None:
        run = judge(config, setup, find_scores(config, setup, sizes, None, watch), sizes, None, watch)
        return _with_patterns(run, setup, patterns, watch)
    description = describe(config, setup)
    stored = folder.config if resume else None
    refuse_differences(folder.path, stored and identity(stored), identity(description))
    folder.begin({"settings": config.to_json(), **description}, resume=resume)
    if config.source is not None and not isinstance(config.source, Task):
        files.write_text(Path(config.task), written(config.source))
    try:
        searches = find_scores(config, setup, sizes, folder.path, watch)
        run = judge(config, setup, searches, sizes, folder.path, watch)
        return _saved(_with_patterns(run, setup, patterns, watch), folder.path, draw, watch)
    except ValueError:  # settings that only the method can judge
        if not stored:
            folder.withdraw()
        raise
    finally:
        folder.release()


def _with_patterns(run: Run, setup: Setup, heads: int, watch: RunObserver) -> Run:
    """The run with what its circuit's strongest heads do, where that can be shown."""
    watch.stage("looking at heads")
    tokenizer = setup.model and setup.model.tokenizer
    shown = find_patterns(run.circuit, setup.engine, setup.pairs, setup.ablation, tokenizer, heads=heads)
    return replace(run, patterns=shown)


def planned_work(config: RunConfig, setup: Setup, sizes: Sequence[int]) -> dict[str, float]:
    """Return what a run is going to do, by the words of its stages, in masked forward passes of one pair; roughly."""
    graph, method = setup.graph, config.method_value
    offered = len(default_sizes(graph, graph.n_edges)) if method.one_run_ranks_all else 1
    tried = len(sizes) or (offered if graph.n_edges <= LARGE else offered.bit_length())
    passes = float(expected_passes(graph.n_edges, len(setup.pairs.pairs)))
    judging = {evaluating(size): passes for size in sizes or (0,)}
    cost = method.cost(Search(setup.engine, setup.train, config.ablation_value))
    search = cost.weighed(gradient=GRADIENT_PASS, forward=1, frozen=FROZEN_PASS)
    search = sum(judging.values()) if search is None else max(1.0, search)  # unknown: half of the run
    once = method.one_run_ranks_all or len(sizes) <= 1
    work = {searching(()) if once else searching((k,)): search for k in ([0] if once else sizes)}
    if tried > 1:
        pairs = len(setup.validation.pairs)
        work[CHOOSING] = (pairs if graph.n_edges <= LARGE else min(pairs, LARGE_PAIRS)) * (1.0 + tried)
    return work | judging


# --- settings ---------------------------------------------------------------------------------------------------------


def in_hand(model: Any) -> str | Model | None:
    """The name of a model, or a model that is ready; one of Hugging Face is made ready."""
    if model is None or isinstance(model, str | Model):
        return model
    return str(model) if isinstance(model, Path) else load_model(model)


def named(model: str | Model | None, settings: Mapping[str, Any]) -> dict[str, str]:
    """The model as settings. Raises ValueError for settings that a model in hand contradicts."""
    if model is None or isinstance(model, str):
        return {} if model is None else {"model": model}
    own = {"model": model.name, "dtype": model.dtype}
    as_it_is = {"dtype": (model.dtype,), "revision": (None, model.revision), "device": (None, "auto", model.device)}
    ignored = [name for name, fine in as_it_is.items() if settings.get(name, fine[0]) not in fine]
    if ignored:
        raise ValueError(
            f"the model that was handed over is in {model.dtype} on {model.device}, revision {model.revision}; it is "
            f"used as it is, so leave out {', '.join(ignored)}"
        )
    return own


def with_functions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the names of a metric and an objective that are functions; other ones are the method's."""
    changed = dict(settings)
    for name, register in (("metric", register_metric), ("objective", register_objective)):
        if callable(changed.get(name)):
            changed[f"own_{name}"] = register(changed.pop(name))
    return changed


def kept_task(task: Any, out: str | Path | None) -> Any:
    """Pairs in memory under the name of the file in the run folder that keeps them, so that they can be read again."""
    setting = task_setting(task)
    if out is None or "source" not in setting or isinstance(setting["source"], Task):
        return task
    source = list(task) if isinstance(task, Iterator) else task
    return get_task(source, name_of_source=str(Path(out) / OWN_PAIRS))


def say_what_has_no_effect(
    config: RunConfig, given: Mapping[str, Any], folder: RunFolder | None, *, resume: bool
) -> None:
    """Warn about what was asked for and changes nothing."""
    if resume and folder is not None and folder.config is None:
        log.warning("there is no run in %s to resume, so this one starts from the beginning", folder.path)
    if given.get("seed") is not None and not config.draws_at_random:
        name = config.method_value.name
        log.warning("method %s draws nothing at random: the seed changes baselines and intervals only", name)


def checked_settings(given: Mapping[str, Any], folder: RunFolder | None) -> tuple[RunConfig, Mapping[str, Any] | None]:
    """The run's settings, and config.json of the run that is resumed, if there is one. Refuses other settings."""
    stored = folder.config if folder else None
    config = RunConfig.of(given, stored and stored["settings"])
    if stored and folder:
        before = RunConfig(**stored["settings"], source=config.source)
        refuse_differences(folder.path, before.to_json(), config.to_json())
    return config, stored


def refuse_differences(path: Path, stored: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Raises ValueError if a run that is to be resumed was made with other settings."""
    differing = differences(stored, now) if stored else []
    if differing:
        raise ValueError(
            f"{path} is a run with other settings, so it cannot be resumed with these: {'; '.join(differing)}. Leave "
            "out what differs, choose another folder with --out, or start again with --overwrite"
        )


def setup_of(config: RunConfig, model: Model | None = None) -> Setup:
    """Load what the settings name. model: one that is loaded already."""
    model = model or load_model(
        config.model, revision=config.revision, device=config.device, dtype=config.dtype,
        trust_remote_code=config.trust_remote_code,
    )
    graph = config.graph(model.adapter.shape)
    setup = Setup.of(
        model, config.task_value, config.ablation_value, graph=graph, seed=config.seed, metric=config.own_metric,
        objective=config.own_objective,
    )
    _ = setup.train, setup.pairs  # a task that does not fit this tokenizer is refused before anything is searched
    return setup


def checked_sizes(config: RunConfig, setup: Setup) -> tuple[int, ...]:
    """The sizes that were asked for; may be none."""
    sizes = requested_sizes(setup.graph, config.edges, config.sparsity)
    if len(sizes) > 1 or (not sizes and config.method_value.one_run_ranks_all):
        _ = setup.validation  # a size will be chosen on it: an error should come before the search
    return sizes


# --- files ------------------------------------------------------------------------------------------------------------


def _again(path: Path, draw: bool) -> Run:
    run = Run.load(path)
    if draw and not (path / "circuit.svg").exists():
        run.save_pictures(path)
    return run


def _saved(run: Run, path: Path, draw: bool, watch: RunObserver) -> Run:
    run.save(path, write_scores=False)
    if draw:
        watch.stage("drawing")
        run.save_pictures(path)
    return replace(run, folder=path)
