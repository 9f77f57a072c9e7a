"""Two settings, one mechanism? Circuits for two settings, such as two prompt styles, with several seeds each.

    a/ b/             a folder of several seeds for each setting
    config.json       the settings of both
    study.json        sizes, each circuit in the other's setting, overlaps; written last
    study.svg         an overlay of both circuits
    study.html        the same as a page; circuits.html: a page for exploring the circuits

A setting is a task with its data and a model; everything else is the same for both. `discover_seeds` finds the circuits
of each setting, and their consensus represents it. Both consensus circuits, their intersection and their union are
judged on the held-out pairs of both settings. This is the question of section 6 of Bhaskar and others (2024).

Cost: `2 * seeds` runs, and 5 masked passes over the test pairs of each setting. A killed study continues with `resume`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from edge_pruning import files, ranks
from edge_pruning.circuit import Circuit
from edge_pruning.compare_groups import GroupComparison
from edge_pruning.contents import StudyContent
from edge_pruning.drawing import draw_overlap
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.evaluation.measure import LARGE, LARGE_PAIRS, measure
from edge_pruning.loading.model import Model
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.metrics import accuracy
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.page.study import render_study
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.folder import CONFIG, Place, RunFolder
from edge_pruning.runs.observer import OneOfSeveral, RunObserver
from edge_pruning.runs.pipeline import setup_of
from edge_pruning.runs.request import in_hand, refuse_differences, settings_in_memory
from edge_pruning.runs.seeds import SeedRuns, discover_seeds, planned_seeds
from edge_pruning.setup import Setup
from edge_pruning.version import __version__
from edge_pruning.view import view_paths

FORMAT = "edge-pruning/study"
FORMAT_VERSION = 1
STUDY = "study.json"
PLACES = ("a", "b")
LEAST_ACCURACY = 0.8


class StudyFolder(RunFolder):
    """A folder with two folders of several seeds, and their comparison."""

    format: ClassVar[str] = FORMAT
    patterns: ClassVar[tuple[str, ...]] = (STUDY, "study.svg", "study.html", "circuits.html", CONFIG)
    last: ClassVar[str] = STUDY

    def withdraw(self) -> None:
        """Remove the folder's files, as long as no seed has begun."""
        if not any(self.path.glob("*/seed-*")):
            super().withdraw()


@dataclass(frozen=True, eq=False)
class Study:
    """A finished study.

    names: those of the two settings.
    sides: the runs of each setting.
    content: the content of study.json.
    """

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
        """Load a finished study from its folder. Raises ValueError that names the missing or broken file."""
        folder = Path(folder)
        content = files.read_own(folder / STUDY, FORMAT, FORMAT_VERSION, StudyContent)
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
    """Find circuits for two settings, and compare them: their shared edges, and how well each performs the other's
    task.

    task, model, settings: as for `discover`; `data={"style": "few-shot"}` is a setting of the task.
    against, against_data, against_model: the difference of the second setting: another task or pairs, other settings of
        the task, another model of the same shape. At least one of them.
    seeds: number of circuits per setting, at least two. Their overlap is the reference for the overlap of the settings.
    anyway: continue even if the model's accuracy on a task is below 0.8.

    Raises ValueError for settings that are equal or cannot be compared, and for everything that `discover` refuses.
    """
    given = {**settings, **({} if model is None else {"model": in_hand(model)})}
    other = {**given, **({} if against_model is None else {"model": in_hand(against_model)})}
    other["data"] = {**given.get("data", {}), **(against_data or {})}
    asked = _Asked.of(task, given), _Asked.of(task if against is None else against, other)
    _refuse_equal(*asked)
    place = Place.of(StudyFolder, out, resume=resume, overwrite=overwrite)
    first, second = (side.config.to_json() for side in asked)
    description = {"settings": first, "against": second, "seeds": seeds}
    if place.stored:
        refuse_differences(Path(out), {key: place.stored[key] for key in description}, description)
    if place.finished:
        return Study.load(out)
    watch = observer or RunObserver()
    watch.stage("loading the model")
    sides = _sides(*asked)
    _refuse_other_shapes(*sides)
    if not anyway:
        _refuse_what_is_not_done(sides)
    if place.folder:
        place.folder.begin(description, resume=resume)
    try:
        runs = _run_both(sides, Path(out), seeds, watch, overwrite=overwrite)
        return _saved(sides, runs, Path(out), watch)
    except ValueError:
        if place.folder:
            place.folder.withdraw()
        raise
    finally:
        if place.folder:
            place.folder.release()


