"""Curves: what is drawn, what is left out, and that equal numbers give equal files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib as mpl
import pytest

from edge_pruning.drawing import draw_size_curve, draw_training

RECORDS: list[dict[str, Any]] = [
    {"step": i, "kl": 1 / (i + 1), "edges": 1000 - 9 * i, "target_edges": 990 - 9 * i, "undecided": 0.1}
    for i in range(0, 100, 10)
]
POINTS: list[dict[str, Any]] = [
    {"edges": e, "kl": 10 / e, "accuracy": 1 - 1 / e, "random_kl": 2.5, "label": label}
    for label in ("edge pruning", "eap") for e in (300, 10, 100)
]  # fmt: skip


def words(text: str) -> str:
    return "\n".join("".join(e.itertext()) for e in ET.fromstring(text.encode()).iter() if e.tag.endswith("}text"))


def test_a_training_run_has_a_panel_for_each_quantity_with_units() -> None:
    drawn = words(draw_training(RECORDS, title="A run"))
    expectations = ("A run", "KL divergence (nats)", "Circuit size", "target", "Undecided masks", "step")
    for expected in expectations:
        assert expected in drawn
    assert "Multipliers" not in drawn


def test_fields_may_be_missing_or_not_finite() -> None:
    records = [{"step": 0, "kl": None}, {"step": 1, "kl": math.nan}, {"step": 2, "kl": 0.5, "edges": 0}, {"kl": 9.0}]
    drawn = words(draw_training(records))
    assert "Faithfulness" in drawn
    assert "Circuit size" not in drawn  # zero edges have no place on a logarithmic axis


def test_the_size_curve_names_every_series_once() -> None:
    drawn = words(draw_size_curve(POINTS)).split("\n")
    for name in ("edge pruning", "eap", "edge pruning, random edges", "eap, random edges"):
        assert drawn.count(name) == 1
    assert "accuracy (share of pairs)" in drawn
    assert {"10", "100"} <= set(drawn)


def test_the_size_curve_needs_neither_labels_nor_accuracy() -> None:
    drawn = words(draw_size_curve([{"edges": 10, "kl": 1.0}]))
    assert "KL divergence (nats)" in drawn
    assert "accuracy" not in drawn


def test_the_order_of_points_does_not_matter() -> None:
    points = [point for point in POINTS if point["label"] == "eap"]
    assert draw_size_curve(points) == draw_size_curve(points[::-1])


def test_equal_numbers_give_equal_text_without_a_date() -> None:
    text = draw_training(RECORDS)
    assert text == draw_training(RECORDS)
    assert "dc:date" not in text


def test_the_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(mpl.rcParams)
    draw_training(RECORDS)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("label", ["<script>&\"'", "$x_1$ $", "_hidden", "\x00\ud800", "x" * 3000])
def test_labels_and_titles_can_be_anything(label: str) -> None:
    points = [{**point, "label": label + str(i)} for i, point in enumerate(POINTS)]
    text = draw_size_curve(points, title=label)
    ET.fromstring(text.encode())
    assert "<script" not in text
    assert label[:5].replace("\x00\ud800", "\N{REPLACEMENT CHARACTER}" * 2) in words(text)


@pytest.mark.parametrize("records", [[], [{"step": 3}], [{"kl": 1.0}], [{"step": 1, "kl": math.inf}]])
def test_a_run_without_numbers_is_refused(records: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=f"nothing to draw: .* a finite 'step'.*got {len(records)} rows"):
        draw_training(records)


def test_points_without_numbers_are_refused_with_the_fields_found() -> None:
    with pytest.raises(ValueError, match=r"finite 'edges' .*fields edges, nll"):
        draw_size_curve([{"edges": 10, "nll": 1.0}])
