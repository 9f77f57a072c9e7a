"""The first half of a run: scores for every edge, written as soon as they are found.

Judging follows and can fail on its own (a full disk, too little memory). Finished scores are therefore a checkpoint: a
resumed run reads them and continues with judging.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from edge_pruning import files, ranks
from edge_pruning.checked import check
from edge_pruning.contents import FoundContent
from edge_pruning.discovery import Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.provenance import library_versions
from edge_pruning.runs.checkpoints import Memory, Recorder
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.observer import RunObserver
from edge_pruning.runs.result import scores_file
from edge_pruning.runs.sizes import default_sizes
from edge_pruning.runs.stages import searching as stage_of_search
from edge_pruning.setup import Setup
from edge_pruning.truth.outputs import Outputs


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result of one search: scores, training records, and the sizes that circuits are cut to.

    part: the name of the training, such as `-50`, if a method trains once per size.
    """

    part: str
    scores: EdgeScores
    records: Sequence[Mapping[str, float]]
    sizes: tuple[int, ...]


def describe(config: RunConfig, setup: Setup) -> dict[str, Any]:
    """Return the resolved settings, for config.json and for the circuits' provenance."""
    assert setup.model is not None
    method = config.method_value
    data = {pairs.split: {"pairs": len(pairs.pairs), "hash": pairs.hash} for pairs in (setup.train, setup.pairs)}
    return {
        "model": setup.model.provenance,
        "task": {"name": config.task, "settings": dict(config.data)},
        "data": data,
        "method": {"name": method.name, "preset": config.preset, "settings": vars(method)},
        "ablation": config.ablation,
        "graph": {"convention": setup.graph.convention, "edges_total": setup.graph.n_edges},
        "seed": config.seed,
        "dtype": setup.search_dtype,
        "versions": library_versions(),
    }


def identity(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must not change when a run is resumed, besides its settings, as JSON values."""
    chosen: dict[str, Any] = json.loads(json.dumps({name: description[name] for name in ("model", "method", "data")}))
    return chosen


def find_scores(
    config: RunConfig,
    setup: Setup,
    sizes: tuple[int, ...],
    folder: Path | None,
    watch: RunObserver,
) -> list[SearchResult]:
    """Run the method: once, or once per size if it aims at one. sizes: the requested sizes; may be empty."""
    method = config.method_value
    once = method.one_run_ranks_all or len(sizes) <= 1
    parts = {"": sizes} if once else {f"-{k}": (k,) for k in sizes}
    if setup.search_dtype != setup.dtype:
        setup.engine.release()  # what judging of an earlier run has left
    found = [_find(config, setup, part, sizes, folder, watch) for part, sizes in parts.items()]
    setup.end_search()
    return found


def _find(
    config: RunConfig,
    setup: Setup,
    part: str,
    sizes: tuple[int, ...],
    folder: Path | None,
    watch: RunObserver,
) -> SearchResult:
    watch.stage(stage_of_search(sizes if part else ()))
    searching = setup.searching
    whose = json.dumps({"settings": config.to_json(), **identity(describe(config, setup))}, sort_keys=True)
    memory = Memory(watch) if folder is None else Recorder(folder, part, whose, watch)
    own = None if folder is None else _stored_scores(folder / scores_file(part), setup.graph, whose)
    stored = _from_first(own, setup.graph)
    if stored is None:
        scores = config.method_value.find(
            Search(searching.engine, searching.train, searching.ablation, sizes=sizes, observer=memory)
        )
    else:
        scores = stored
        memory.resume()
    if folder is not None and stored is None:
        _write_scores(folder / scores_file(part), scores, whose)
    return SearchResult(part, scores, memory.records, sizes or _open_size(config, setup, scores))


def _from_first(scores: EdgeScores | None, graph: Graph) -> EdgeScores | None:
    """Return the scores that the first rank, which alone has the folder, has read."""
    tensors = ranks.tensors_from_first(None if scores is None else {"scores": scores.values})
    size = ranks.from_first(None if scores is None else scores.natural_size)
    return scores if tensors is None or ranks.is_first() else EdgeScores(graph, tensors["scores"], size)


def _open_size(config: RunConfig, setup: Setup, scores: EdgeScores) -> tuple[int, ...]:
    """Return the sizes to try if none was requested."""
    if scores.natural_size is not None:
        return (scores.natural_size,)
    if config.task_value.exact:  # see `sizes.EXACT_RULE`
        judging = setup.judging
        fewest = Outputs(judging.engine, judging.train, judging.ablation).smallest_size(scores)
        return (scores.n_candidates if fewest is None else fewest,)
    return default_sizes(setup.graph, scores.n_candidates)


def _write_scores(path: Path, scores: EdgeScores, whose: str) -> None:
    about = json.dumps({"run": whose, "natural_size": scores.natural_size})  # one entry: several have no fixed order
    files.write_tensors(path, {"scores": scores.values}, {"search": about})


def _stored_scores(path: Path, graph: Graph, whose: str) -> EdgeScores | None:
    """Return the finished scores of this very run; None if there are none."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = check(files.parse_json((file.metadata() or {}).get("search", "{}")), FoundContent)
        if about["run"] != whose:
            return None
        return EdgeScores(graph, files.read_tensors(path)["scores"], about["natural_size"])
    except (safetensors.SafetensorError, ValueError, KeyError):  # damaged: search again
        return None
