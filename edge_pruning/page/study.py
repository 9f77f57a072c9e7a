"""From a study's JSON and its picture to HTML: two settings side by side on one page (see `runs/two_settings.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from edge_pruning.numbers import common_numbers
from edge_pruning.page.page import look, template

SHOWN_EDGES = 400
WORDS = {
    "model": "model (all edges)", "intersection": "edges of both", "union": "edges of either", "empty": "empty circuit",
}


def render_study(study: Mapping[str, Any], picture: str) -> str:
    """The page of a study. study: what study.json holds; picture: both circuits over each other, as SVG."""
    names, compared = list(study["judged"]), study["comparison"]
    return str(template("study.html").render(
        title=" and ".join(names),
        about=_about(study["settings"]),
        study=study,
        names=names,
        compared=compared,
        words_for=WORDS,
        columns={name: _columns(judged["loss"]) for name, judged in study["judged"].items()},
        edges=edges_of(compared),
        overlaps=overlap_rows(compared),
        parts=[
            ("By kind of reader", "kind", compared["kinds"]), ("By layer of the reader", "layer", compared["layers"]),
        ],
        picture=Markup(picture),
        settings=json.dumps(study["settings"], indent=2, ensure_ascii=False),
        shown=SHOWN_EDGES,
        **look(),
    ))


def _about(settings: Sequence[Mapping[str, Any]]) -> str:
    """The tasks and the models, by the last part of their names."""
    tasks, models = (
        " and ".join(dict.fromkeys(PurePath(side[what]).name for side in settings)) for what in ("task", "model")
    )
    return f"{tasks} in {models}"


def overlap_rows(compared: Mapping[str, Any]) -> list[tuple[str, list[float | None]]]:
    """Mean overlaps of edges and of nodes, by what is compared; None where there are none."""
    edges, nodes = compared["edges"], compared["nodes"]
    groups = [
        ("across the settings, one seed of each", edges["across"], nodes["across"]),
        *((f"two seeds of {name}", edges["within"][name], nodes["within"][name]) for name in edges["within"]),
        ("the agreed circuits", edges["agreed"], nodes["agreed"]),
        ("random edges, circuits of these sizes", edges["by_chance"], nodes["by_chance"]),
    ]
    return [
        (words, [group and group[measure]["mean"] for group in each for measure in ("iou", "of_smaller")])
        for words, *each in groups
    ]


def _columns(loss: str) -> list[tuple[str, str]]:
    return [(number.name, number.heading) for number in common_numbers(loss)]


def edges_of(compared: Mapping[str, Any]) -> dict[str, int]:
    """How many edges each run of a study had."""
    counts = {name: counts["edges"] for name, counts in compared["counts"].items()}
    return {**counts, "empty": 0, "model": next(iter(compared["counts"].values()))["edges_total"]}
