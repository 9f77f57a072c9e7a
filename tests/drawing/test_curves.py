"""Curves: what is drawn, what is left out, and that equal numbers give equal files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_pruning.drawing import draw_size_curve, draw_training, panels
from edge_pruning.drawing.training import _of_random_sizes

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


def test_sizes_that_differ_little_have_different_ticks() -> None:
    records = [{"step": step, "edges": 15 - 0.03 * step, "target_edges": 15 - 0.03 * step} for step in range(1, 101)]
    ticks = [float(word) for word in words(draw_training(records)).splitlines() if word.replace(".", "").isdigit()]
    sizes = [tick for tick in ticks if 11 < tick < 16]  # steps are counted in twenties
    assert len(sizes) == len(set(sizes)) >= 3


def test_a_training_run_has_a_panel_for_each_quantity_with_units() -> None:
    drawn = words(draw_training(RECORDS, title="A run"))
    expectations = ("A run", "KL divergence (nats)", "Circuit size", "target", "Undecided masks", "step")
    for expected in expectations:
        assert expected in drawn
    assert "Multipliers" not in drawn


def random_sizes(steps: int = 80) -> list[dict[str, Any]]:
    """A run that draws a size at every step: KL depends on the size, and falls to a tenth in the second half."""
    sizes = [10 * 8 ** ((7 * step % 20) / 19) * 2 for step in range(steps)]
    kl = [30 / size * (1 if step < steps / 2 else 0.1) for step, size in enumerate(sizes)]
    return [
        {"step": step + 1, "kl": kl[step], "edges": size, "target_edges": size, "undecided": 0.5}
        for step, size in enumerate(sizes)
    ]


def test_a_run_with_sizes_drawn_at_random_is_told_apart_by_size_and_by_time() -> None:
    drawn = words(draw_training(random_sizes()))
    for expected in ("20 to 40 edges", "40 to 80 edges", "80 to 160 edges", "steps 1 to 20", "steps 61 to 80"):
        assert expected in drawn  # in the legend of every panel that has it
    assert "Faithfulness over steps" in drawn
    assert "Faithfulness over sizes" in drawn
    assert "Circuit size" not in drawn  # every value, at every step, would be what was drawn
    assert "Circuit size" in words(draw_training(RECORDS))  # a target that only falls is worth a curve


def test_smoothing_shows_the_progress_and_not_the_sizes() -> None:
    """Literally: within the band of the largest sizes, the smoothed curve is ten times lower at the end."""
    panel = _of_random_sizes(random_sizes())[0]
    for line in panel.lines:
        values = [y for _, y in line.points]
        assert values[0] / values[-1] > 5
        assert len({round(y, 12) for y in values}) < len(values)
    assert [x for x, _ in panel.lines[0].points] == sorted(x for x, _ in panel.lines[0].points)


def test_every_step_is_a_dot_of_its_quarter() -> None:
    records = random_sizes()
    lines = _of_random_sizes(records)[1].lines
    dots = [(x, y) for line in lines for x, y in line.points]
    assert dots == [(row["target_edges"], row["kl"]) for row in records]
    assert [len(line.points) for line in lines] == [20, 20, 20, 20]


def test_objectives_below_zero_get_a_plain_axis() -> None:
    records = [{"logit_difference": -row.pop("kl"), **row} for row in random_sizes()]
    by_objective = [panel for panel in _of_random_sizes(records) if any(line.points for line in panel.lines)]
    assert not by_objective[0].log_y
    assert "minus the logit difference" in words(draw_training(records))


def test_fields_may_be_missing_or_not_finite() -> None:
    records = [{"step": 0, "kl": None}, {"step": 1, "kl": math.nan}, {"step": 2, "kl": 0.5, "edges": 0}, {"kl": 9.0}]
    drawn = words(draw_training(records))
    assert "Faithfulness" in drawn
    assert "Circuit size" not in drawn  # zero edges have no place on a logarithmic axis


def test_every_panel_of_the_size_curve_names_its_own_series() -> None:
    drawn = words(draw_size_curve(POINTS)).split("\n")
    for name, count in (("edge pruning", 2), ("eap", 2), ("edge pruning, random edges", 1), ("eap, random edges", 1)):
        assert drawn.count(name) == count


def test_many_series_are_named_once_below_all_panels() -> None:
    many = [{**point, "label": f"method {i}"} for i in range(5) for point in POINTS[:3]]
    few, drawn = (words(draw_size_curve(rows)).split("\n") for rows in (many[:6], many))
    assert few.count("method 1") == 2
    assert [drawn.count(name) for name in ("method 1", "method 4", "method 4, random edges")] == [1, 1, 1]


def test_a_loss_over_decades_is_drawn_on_a_logarithmic_axis_and_accuracy_from_0() -> None:
    rows = [{"edges": e, "kl": 100 / e**2, "accuracy": 0.98} for e in (1, 10, 100)]
    drawn = words(draw_size_curve(rows)).split("\n")
    assert {"0.01", "100"} <= set(drawn)  # of the loss: from 0.01 to 100
    assert {"0.0", "1.0"} <= set(drawn)  # of the accuracy, which is .98 throughout
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


def test_a_legend_that_would_cover_lines_lies_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three flat lines leave no room for it, on either kind of axis."""
    covered: list[list[bool]] = []

    def looked(figure: Figure, axes: Sequence[Axes]) -> None:
        for _ in range(2):
            figure.draw_without_rendering()
            covered.append([panels._covers(place.get_legend(), line) for place in axes for line in place.get_lines()])
            uncover(figure, axes)

    uncover = panels._uncover
    monkeypatch.setattr(panels, "_uncover", looked)
    lines = [panels.Line([(x, y) for x in range(9)], f"a line at {y}", {}) for y in (1.0, 1.5, 2.0, 3.0)]
    panels.draw_panels([panels.Panel("", "", "", lines, log_y=log) for log in (False, True)], "A title")
    before, after = covered
    assert any(before[:4])
    assert any(before[4:])
    assert not any(after)
