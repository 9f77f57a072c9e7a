"""CPR and CMD against areas worked out by hand."""

from __future__ import annotations

import math

import pytest

from edge_pruning.evaluation.curve_numbers import SHARES, areas, mib_sizes

BY_HAND = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 1.2, 1.1, 1.0)


def test_areas_are_those_worked_out_by_hand() -> None:
    """f at 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50 and 100 percent of the edges; each line one trapezoid, width by height.

    f overshoots 1 at 20 and 50 percent: CPR counts it as more, CMD as distance.
    """
    cpr = [
        0.001 * 0.10, 0.003 * 0.30, 0.005 * 0.45, 0.010 * 0.55, 0.030 * 0.70, 0.050 * 0.85, 0.100 * 1.05, 0.300 * 1.15,
        0.500 * 1.05,
    ]
    cmd = [
        0.001 * 0.90, 0.003 * 0.70, 0.005 * 0.55, 0.010 * 0.45, 0.030 * 0.30, 0.050 * 0.15, 0.100 * 0.15, 0.300 * 0.15,
        0.500 * 0.05,
    ]
    assert sum(cpr) == pytest.approx(1.04725, rel=0, abs=1e-12)  # added up by hand
    assert sum(cmd) == pytest.approx(0.11175, rel=0, abs=1e-12)
    found = areas(BY_HAND)
    assert found["cpr"] == pytest.approx(1.04725, rel=0, abs=1e-9)
    assert found["cmd"] == pytest.approx(0.11175, rel=0, abs=1e-9)


def test_logarithmic_means_are_those_worked_out_by_hand() -> None:
    """Three decades; in each the shares stand at 0, log 2, log 5 and 1: widths .30103, .39794 and .30103."""
    a, b = math.log10(2), math.log10(5) - math.log10(2)
    first = a * 0.10 + b * 0.30 + a * 0.45
    second = a * 0.55 + b * 0.70 + a * 0.85
    third = a * 1.05 + b * 1.15 + a * 1.05
    assert areas(BY_HAND)["log_cpr"] == pytest.approx((first + second + third) / 3)
    distances = (a * (0.9 + 0.55) + b * 0.7) + (a * (0.45 + 0.15) + b * 0.3) + (a * (0.15 + 0.05) + b * 0.15)
    assert areas(BY_HAND)["log_cmd"] == pytest.approx(distances / 3)


def test_a_perfect_ranking_and_none_at_all() -> None:
    assert areas([1.0] * 10) == pytest.approx({"cpr": 0.999, "cmd": 0, "log_cpr": 1, "log_cmd": 0})
    assert areas([0.0] * 10) == pytest.approx({"cpr": 0, "cmd": 0.999, "log_cpr": 0, "log_cmd": 1})


def test_sizes_are_rounded_down_and_may_be_no_edge_at_all() -> None:
    assert mib_sizes(32_491) == (32, 64, 162, 324, 649, 1624, 3249, 6498, 16245, 32491)
    assert mib_sizes(300) == (0, 0, 1, 3, 6, 15, 30, 60, 150, 300)


def test_other_numbers_of_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=rf"expected the faithfulness at {len(SHARES)} sizes .* got 3"):
        areas([0.0, 0.5, 1.0])
