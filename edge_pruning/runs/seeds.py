"""The same run with several seeds, in one folder: how unique is the circuit?

    seed-0/ seed-1/ ...       a run folder each
    config.json               the shared settings, and the seeds
    consensus.json core.json  the edges that most circuits share, or all (consensus-50.json ... for several sizes)
    stability.json            overlap, core and contingent edges, and the consensus on test pairs; written last

Everything but the seed of the search is the same: the pairs, the model, the settings. Requested sizes are compared
separately; otherwise, the circuits that the runs chose are compared. A killed run continues with `resume`: finished
seeds are read, and the interrupted one continues from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.contents import StabilityContent
from edge_pruning.drawing import draw_circuit
from edge_pruning.evaluation import Stability, evaluate
from edge_pruning.evaluation.summary import Summary
from edge_pruning.files import json_values
from edge_pruning.numbers import METRICS, NUMBERS
from edge_pruning.patterns import MOST_HEADS
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.folder import CONFIG, RUN_TOML, Place, RunFolder
from edge_pruning.runs.observer import OneOfSeveral, RunObserver
from edge_pruning.runs.pipeline import checked_sizes, run_in, setup_of
from edge_pruning.runs.request import Request, refuse_differences
from edge_pruning.runs.result import Cut, Run
from edge_pruning.runs.run_toml import run_toml
from edge_pruning.runs.stages import planned_work
from edge_pruning.setup import Setup

FORMAT = "edge-pruning/seeds"
STABILITY_FORMAT = "edge-pruning/stability"
FORMAT_VERSION = 1
STABILITY = "stability.json"


class SeedsFolder(RunFolder):
    """A folder of runs that differ only in their seed."""

    format: ClassVar[str] = FORMAT
    patterns: ClassVar[tuple[str, ...]] = (
        STABILITY, "consensus.json", "consensus-*.json", "core.json", "core-*.json", "consensus.svg", "consensus-*.svg",
        RUN_TOML, CONFIG,
    )
    last: ClassVar[str] = STABILITY

    def withdraw(self) -> None:
        """Remove the folder's files, as long as no seed has begun."""
        if not any(self.path.glob("seed-*")):
            super().withdraw()


@dataclass(frozen=True, eq=False)
class SeedRuns:
    """Finished runs that differ only in their seed.

    stability: the content of stability.json, with an entry in `["sizes"]` for each compared size.
    consensus, cores: the agreed circuits, one for each of these entries.
    """

    runs: tuple[Run, ...]
    stability: Mapping[str, Any]
    consensus: tuple[Circuit, ...]
    cores: tuple[Circuit, ...]
    folder: Path | None = None

    def part(self, size: int) -> str:
        """Return the suffix of the files of one size; empty if there is only one."""
        return f"-{len(self.consensus[size])}" if len(self.consensus) > 1 else ""

    @classmethod
    def load(cls, folder: str | Path) -> SeedRuns:
        """Load finished runs from their folder. Raises ValueError that names the missing or broken file."""
        folder = Path(folder)
        content = files.read_own(folder / STABILITY, STABILITY_FORMAT, FORMAT_VERSION, StabilityContent)
        sizes = [size["consensus"]["edges"] for size in content["sizes"]]
        parts = [f"-{size}" for size in sizes] if len(sizes) > 1 else [""]
        runs = tuple(Run.load(folder / f"seed-{seed}") for seed in content["seeds"])
        consensus, cores = (
            tuple(Circuit.load(folder / f"{name}{part}.json") for part in parts) for name in ("consensus", "core")
        )
        return cls(runs, content, consensus, cores, folder)


