"""Two settings, one mechanism? Circuits for two ways of asking, several seeds each, and how much they have in common.

    a/ b/             a folder of several seeds for each setting
    config.json       the settings of both
    study.json        sizes, each circuit in the other's setting, overlaps; written last
    study.svg         both circuits over each other
    study.html        the same as a page; circuits.html: the circuits, to explore

A setting is a task with its data and a model; everything else is the same for both. For each, `discover_seeds` finds
circuits, and their consensus stands for the setting. Both consensus circuits, what they share and what either has are
judged on the held-out pairs of both settings. The question is that of section 6 of Bhaskar and others (2024).

Cost: `2 * seeds` runs, and 5 masked passes over the test pairs of each setting. A killed study goes on with `resume`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.compare_groups import GroupComparison
from edge_pruning.drawing import draw_overlap
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.evaluation.measure import LARGE, LARGE_PAIRS, measure
from edge_pruning.loading.loading import Model
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.metrics import accuracy
from edge_pruning.page.study import render_study
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.folder import CONFIG, RunFolder
from edge_pruning.runs.observer import RunObserver
from edge_pruning.runs.pipeline import in_hand, refuse_differences, setup_of
from edge_pruning.runs.seeds import SeedRuns, discover_seeds
from edge_pruning.setup import Setup
from edge_pruning.version import __version__
from edge_pruning.view import view_paths

FORMAT = "edge-pruning/study"
FORMAT_VERSION = 1
STUDY = "study.json"
PLACES = ("a", "b")
LEAST_ACCURACY = 0.8


class StudyFolder(RunFolder):
    """A folder of two folders of several seeds, and what was found about them."""

    format: ClassVar[str] = FORMAT
    patterns: ClassVar[tuple[str, ...]] = (STUDY, "study.svg", "study.html", "circuits.html", CONFIG)
    last: ClassVar[str] = STUDY


@dataclass(frozen=True, eq=False)
class Study:
    """A finished study. names: of the two settings. sides: the runs of each. content: what study.json holds."""

    names: tuple[str, str]
    sides: tuple[SeedRuns, SeedRuns]
    content: Mapping[str, Any]
    folder: Path

    @property
    def circuits(self) -> tuple[Circuit, Circuit]:
        """The consensus circuit of each setting."""
        first, second = (side.consensus[0] for side in self.sides)
        return first, second

    @classmethod
    def load(cls, folder: str | Path) -> Study:
        """A finished study from its folder. Raises ValueError that names the file that is missing or broken."""
        folder = Path(folder)
        content = files.read_json(folder / STUDY)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{folder / STUDY}: expected a study (format {FORMAT!r})")
        first, second = (SeedRuns.load(folder / place) for place in PLACES)
        one, other = (side["name"] for side in content["settings"])
        return cls((one, other), (first, second), content, folder)


def study(
    task: Any,
    *,
    out: str | Path,
    against: Any = None,
    against_data: Mapping[str, Any] | None = None,
    against_model: Any = None,
    seeds: int = 3,
    model: Any = None,
    anyway: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    observer: RunObserver | None = None,
    **settings: Any,
) -> Study:
    """Find circuits for two settings and compare them: how many edges they share, and whether each does the other's.

    task, model, settings: as for `discover`; `data={"style": "few-shot"}` is a setting of the task.
    against, against_data, against_model: how the other setting differs: another task or pairs, other settings of the
    task, another model of the same shape. At least one of them.
    seeds: how many circuits to find for each setting, at least two: their overlap is what the other is compared with.
    anyway: go on where the model does not do a task, which means an accuracy below 0.8.

    Raises ValueError for settings that are equal or cannot be compared, and for what `discover` refuses.
    """
    given = {**settings, **({} if model is None else {"model": in_hand(model)})}
    other = {**given, **({} if against_model is None else {"model": in_hand(against_model)})}
    other["data"] = {**given.get("data", {}), **(against_data or {})}
    tasks = task, task if against is None else against
    first, second = (_config(of, settings) for of, settings in zip(tasks, (given, other), strict=True))
    if all(getattr(first, of) == getattr(second, of) for of in ("task", "data", "source")) and (
        given.get("model") == other.get("model")
    ):
        raise ValueError(
            "both settings are the same; say how the other one differs: another task (against), other settings of the "
            "task (against_data, --against style=...) or another model (against_model)"
        )
    folder = StudyFolder(out, resume=resume, overwrite=overwrite)
    description = {"settings": [first.to_json(), second.to_json()], "seeds": seeds}
    if resume and folder.config is not None:
        refuse_differences(folder.path, {k: folder.config[k] for k in description}, description)
    if resume and folder.finished:
        return Study.load(folder.path)
    watch = observer or RunObserver()
    watch.stage("loading the model")
    setups = _setups((first, second), (given.get("model"), other.get("model")))
    names = names_of((first, second))
    _check(names, setups, anyway=anyway)
    folder.begin(description, resume=resume)
    try:
        sides = [
            _side(of, settings, setup.model, folder.path / place, seeds, f"{place.upper()}, {name}", watch, overwrite)
            for of, settings, setup, place, name in zip(tasks, (given, other), setups, PLACES, names, strict=True)
        ]
        return _saved(names, (first, second), setups, sides, folder.path, watch)
    except ValueError:
        if not any(folder.path.glob("*/seed-*")):
            folder.withdraw()
        raise
    finally:
        folder.release()


# --- the two settings -------------------------------------------------------------------------------------------------


def _config(task: Any, settings: Mapping[str, Any]) -> RunConfig:
    """What a run of this side will do. Raises ValueError with everything that is wrong."""
    model = settings.get("model")
    named = {"model": model.name, "dtype": model.dtype} if isinstance(model, Model) else {}
    config = RunConfig.of({"task": task, **settings, **named})
    if len(config.edges) + len(config.sparsity) > 1:
        raise ValueError("expected one size for a study, got several; one circuit stands for each setting")
    return config


def names_of(configs: Sequence[RunConfig]) -> tuple[str, str]:
    """What tells the two settings apart, in a few words each."""
    first, second = configs
    keys = [key for key in {**first.data, **second.data} if first.data.get(key) != second.data.get(key)]
    parts: list[list[str]] = [[], []]
    for i, config in enumerate(configs):
        if first.task != second.task:
            parts[i].append(Path(config.task).name)
        parts[i] += [f"{key}={config.data[key]}" for key in keys if key in config.data]
        if first.model != second.model:
            parts[i].append(Path(config.model).name)
    one, other = (", ".join(words) or Path(config.task).name for words, config in zip(parts, configs, strict=True))
    return one, other if other != one else f"{other} (B)"


def _setups(configs: Sequence[RunConfig], models: Sequence[Any]) -> list[Setup]:
    """A setup for each side; they share the model where it is the same one."""
    first, second = configs
    loaded = [setup_of(first, models[0] if isinstance(models[0], Model) else None)]
    same = first.model == second.model and models[0] is models[1]
    known = loaded[0].model if same else models[1] if isinstance(models[1], Model) else None
    loaded.append(setup_of(second, known))
    return loaded


def _check(names: Sequence[str], setups: Sequence[Setup], *, anyway: bool) -> None:
    """Raises ValueError if the graphs differ, or if the model does not do one of the tasks."""
    shapes = [setup.graph.shape for setup in setups]
    if shapes[0] != shapes[1]:
        alike = (shapes[0].layers, shapes[0].heads) == (shapes[1].layers, shapes[1].heads)
        offer = (
            "their layers and heads agree, so the nodes of finished runs can be compared: edge-pruning compare --nodes"
            if alike else "their layers or heads differ in number, so not even their nodes correspond"
        )
        raise ValueError(f"the two models have different shapes ({shapes[0]} and {shapes[1]}): {offer}")
    scores = [_accuracy(setup) for setup in setups]
    weak = [
        f"{name}: accuracy {score:.2f} on {len(setup.pairs.pairs)} test pairs"
        for name, score, setup in zip(names, scores, setups, strict=True) if score < LEAST_ACCURACY
    ]
    if weak and not anyway:
        raise ValueError(
            f"the model does not do this well enough, expected an accuracy of at least {LEAST_ACCURACY}; got "
            f"{'; '.join(weak)}. A circuit for what a model cannot do says nothing: choose another style, task or "
            "model, or search all the same with --anyway (anyway=True)"
        )


@torch.no_grad()
def _accuracy(setup: Setup) -> float:
    """The model's accuracy on the pairs that circuits are judged on; one unmasked pass over them."""
    engine, data = setup.engine, setup.pairs
    batches = over_tiles(
        engine, data.pairs, lambda ids: _right(engine.batch([data.pairs[i] for i in ids]), setup)
    )
    return float(torch.cat([right for _, right in batches]).double().mean())


