"""What goes first, and how much of the work is left."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import inputs, model, some_kept
from random_models import VISION
from torch.utils.flop_counter import FlopCounterMode

from edge_pruning.shrink.cutting import cut
from edge_pruning.shrink.flops import layer_flops
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import Layout, Sizes
from edge_pruning.shrink.selection import PartScores, Selection, part_costs

SIZES = Sizes(layers=3, d=16, heads=8, groups=4, e=4, units=20, inward=2)


def drawn(seed: int = 0, **shapes: tuple[int, ...]) -> PartScores:
    generator = torch.Generator().manual_seed(seed)
    return PartScores(**{name: torch.rand(shape, generator=generator) for name, shape in shapes.items()})


HEADS_AND_UNITS = {"heads": (3, 4), "units": (3, 20)}
DIMENSIONS = {"attention_inputs": (3, 16), "channels": (3, 4, 4), "mlp_inputs": (3, 16), "units": (3, 20)}


@pytest.mark.parametrize("kind", ["llama", *(["vit"] if VISION else [])])
def test_flops_of_layers_are_those_that_torch_counts(kind: str) -> None:
    adapter = model(kind)
    adapter.hf.set_attn_implementation("eager")
    sizes, kept, small, x = Layout(adapter.hf).sizes, some_kept(adapter.hf), copy.deepcopy(adapter.hf), inputs(adapter)
    if kind == "vit":
        kept = kept.with_only(positions=torch.tensor([[True, False, True, True, False], [True] * 5]))
    cut(small, kept)
    counted = []
    for hf in (adapter.hf, small):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            hf(x[:1])
        counted.append(counter.get_total_flops())
    width = adapter.width(adapter.sample(0)[0])
    saved = layer_flops(Kept.all(sizes), sizes, width) - layer_flops(kept, sizes, width)
    assert saved == counted[0] - counted[1] > 0


def test_the_share_is_that_of_the_work_that_can_be_removed() -> None:
    whole = layer_flops(Kept.all(SIZES), SIZES, 7)
    both = Selection(drawn(**HEADS_AND_UNITS), SIZES, 7).kept(0.6)
    one_more = max(part_costs(SIZES, 7).values())
    assert 0.6 * whole - one_more < layer_flops(both, SIZES, 7) <= 0.6 * whole + 0.5
    heads = Selection(drawn(heads=(3, 4)), SIZES, 7).kept(0.5)
    assert heads.groups.sum() == 6
    assert heads.units.all()


@pytest.mark.parametrize("shapes", [HEADS_AND_UNITS, DIMENSIONS])
def test_smaller_models_are_parts_of_larger_ones(shapes: dict[str, tuple[int, ...]]) -> None:
    selection = Selection(drawn(**shapes), SIZES, 7)
    larger = selection.kept(0.9)
    for share in (0.7, 0.5, 0.3):
        kept = selection.kept(share)
        for name in ("attention_inputs", "channels", "mlp_inputs", "units"):
            assert not (getattr(kept, name) & ~getattr(larger, name)).any()
        assert layer_flops(kept, SIZES, 7) < layer_flops(larger, SIZES, 7)
        larger = kept


def test_running_flops_are_those_of_what_is_left() -> None:
    selection = Selection(drawn(**DIMENSIONS), SIZES, 7)
    for n in (0, 1, 40, len(selection.removed)):
        assert selection.flops[n] == layer_flops(selection._after(n), SIZES, 7)


def test_the_lowest_scores_go_first_but_never_the_last_of_a_layer() -> None:
    scores = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    kept = Selection(PartScores(heads=scores), SIZES, 7).kept(7 / 12)
    assert kept.groups.tolist() == [[False, False, False, True], [False, False, True, True], [True] * 4]


def test_a_head_whose_last_channel_goes_is_gone() -> None:
    scores = torch.arange(48.0).view(3, 4, 4)
    kept = Selection(PartScores(channels=scores), SIZES, 7).kept(0.92)
    assert kept.groups[0].tolist() == [False, True, True, True]
    assert kept.groups[1:].all()


def test_uniform_models_have_equal_layers_with_the_best_of_each() -> None:
    scores = drawn(**HEADS_AND_UNITS)
    kept = Selection(scores, SIZES, 7).kept(0.5, uniform=True)
    assert kept.is_uniform
    assert kept.groups.sum(1).tolist() == [2, 2, 2]
    assert layer_flops(kept, SIZES, 7) <= 0.5 * layer_flops(Kept.all(SIZES), SIZES, 7)
    for layer in range(3):
        assert scores.units[layer][kept.units[layer]].min() > scores.units[layer][~kept.units[layer]].max()
        assert scores.heads[layer][kept.groups[layer]].min() > scores.heads[layer][~kept.groups[layer]].max()


@pytest.mark.parametrize("uniform", [False, True])
def test_a_share_below_one_head_per_layer_is_refused(uniform: bool) -> None:
    with pytest.raises(ValueError, match=r"keep 0.1 is too small: every layer keeps at least one .* share of 0.250"):
        Selection(drawn(heads=(3, 4)), SIZES, 7).kept(0.1, uniform=uniform)


@pytest.mark.parametrize("uniform", [False, True])
def test_the_smallest_share_that_an_error_names_can_be_given(uniform: bool) -> None:
    selection = Selection(drawn(**HEADS_AND_UNITS), SIZES, 7)
    with pytest.raises(ValueError, match="is too small") as error:
        selection.kept(0.01, uniform=uniform)
    least = float(str(error.value).partition("share of ")[2].partition(";")[0])
    kept = selection.kept(least, uniform=uniform)
    assert kept.groups.sum() == kept.units.sum() == 3  # one of each in all three layers


def test_what_no_configuration_can_say_is_refused_with_uniform() -> None:
    with pytest.raises(ValueError, match="which MLP inputs and attention inputs and channels stay|which .* stay"):
        Selection(drawn(**DIMENSIONS), SIZES, 7).kept(0.5, uniform=True)
    positions = torch.tensor([[True, False, True]] * 3)
    with pytest.raises(ValueError, match="which positions stay"):
        Selection(PartScores(heads=torch.rand(3, 4), positions=positions), SIZES, 3).kept(0.5, uniform=True)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="scores of units are not numbers"):
        PartScores(units=torch.full((3, 20), torch.nan))
