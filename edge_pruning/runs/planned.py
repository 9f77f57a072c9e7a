"""The plan of a run from its settings: its cost, without loading the weights (or with a short calibration)."""

from __future__ import annotations

import dataclasses
from statistics import fmean
from typing import Any

import torch

from edge_pruning.discovery import Search
from edge_pruning.evaluation.faithfulness import expected_passes
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import describe_model, load_model
from edge_pruning.loading.model import Model
from edge_pruning.loading.model_source import weights_at_hand
from edge_pruning.loading.placement import DTYPES, SHARD, SPREAD, pick_device
from edge_pruning.loading.search_dtype import AUTO, copied, memory_of_each, model_to_search, multiplies_bfloat16, pays
from edge_pruning.masked_pass.captured import what_varies
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.memory import share_for_pass
from edge_pruning.models.tracr import Tracr
from edge_pruning.planning.calibration import measured
from edge_pruning.planning.costs import Costs
from edge_pruning.planning.devices import Device, named_device, this_device
from edge_pruning.planning.plan import Plan, Work
from edge_pruning.ranks import count
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.sizes import OFFERED, choosing_keeps, choosing_passes
from edge_pruning.setup import Setup
from edge_pruning.tasks import PairSet

HELD_OUT = 200  # validation or test pairs of a task without a number of them


def plan(
    task: str, *, calibrate: bool | None = None, ranks: int = 1, shard: bool = False, **settings: Any
) -> Plan:
    """Estimate the cost of `discover` with the same task and settings.

    device: may name a GPU that this machine does not have (`planning.DEVICES`).
    calibrate: whether to load the model and time a micro-batch; None: if its weights are on this machine and fit.
    ranks: number of processes that `torchrun` is to start. shard: whether they share out the weights (`device="shard"`
        is to the same effect).

    Raises ValueError as `discover` does, for one rank that shares out weights, and for compiled programs, which need no
    plan.
    """
    config = RunConfig.of({"task": task, **settings})
    shard = shard or config.device == SHARD
    _check_ranks(ranks, shard=shard, calibrate=calibrate)
    model = described(config, SHARD if shard else config.device, ranks)
    pairs, guessed = pairs_of(config, model)
    elsewhere = named_device(config.device, model.dtype)
    device = elsewhere or device_here(config.device, model.dtype, ranks)
    estimate = planned(config, model, pairs, device, guessed=guessed, ranks=ranks, shared=shard)
    here = elsewhere is None and estimate.fits and not guessed and not shard
    if here and (weights_at_hand(config.model, config.revision) if calibrate is None else calibrate):
        return calibrated(estimate, config, pairs)
    return estimate


def described(config: RunConfig, device: str, ranks: int = 1) -> Model:
    """Return the model that a search runs on, without its weights.

    device: may be a named GPU; all of these have instructions for bfloat16. ranks: that share its memory, if it is a
        CPU.
    """
    model = describe_model(config.model, revision=config.revision, dtype=config.loaded_dtype,
                           trust_remote_code=config.trust_remote_code)  # fmt: skip
    if config.search_dtype != AUTO or device in (SPREAD, SHARD):
        return model
    if named := named_device(device, model.dtype):
        able, memory = True, named.memory
    else:
        place = pick_device(device)
        able, memory = multiplies_bfloat16(place), memory_of_each(place, ranks)
    return copied(model, "bfloat16") if able and pays(model, memory) else model


def _check_ranks(ranks: int, *, shard: bool, calibrate: bool | None) -> None:
    if ranks < 1:
        raise ValueError(f"expected a number of ranks, at least 1, got {ranks}")
    if shard and ranks == 1:
        raise ValueError("weights are shared out over several ranks: say over how many (--ranks 8)")
    if shard and calibrate:
        raise ValueError("a pass with shared-out weights cannot be timed in one process; leave out --calibrate")