def _right(batch: Any, setup: Setup) -> torch.Tensor:
    return accuracy(setup.engine.own_logits(batch).float(), batch, setup.pairs.metric)


class _OneOfTwo(RunObserver):
    """Says which setting a run is of."""

    def __init__(self, watch: RunObserver, which: str) -> None:
        self.watch, self.which = watch, which

    def stages(self, work: Mapping[str, float]) -> None:
        self.watch.stages({f"{self.which}: {words}": units for words, units in work.items()})

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        self.watch.stage(f"{self.which}: {words}", done, total)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.watch.progress(records, total)


def _side(
    task: Any,
    settings: Mapping[str, Any],
    model: Model | None,
    place: Path,
    seeds: int,
    which: str,
    watch: RunObserver,
    overwrite: bool,
) -> SeedRuns:
    """The seeds' runs of one setting; those that are there already are read."""
    begun = place.exists() and not overwrite
    return discover_seeds(
        task, seeds=seeds, out=place, resume=begun, overwrite=overwrite, patterns=0, observer=_OneOfTwo(watch, which),
        **{**settings, "model": model},
    )


# --- what they have in common -----------------------------------------------------------------------------------------


def _judged(circuits: Mapping[str, Circuit], setup: Setup, progress: Any) -> dict[str, Any]:
    """The means of every circuit, of the model and of the empty circuit on the pairs of one setting."""
    setup = setup.judging.on_some_pairs(LARGE_PAIRS) if setup.graph.n_edges > LARGE else setup.judging
    masks = [*(circuit.mask for circuit in circuits.values()), torch.zeros_like(setup.graph.edge_mask)]
    model, measured = measure(setup, masks, setup.pairs, progress=progress)
    runs = {"model": model} | {name: measured.one(i) for i, name in enumerate((*circuits, "empty"))}
    scale = FaithfulnessScale(model, runs["empty"], setup.pairs.metric)
    return {
        "loss": model.loss_name,
        "examples": len(setup.pairs.pairs),
        "runs": {
            name: {
                model.loss_name: run.mean_loss, "faithfulness": scale.faithfulness(run),
                "accuracy": float(run.accuracy.mean()), "exact_match": float(run.exact_match.mean()),
            }
            for name, run in runs.items()
        },
    }


