"""Charts and boxes: where numbers stand, round ticks, and what is left out."""

from __future__ import annotations

import math
import re

import pytest

from edge_pruning.drawing.boxes import Box, draw_boxes
from edge_pruning.drawing.chart import Axis, Chart, Point, draw_chart, words_of

X, Y = Axis("edges", 1.0, 1000.0, log=True), Axis("nats", 0.0, 2.0)


def chart(*points: Point, x: Axis = X, y: Axis = Y, **more: object) -> str:
    return draw_chart(Chart("KL", x, y, points, "#0072b2", **more))  # type: ignore[arg-type]


def circles(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis() -> None:
    places = [x for x, _ in circles(chart(*(Point(x, 1.0, "") for x in (1.0, 10.0, 100.0, 1000.0))))]
    steps = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.02)


def test_more_is_higher_and_a_linear_axis_is_even() -> None:
    places = [y for _, y in circles(chart(*(Point(5.0, y, "") for y in (0.0, 1.0, 2.0))))]
    assert places[0] - places[1] == pytest.approx(places[1] - places[2], abs=0.02)
    assert places[0] > places[2]


def test_what_a_logarithmic_axis_cannot_show_is_left_out() -> None:
    shown = chart(Point(0.0, 1.0, "zero"), Point(10.0, 1.0, "ten"), Point(20.0, math.nan, "nan"))
    assert len(circles(shown)) == 1
    assert "ten" in shown
    assert "zero" not in shown


def test_intervals_are_a_band_and_the_pointer_shows_numbers() -> None:
    points = (Point(10.0, 1.0, "10 edges: 1", 0.9, 1.1), Point(20.0, 0.5, "20 edges: 0.5", 0.4, 0.6))
    shown = chart(*points, levels=[1.0], mark=Point(10.0, 1.0, "the circuit"))
    assert shown.count("<polygon") == 2  # the band and the diamond
    assert 'stroke-dasharray="3 3"' in shown
    for words in ("10 edges: 1", "the circuit"):
        assert f"<title>{words}</title>" in shown


def test_foreign_words_are_escaped() -> None:
    dots = [(Point(3.0, 1.0, "a&b"), "#000000")]
    shown = draw_chart(Chart("<b>", X, Y, [Point(2.0, 1.0, "<i>")], "#000000", dots=dots))
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "a&amp;b" in shown


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.2, 1.05), (0, 5.2), (0.03, 0.05), (-4, 1200)])
def test_linear_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = Axis("", low, high).ticks
    assert 3 <= len(ticks) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert all(len(f"{tick:.3g}") <= 6 for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(1, 8), (10, 1519), (1, 32491), (1e-5, 3), (8, 4e6)])
def test_logarithmic_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = Axis("", low, high, log=True).ticks
    assert 2 <= len(ticks) <= 7
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


@pytest.mark.parametrize(("value", "words"), [
    (0, "0"), (1e-14, "0"), (0.25, "0.25"), (0.001, "0.001"), (0.0001, "1e-4"), (1500, "1.5k"), (2e6, "2M"), (-3, "-3"),
])
def test_ticks_are_short(value: float, words: str) -> None:
    assert words_of(value) == words


def test_an_axis_has_room_for_all_values_and_for_one() -> None:
    axis = Axis.over("", [0.2, 0.9], at_least=[0.0, 1.0])
    assert axis.low == 0
    assert axis.high > 1
    assert Axis.over("", [3.0]).low < 3 < Axis.over("", [3.0]).high
    assert Axis.over("", [], log=True).low < Axis.over("", [], log=True).high
    assert Axis.over("", [0.0, 5.0, math.nan], log=True).low == 2.5


def test_boxes_stand_in_the_order_of_their_quantiles() -> None:
    quantiles = dict(zip(("5", "25", "50", "75", "95"), (0.1, 0.2, 0.4, 0.8, 1.6), strict=True))
    shown = draw_boxes("KL", Axis("nats", 0.1, 1.6, log=True), [Box("<circuit>", quantiles, 0.5, "#0072b2")])
    whisker = re.search(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="([\d.]+)" y2="\3" stroke="#0072b2"', shown)
    body = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', shown)
    assert whisker
    assert body
    least, most, left, width = float(whisker[1]), float(whisker[2]), float(body[1]), float(body[2])
    assert least < left < left + width < most
    assert "&lt;circuit&gt;" in shown


def test_a_row_without_numbers_says_so() -> None:
    nothing = dict.fromkeys(("5", "25", "50", "75", "95"), math.nan)
    shown = draw_boxes("KL", Axis("nats", 0.1, 1.0), [Box("random", nothing, math.nan, "#0072b2")])
    assert "random: not defined" in shown
    assert "nan" not in shown


def test_an_axis_around_0_keeps_signs_and_orders_and_puts_0_where_it_belongs():
    axis = Axis("loss", -0.1, 1.0, around=1e-4)
    values = [-0.1, -0.01, -1e-5, 0.0, 1e-5, 0.001, 0.5, 1.0]
    shares = [axis.share(value) for value in values]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert 0.4 < axis.share(0.0) < 0.5
    assert axis.ticks == [-0.1, -0.01, -0.001, 0.0, 0.001, 0.01, 0.1, 1.0]


def test_ticks_at_the_sides_of_a_box_plot_are_not_cut_off():
    quantiles = {"5": 0.001, "25": 0.01, "50": 0.1, "75": 0.5, "95": 1.0}
    drawn = draw_boxes("KL", Axis("nats", 0.001, 1.0, log=True), [Box("the circuit", quantiles, 0.2, "#0072b2")])
    anchors = dict(re.findall(r'text-anchor="(\w+)"[^>]*>(0?\.?[\d.]+)<', drawn))
    places = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="(\w+)"[^>]*>0.001<', drawn)
    assert places
    assert all(anchor == "start" or float(x) > 15 for x, anchor in places), anchors