# --- the two settings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Asked:
    """The request for one setting: as it was given, and as a configuration."""

    task: Any
    settings: Mapping[str, Any]
    config: RunConfig

    @classmethod
    def of(cls, task: Any, settings: Mapping[str, Any]) -> _Asked:
        """Resolve a setting. Raises ValueError with all problems."""
        model = settings.get("model")
        named = settings_in_memory(model) if isinstance(model, Model) else {}
        config = RunConfig.of({"task": task, **settings, **named})
        if len(config.edges) + len(config.sparsity) > 1:
            raise ValueError("expected one size for a study, got several; one circuit represents each setting")
        return cls(task, settings, config)

    @property
    def model(self) -> Model | None:
        """The model in memory, if there is one."""
        model = self.settings.get("model")
        return model if isinstance(model, Model) else None


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two settings.

    place: the name of its folder.
    name: its difference from the other setting.
    """

    place: str
    name: str
    asked: _Asked
    setup: Setup

    @property
    def words(self) -> str:
        return f"{self.place.upper()}, {self.name}"


def _refuse_equal(first: _Asked, second: _Asked) -> None:
    same = all(getattr(first.config, of) == getattr(second.config, of) for of in ("task", "data", "source"))
    if same and first.settings.get("model") == second.settings.get("model"):
        raise ValueError(
            "both settings are the same; give a difference: another task (against), other settings of the "
            "task (against_data, --against style=...) or another model (against_model)"
        )


def names_of(first: RunConfig, second: RunConfig) -> tuple[str, str]:
    """Name the difference of each setting in a few words."""
    keys = [key for key in {**first.data, **second.data} if first.data.get(key) != second.data.get(key)]

    def name(config: RunConfig) -> str:
        words = [Path(config.task).name] if first.task != second.task else []
        words += [f"{key}={config.data[key]}" for key in keys if key in config.data]
        words += [Path(config.model).name] if first.model != second.model else []
        return ", ".join(words) or Path(config.task).name

    one, other = name(first), name(second)
    return one, other if other != one else f"{other} (B)"


def _sides(first: _Asked, second: _Asked) -> list[_Side]:
    """Load both setups; they share the model if it is the same."""
    one = setup_of(first.config, first.model, dtype=first.config.loaded_dtype)  # nothing is searched in it
    shared = first.config.model == second.config.model and first.settings.get("model") is second.settings.get("model")
    model = one.model if shared else second.model
    other = setup_of(second.config, model, dtype=second.config.loaded_dtype)
    names = names_of(first.config, second.config)
    return [_Side(*each) for each in zip(PLACES, names, (first, second), (one, other), strict=True)]


def _refuse_other_shapes(first: _Side, second: _Side) -> None:
    """Raise ValueError if the graphs of the two models differ, with what can be compared nevertheless."""
    one, other = first.setup.graph.shape, second.setup.graph.shape
    if one == other:
        return
    offer = (
        "their layers and heads agree, so the nodes of finished runs can be compared: edge-pruning compare --nodes"
        if (one.layers, one.heads) == (other.layers, other.heads)
        else "their numbers of layers or heads differ, so their nodes do not correspond either"
    )
    raise ValueError(f"the two models have different shapes ({one} and {other}): {offer}")


def _refuse_what_is_not_done(sides: Sequence[_Side]) -> None:
    """Raise ValueError if the model does not perform one of the tasks."""
    scores = [(side, _accuracy(side.setup)) for side in sides]
    weak = [
        f"{side.name}: accuracy {score:.2f} on {len(side.setup.pairs.pairs)} test pairs"
        for side, score in scores if score < LEAST_ACCURACY
    ]
    if weak:
        raise ValueError(
            f"the model does not do this well enough, expected an accuracy of at least {LEAST_ACCURACY}; got "
            f"{'; '.join(weak)}. The circuit of a failed task has no meaning: choose another style, task or "
            "model, or search all the same with --anyway (anyway=True)"
        )


@torch.no_grad()
def _accuracy(setup: Setup) -> float:
    """Return the model's accuracy on the pairs for judging; one unmasked pass over them."""
    pairs, metric = setup.pairs.pairs, setup.pairs.metric

    def right(ids: Sequence[int]) -> torch.Tensor:
        batch = setup.engine.batch([pairs[i] for i in ids])
        return accuracy(setup.engine.own_logits(batch).float(), batch, metric)

    return float(torch.cat([values for _, values in over_tiles(setup.engine, pairs, right)]).double().mean())