def device_here(name: str, dtype: str, ranks: int = 1) -> Device:
    """Return a device of this machine, for each of so many ranks; they share the memory of a CPU."""
    device = this_device(pick_device("auto" if name == SHARD else name), DTYPES[dtype])
    if device.kind == "cuda":
        return device
    return dataclasses.replace(device, memory=device.memory // ranks, free=device.free // ranks)


def planned_line(config: RunConfig, setup: Setup) -> str:
    """Return the plan of a run with a loaded model in one line; empty for a compiled program, which takes no time."""
    model = setup.searching.model
    if model is None or setup.model is None or isinstance(model.adapter, Tracr):
        return ""
    ranks, shared = count(), model.adapter.shards is not None
    device = this_device(setup.engine.home, model.adapter.dtype)
    models = [model] if setup.model is model else [model, setup.model]
    loaded = sum(x.numel() * x.itemsize for one in models for x in one.adapter.hf.parameters())  # part of the plan, too
    device = dataclasses.replace(device, free=device.free + loaded // (ranks if shared else 1))
    return planned(config, model, setup.train, device, ranks=ranks, shared=shared).line


def planned(
    config: RunConfig,
    model: Model,
    pairs: PairSet,
    device: Device,
    *,
    guessed: bool = False,
    ranks: int = 1,
    shared: bool = False,
) -> Plan:
    """Return the plan from shapes and pairs, without weights.

    model: the one that the search runs on.
    ranks, shared: as in `Plan`.
    """
    engine = model.engine(config.graph(model.adapter.shape))
    costs = Costs.of(engine)
    of_judging = 0 if model.dtype == config.loaded_dtype else costs.weights * DTYPES[config.loaded_dtype].itemsize
    engine.home = _kind(device)  # with its memory, determines the size of micro-batches
    weights = costs.weights * costs.itemsize // (ranks if shared else 1) + of_judging
    engine.memory_for_pass = share_for_pass(device.free - weights)
    tokens = fmean(map(engine.tokens, pairs.pairs))
    positions = fmean(len(pair.positions) for pair in pairs.pairs)
    method, sizes = config.method_value, len(config.edges or config.sparsity)
    search = method.cost(Search(engine, pairs, config.ablation_value))
    once = method.one_run_ranks_all or sizes <= 1
    judged, compared, most = _judged(config, sizes, engine.graph.n_edges)
    work = Work(
        search=search if once else search * sizes, judged=judged, tokens=tokens, positions=positions,
        train=len(pairs.pairs), compared=compared, guessed=guessed,
    )  # fmt: skip
    tile, judged_tile = (max(1, int(one.tile_tokens / tokens)) for one in (engine, engine.in_float32()))
    graphs = config.cuda_graph != "off" and what_varies(engine) is None
    return Plan.estimated(
        config.model, model.dtype, device, costs, work, tile, _edges(engine), ranks, shared, graphs, of_judging,
        min(judged_tile, most),
    )


def calibrated(estimate: Plan, config: RunConfig, pairs: PairSet) -> Plan:
    """Return the plan with times measured on this machine; loads the model."""
    model = load_model(config.model, revision=config.revision, device=config.device, dtype=config.loaded_dtype,
                       trust_remote_code=config.trust_remote_code)  # fmt: skip
    graph, tiles = config.graph(model.adapter.shape), (estimate.pairs_at_once, estimate.tile)
    searched = model_to_search(model, config.search_dtype)
    if searched.dtype != estimate.dtype:  # its copy is not exact enough
        estimate = planned(config, searched, pairs, estimate.device, ranks=estimate.ranks)
    engine, judge = searched.engine(graph), model.engine(graph).in_float32()
    speed = measured(engine, judge, pairs.pairs, *tiles, config.ablation_value, pairs.objective)
    return dataclasses.replace(estimate, speed=speed)


def _kind(device: Device) -> torch.device:
    return torch.device(device.kind)


def pairs_of(config: RunConfig, model: Model) -> tuple[PairSet, bool]:
    """Return the training pairs, and whether they use the bundled model's tokenizer because there is no other."""
    task, tokenizer, longest = config.task_value, model.tokenizer, model.adapter.max_length
    if tokenizer is not None or model.adapter.reads_images:
        return task.pairs(tokenizer, "train", max_length=longest), False
    try:
        return task.pairs(describe_model("bundled").tokenizer, "train", max_length=longest), True
    except ValueError as error:
        raise ValueError(
            f"{config.model} has no tokenizer here, and the pairs could not be counted with the bundled model's "
            f"instead: {error}\n  Expected the model's own tokenizer (such as tokenizer.json) beside its config.json"
        ) from None


def _edges(engine: MaskedPass) -> dict[str, int]:
    """Return the number of edges by convention, in words; the run's own convention first."""
    shape, own = engine.graph.shape, engine.graph
    graphs = [own, Graph(shape), Graph(shape, kv="query"), *([Graph(shape, "split")] if _has_positions(engine) else [])]
    return {graph.convention: graph.n_edges for graph in graphs}


def _has_positions(engine: MaskedPass) -> bool:
    """Return whether positions are written into the stream, so that they can be a separate writer."""
    return engine.adapter.model_type in ("gpt2", "opt")


def _judged(config: RunConfig, sizes: int, edges: int) -> tuple[float, int, int]:
    """Count what comparing sizes and judging circuits takes: full masked forward passes of one pair until the report,
    pairs whose frozen values are kept, and pairs in all at a time.
    """
    task = config.task_value
    validation, test = (getattr(task, split, None) or HELD_OUT for split in ("validation", "test"))
    offered = sizes or (OFFERED if config.method_value.one_run_ranks_all else 1)
    choosing = choosing_passes(edges, offered, validation, halve=not sizes)
    kept = choosing_keeps(edges, offered, validation, halve=not sizes)
    return choosing + max(1, sizes) * expected_passes(edges, test), kept, max(validation, test)