def discover_seeds(
    task: Any,
    *,
    seeds: int,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    model: Any = None,
    draw: bool = True,
    patterns: int = MOST_HEADS,
    observer: RunObserver | None = None,
    **settings: Any,
) -> SeedRuns:
    """Find the circuit of a task `seeds` times, with the seeds `seed` (0), `seed + 1`, ..., and compare the results.

    All other arguments are as for `discover`. Raises ValueError for fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"expected at least 2 seeds to compare, got {seeds}; leave out seeds for a single run")
    settings |= {} if seed is None else {"seed": seed}
    place = Place.of(SeedsFolder, out, resume=resume, overwrite=overwrite)
    request = Request.of(task, model, settings, place, resume=resume)
    request.warn_of_ignored_seed()
    config, folder = request.config, place.folder
    if place.path and place.stored:
        refuse_differences(place.path, {"seeds": place.stored["seeds"]}, {"seeds": seeds})
    if place.path and place.finished:
        return SeedRuns.load(place.path)
    watch = observer or RunObserver()
    watch.stage("loading the model")
    setup = setup_of(config, request.model, dtype=place.dtype)
    if folder is None:
        runs = _run_all(config, setup, seeds, place.path, watch, draw=False, patterns=patterns, overwrite=overwrite)
        return _compared(config, setup, runs, watch)
    folder.begin({"settings": config.to_json(), "seeds": seeds, "dtype": setup.search_dtype}, resume=resume)
    files.write_text(folder.path / RUN_TOML, run_toml(config, seeds=seeds))
    try:
        runs = _run_all(config, setup, seeds, folder.path, watch, draw=draw, patterns=patterns, overwrite=overwrite)
        return _saved(_compared(config, setup, runs, watch), folder.path, draw)
    except ValueError:
        if not place.stored:
            folder.withdraw()
        raise
    finally:
        folder.release()


# --- the parts --------------------------------------------------------------------------------------------------------


def planned_seeds(config: RunConfig, setup: Setup, seeds: int) -> dict[str, float]:
    """Return the stages of all seeds and their work, as for `RunObserver.stages`."""
    work = planned_work(config, setup, checked_sizes(config, setup))
    return {f"{_which(i, seeds)}: {words}": units for i in range(seeds) for words, units in work.items()}


def _which(i: int, seeds: int) -> str:
    return f"seed {i + 1} of {seeds}"


def _run_all(
    config: RunConfig,
    setup: Setup,
    seeds: int,
    folder: Path | None,
    watch: RunObserver,
    *,
    draw: bool,
    patterns: int,
    overwrite: bool,
) -> list[Run]:
    """Run every seed on the same loaded model. Runs in subfolders are continued, unless they are to be replaced."""
    runs = []
    watch.stages(planned_seeds(config, setup, seeds))
    for i in range(seeds):
        own = replace(config, seed=config.seed + i)
        path = folder and folder / f"seed-{own.seed}"
        place = Place.of(RunFolder, path, resume=not overwrite, overwrite=overwrite)
        if place.path and place.stored:
            refuse_differences(place.path, place.stored["settings"], own.to_json())
        if place.path and place.finished:
            runs.append(Run.load(place.path))
            continue
        observer = OneOfSeveral(watch, _which(i, seeds))
        with_seed = setup.with_seed(own.seed, own.ablation_value)
        runs.append(run_in(place.folder, own, with_seed, observer, resume=not overwrite, draw=draw, patterns=patterns))
    return runs


def _compared(config: RunConfig, setup: Setup, runs: Sequence[Run], watch: RunObserver) -> SeedRuns:
    """Compare the circuits, each requested size separately, and evaluate the agreed circuits."""
    seeds = tuple(config.seed + i for i in range(len(runs)))
    chosen = [[run.cuts[run.chosen] for run in runs]]
    groups = [[run.cuts[i] for run in runs] for i in range(len(checked_sizes(config, setup)))] or chosen
    stabilities = [Stability(tuple(cut.circuit for cut in cuts), seeds) for cuts in groups]
    sizes = [
        {**of_size.to_json(), "evaluation": _judged(setup, of_size, cuts, watch), "warnings": list(of_size.warnings)}
        for of_size, cuts in zip(stabilities, groups, strict=True)
    ]
    content = {
        "format": STABILITY_FORMAT,
        "version": FORMAT_VERSION,
        "settings": config.to_json(),
        "seeds": list(seeds),
        "split": setup.pairs.split,
        "examples": len(setup.pairs.pairs),
        "predicted": setup.pairs.predicted,
        "ablation": config.ablation,
        "convention": setup.graph.convention,
        "sizes": sizes,
    }
    consensus = tuple(of_size.consensus for of_size in stabilities)
    cores = tuple(of_size.core for of_size in stabilities)
    return SeedRuns(tuple(runs), content, consensus, cores)


def _judged(setup: Setup, stability: Stability, cuts: Sequence[Cut], watch: RunObserver) -> dict[str, Any]:
    """Judge every seed's circuit, the consensus and the core of one size on test pairs."""
    words = f"evaluating the consensus ({len(stability.consensus):,} edges)"
    judged = {
        name: evaluate(
            circuit, setup, random_circuits=0, progress=partial(watch.stage, words),
        ).circuit
        for name, circuit in (("consensus", stability.consensus), ("core", stability.core))
    }
    each = [
        {"seed": seed, **_numbers(None if cut.evaluation is None else cut.evaluation.circuit)}
        for seed, cut in zip(stability.seeds, cuts, strict=True)
    ]
    return {"seeds": each, **{name: _numbers(numbers) for name, numbers in judged.items()}}


def _numbers(judged: Summary | None) -> dict[str, Any]:
    names = [number.name for number in NUMBERS.values() if number.name not in METRICS]
    numbers: dict[str, Any] = json_values({name: judged and judged.mean.get(name) for name in names})
    return numbers


def _saved(result: SeedRuns, folder: Path, draw: bool) -> SeedRuns:
    """Save the agreed circuits, and stability.json last."""
    for size, (consensus, core) in enumerate(zip(result.consensus, result.cores, strict=True)):
        part = result.part(size)
        consensus.save(folder / f"consensus{part}.json")
        core.save(folder / f"core{part}.json")
        if draw:
            title = f"Consensus of {len(result.runs)} seeds, {result.runs[0].title}"
            files.write_text(folder / f"consensus{part}.svg", draw_circuit(consensus, title=title))
    files.write_json(folder / STABILITY, result.stability)
    return replace(result, folder=folder)
