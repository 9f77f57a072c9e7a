"""Confidence intervals: what is resampled, against plain loops, and how often they are right."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor

from edge_pruning.evaluation.bootstrap import Resamples


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_resample_draws_as_many_examples_as_there_are() -> None:
    resamples = Resamples(7, seed=1)
    assert torch.cat([*resamples.chunks]).shape == (1000, 7)
    assert (torch.cat([*resamples.chunks]).sum(1) == 7).all()
    assert torch.equal(torch.cat([*resamples.chunks]), torch.cat([*Resamples(7, seed=1).chunks]))
    assert not torch.equal(torch.cat([*resamples.chunks]), torch.cat([*Resamples(7, seed=2).chunks]))


def test_means_are_those_of_the_drawn_examples() -> None:
    values = normal(6, 0)
    values[2] = torch.nan
    resamples = Resamples(6, seed=3)
    for counts, mean in zip(torch.cat([*resamples.chunks]).tolist(), resamples.means(values).tolist(), strict=True):
        drawn = [float(v) for v, times in zip(values, counts, strict=True) for _ in range(int(times)) if v == v]
        assert mean == pytest.approx(sum(drawn) / len(drawn)) if drawn else math.isnan(mean)


def test_the_interval_is_the_middle_of_the_resampled_means() -> None:
    """Against a bootstrap in plain Python with draws of its own."""
    values, rng = normal(80, 1).exp(), random.Random(0)
    means = sorted(sum(rng.choices(values.tolist(), k=80)) / 80 for _ in range(4000))
    low, high = Resamples(80, seed=0).interval(values)
    width = means[3900] - means[100]
    assert low == pytest.approx(means[100], abs=0.08 * width)
    assert high == pytest.approx(means[3900], abs=0.08 * width)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(300):
        low, high = Resamples(60, seed).interval(normal(60, 1000 + seed))
        held += low <= 0 <= high
    assert 0.90 < held / 300 < 0.98


def test_a_ratio_keeps_what_its_parts_have_in_common() -> None:
    """Top and bottom move together, so the ratio is certain though neither mean is."""
    bottom = 5 + normal(50, 2)
    resamples = Resamples(50)
    low, high = resamples.interval_of_ratio(0.8 * bottom, bottom)
    assert low == pytest.approx(0.8)
    assert high == pytest.approx(0.8)
    low, high = resamples.interval(bottom)
    assert high - low > 0.3


@pytest.mark.parametrize("values", [[1.0], [float("nan")] * 5, [1.0, float("nan"), float("nan")]])
def test_fewer_than_two_examples_have_no_interval(values: list[float]) -> None:
    some = torch.tensor(values, dtype=torch.float64)
    assert all(map(math.isnan, Resamples(len(values)).interval(some)))
    assert all(map(math.isnan, Resamples(len(values)).interval_of_ratio(some, some)))