def _run_both(
    sides: Sequence[_Side], folder: Path, seeds: int, watch: RunObserver, *, overwrite: bool
) -> list[SeedRuns]:
    """Run all seeds of both settings; finished runs are read."""
    watch.stages({
        f"{side.words}: {words}": units for side in sides
        for words, units in planned_seeds(side.asked.config, side.setup, seeds).items()
    })
    return [
        discover_seeds(
            side.asked.task, seeds=seeds, out=folder / side.place, overwrite=overwrite, patterns=0,
            resume=ranks.from_first((folder / side.place).exists()) and not overwrite,
            observer=OneOfSeveral(watch, side.words),
            **{**side.asked.settings, "model": side.setup.model},
        )
        for side in sides
    ]


# --- comparison -------------------------------------------------------------------------------------------------------


def _judged(circuits: Mapping[str, Circuit], setup: Setup, progress: Any) -> dict[str, Any]:
    """Return the means of every circuit, of the model and of the empty circuit on the pairs of one setting."""
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


def _saved(sides: Sequence[_Side], runs: Sequence[SeedRuns], folder: Path, watch: RunObserver) -> Study:
    """Judge both circuits in both settings, compare them, and write the results; study.json last."""
    first, second = sides
    names = first.name, second.name
    agreed = {name: of_side.consensus[0] for name, of_side in zip(names, runs, strict=True)}
    groups = {name: [run.circuit for run in of_side.runs] for name, of_side in zip(names, runs, strict=True)}
    compared = GroupComparison(groups, agreed)
    circuits = {**agreed, "intersection": compared.shared, "union": compared.union}
    content = files.json_values({
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "software": __version__,
        "settings": [{"name": side.name, **side.asked.config.to_json()} for side in sides],
        "seeds": list(runs[0].stability["seeds"]),
        "ablation": first.asked.config.ablation,
        "convention": first.setup.graph.convention,
        "judged": {
            side.name: _judged(circuits, side.setup, partial(watch.stage, f"judging all circuits, {side.name}"))
            for side in sides
        },
        "comparison": compared.to_json(),
        "warnings": [f"{name}: {words}" for name, of_side in zip(names, runs, strict=True)
                     for words in of_side.stability["sizes"][0]["warnings"]],
    })
    content["findings"] = findings(content)
    done = Study(names, (runs[0], runs[1]), content, folder)
    if not ranks.is_first():
        return done
    picture = draw_overlap(agreed, title=f"{names[0]} and {names[1]}")
    files.write_text(folder / "study.svg", picture)
    files.write_text(folder / "study.html", render_study(content, picture))
    files.write_text(folder / "circuits.html", view_paths([folder / place / "consensus.json" for place in PLACES]))
    files.write_json(folder / STUDY, content)
    return done


def findings(content: Mapping[str, Any]) -> list[str]:
    """Describe the numbers in sentences."""
    edges, names = content["comparison"]["edges"], list(content["judged"])
    across, by_chance = edges["across"]["iou"], edges["by_chance"]["iou"]["mean"]
    within = [group["iou"] for group in edges["within"].values()]
    least = min(group["mean"] for group in within)
    words = "less than" if across["mean"] < min(group["least"] for group in within) else (
        "as much as" if across["mean"] >= least else "somewhat less than"
    )
    sentences = [
        f"circuits of the two settings share {across['mean']:.2f} of their edges (IoU), {words} two seeds of the same "
        f"setting ({within[0]['mean']:.2f} and {within[1]['mean']:.2f}); random circuits of these sizes share "
        f"{by_chance:.3f}",
        f"{edges['agreed']['of_smaller']['mean']:.1%} of the smaller agreed circuit is in the other one",
    ]
    for home, away in (names, names[::-1]):
        judged = content["judged"][away]
        moved, own = (judged["runs"][name][judged["loss"]] for name in (home, away))
        short = OBJECTIVES[judged["loss"]].short
        sentences.append(f"in the setting {away!r}, the circuit of {home!r} has {short} {moved:.3g}, its own {own:.3g}")
    return sentences
