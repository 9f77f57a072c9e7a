"""From a task and a model to a circuit: load, find, cut, evaluate on held-out pairs, write.

This file is the table of contents of a run: `request.py` resolves the settings, `search.py` finds scores, `judging.py`
cuts circuits from them and measures them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_pruning import files, ranks
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.loading.search_dtype import SearchCopy, model_to_search
from edge_pruning.masked_pass.captured import refuse_impossible
from edge_pruning.patterns import MOST_HEADS, find_patterns
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.folder import RUN_TOML, Place, RunFolder
from edge_pruning.runs.judging import judge
from edge_pruning.runs.observer import Callback, RunObserver, with_callback
from edge_pruning.runs.planned import planned_line
from edge_pruning.runs.request import Request, refuse_differences
from edge_pruning.runs.result import Run
from edge_pruning.runs.run_toml import run_toml
from edge_pruning.runs.search import describe, find_scores, identity
from edge_pruning.runs.sizes import requested_sizes
from edge_pruning.runs.stages import planned_work
from edge_pruning.setup import Setup
from edge_pruning.tasks import Task
from edge_pruning.tasks.own.records import written

log = logging.getLogger("edge_pruning")

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
    """Find the circuit that performs a task, and measure it on held-out pairs.

    task: a name such as "ioi", a path to your own pairs, or pairs in memory (a list of `ep.Pair`, dictionaries or
        tuples, a DataFrame, a `datasets.Dataset`).
    out: the run folder; None leaves nothing on disk.
    resume: continue a killed run. Missing settings are those of the run.
    overwrite: replace the run in that folder.
    model: "bundled", a folder, a hub id, the result of `load_model`, or a Hugging Face model in memory with its
        tokenizer, as a tuple. Circuits are judged in that model, whatever the dtype of the search.
    patterns: number of the circuit's heads whose attention patterns and direct effects are stored; 0 for none.
    callback: called with the record of every training step (`step`, `total`, `kl`, ...).
    metric, objective: your own functions, in place of the task's (see `own_functions.py`).
    settings: the fields of `RunConfig` (edges=100, sparsity=0.97, method=..., ablation=..., seed=...), the method's own
        (steps=300, batch_size=16, ...) and the task's (train=200, test=500).

    Raises ValueError with all problems, OSError if a file cannot be written, `discovery.Diverged` if the loss is not
    finite.
    """
    place = Place.of(RunFolder, out, resume=resume, overwrite=overwrite)
    request = Request.of(task, model, settings, place, resume=resume)
    if settings.get("seed") is not None:
        request.warn_of_ignored_seed()
    if place.path and place.finished:
        return _again(place.path, draw)
    watch = with_callback(observer or RunObserver(), callback)
    watch.stage("loading the model")
    setup = setup_of(request.config, request.model, dtype=place.dtype)
    return run_in(place.folder, request.config, setup, watch, resume=resume, draw=draw, patterns=patterns)


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
    """Run these settings on a loaded setup, with files if there is a folder."""
    sizes, description = checked_sizes(config, setup), describe(config, setup)
    ranks.refuse_differences({"settings": config.to_json(), **description})
    if words := planned_line(config, setup):
        watch.forecast(words)
    watch.stages(planned_work(config, setup, sizes))
    if folder is None:
        run = judge(config, setup, find_scores(config, setup, sizes, None, watch), sizes, None, watch)
        return _with_patterns(run, setup, patterns, watch)
    stored = folder.config if resume else None
    refuse_differences(folder.path, stored and identity(stored), identity(description))
    _say_if_bits_differ(stored)
    folder.begin({"settings": config.to_json(), **description, "ranks": ranks.count()}, resume=resume)
    files.write_text(folder.path / RUN_TOML, run_toml(config))
    if config.source is not None and not isinstance(config.source, Task):
        files.write_text(Path(config.task), written(config.source))
    try:
        searches = find_scores(config, setup, sizes, folder.path, watch)
        run = judge(config, setup, searches, sizes, folder.path, watch)
        return _saved(_with_patterns(run, setup, patterns, watch), folder.path, draw, watch)
    except ValueError:  # settings that only the method can check
        if not stored:
            folder.withdraw()
        raise
    finally:
        folder.release()


def _with_patterns(run: Run, setup: Setup, heads: int, watch: RunObserver) -> Run:
    """Add the patterns and direct effects of the circuit's strongest heads, if they can be shown."""
    watch.stage("looking at heads")
    tokenizer, heads = setup.model and setup.model.tokenizer, heads if ranks.is_first() else 0
    shown = find_patterns(run.circuit, setup.engine, setup.pairs, setup.ablation, tokenizer, heads=heads)
    ranks.meet()  # the others may have to send it their parts of the weights meanwhile
    return replace(run, patterns=shown)


def _say_if_bits_differ(stored: Mapping[str, Any] | None) -> None:
    """Warn if a run is resumed with another number of ranks, which add up gradients in another order."""
    before = stored.get("ranks", 1) if stored else ranks.count()
    if before != ranks.count():
        log.warning(
            "this run began on %d rank%s and continues on %d: its numbers will differ by rounding from those of a "
            "run with a constant number", before, "s" if before > 1 else "", ranks.count(),
        )


# --- the setup --------------------------------------------------------------------------------------------------------


def setup_of(config: RunConfig, model: Model | None = None, *, dtype: str | None = None) -> Setup:
    """Load the setup that the settings name.

    model: a model that is already loaded.
    dtype: that of the search, if it has begun.
    """
    model = model or load_model(
        config.model, revision=config.revision, device=config.device, dtype=config.loaded_dtype,
        trust_remote_code=config.trust_remote_code,
    )
    searched = model_to_search(model, dtype or config.search_dtype)
    graph = config.graph(model.adapter.shape)
    setup = Setup.of(
        model, config.task_value, config.ablation_value, graph=graph, seed=config.seed, metric=config.own_metric,
        objective=config.own_objective, copy=None if searched is model else SearchCopy(model, searched),
    )
    setup.engine.cuda_graph = config.cuda_graph
    refuse_impossible(setup.searching.engine)
    _ = setup.train, setup.pairs  # refuse a task that does not fit this tokenizer before the search
    return setup


def checked_sizes(config: RunConfig, setup: Setup) -> tuple[int, ...]:
    """Return the requested sizes; may be empty."""
    sizes = requested_sizes(setup.graph, config.edges, config.sparsity)
    if len(sizes) > 1 or (not sizes and config.method_value.one_run_ranks_all):
        _ = setup.validation  # used to choose a size: report errors before the search
    return sizes


# --- files ------------------------------------------------------------------------------------------------------------


def _again(path: Path, draw: bool) -> Run:
    run = Run.load(path)
    if draw and ranks.is_first() and not (path / "circuit.svg").exists():
        run.save_pictures(path)
    return run


def _saved(run: Run, path: Path, draw: bool, watch: RunObserver) -> Run:
    run.save(path, write_scores=False)
    if draw:
        watch.stage("drawing")
        run.save_pictures(path)
    return replace(run, folder=path)