def _saved(
    names: tuple[str, str],
    configs: Sequence[RunConfig],
    setups: Sequence[Setup],
    sides: Sequence[SeedRuns],
    folder: Path,
    watch: RunObserver,
) -> Study:
    """Judge both circuits in both settings, compare them, and write it all down; study.json last."""
    agreed = {name: side.consensus[0] for name, side in zip(names, sides, strict=True)}
    groups = {name: [run.circuit for run in side.runs] for name, side in zip(names, sides, strict=True)}
    compared = GroupComparison(groups, agreed)
    circuits = {**agreed, "intersection": compared.shared, "union": compared.union}
    judged = [
        _judged(circuits, setup, partial(watch.stage, f"judging all circuits, {name}"))
        for name, setup in zip(names, setups, strict=True)
    ]
    content = files.json_values({
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "software": __version__,
        "settings": [{"name": name, **config.to_json()} for name, config in zip(names, configs, strict=True)],
        "seeds": list(sides[0].stability["seeds"]),
        "ablation": configs[0].ablation,
        "convention": setups[0].graph.convention,
        "judged": dict(zip(names, judged, strict=True)),
        "comparison": compared.to_json(),
        "warnings": [f"{name}: {words}" for name, side in zip(names, sides, strict=True)
                     for words in side.stability["sizes"][0]["warnings"]],
    })
    content["findings"] = findings(content)
    picture = draw_overlap(agreed, title=f"{names[0]} and {names[1]}")
    files.write_text(folder / "study.svg", picture)
    files.write_text(folder / "study.html", render_study(content, picture))
    files.write_text(folder / "circuits.html", view_paths([folder / place / "consensus.json" for place in PLACES]))
    files.write_json(folder / STUDY, content)
    first, second = sides
    return Study(names, (first, second), content, folder)


def findings(content: Mapping[str, Any]) -> list[str]:
    """What the numbers say, in sentences."""
    edges, names = content["comparison"]["edges"], list(content["judged"])
    across, by_chance = edges["across"]["iou"], edges["by_chance"]["iou"]["mean"]
    within = [group["iou"] for group in edges["within"].values()]
    least = min(group["mean"] for group in within)
    words = "less than" if across["mean"] < min(group["least"] for group in within) else (
        "as much as" if across["mean"] >= least else "somewhat less than"
    )
    found = [
        f"circuits of the two settings share {across['mean']:.2f} of their edges (IoU), {words} two seeds of the same "
        f"setting ({within[0]['mean']:.2f} and {within[1]['mean']:.2f}); random circuits of these sizes share "
        f"{by_chance:.3f}",
        f"{edges['agreed']['of_smaller']['mean']:.1%} of the smaller agreed circuit is in the other one",
    ]
    for home, away in (names, names[::-1]):
        loss = content["judged"][away]["loss"]
        moved, own = (content["judged"][away]["runs"][name][loss] for name in (home, away))
        found.append(f"in the setting {away!r}, the circuit of {home!r} has a {loss} of {moved:.3g}, its own {own:.3g}")
    return found
