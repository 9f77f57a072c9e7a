"""Objectives: lower is closer to the model, and each says when it has nothing to say."""

from __future__ import annotations

import pytest
import torch

from edge_pruning import metrics
from edge_pruning.batch import Batch
from edge_pruning.objectives import OBJECTIVES, get_objective
from edge_pruning.pair import Pair

PAIRS = [Pair((1, 2), (1, 3), (1,), ((0, 4),), ((2,),)), Pair((5, 2, 3), (5, 1, 3), (1, 2), ((1,), (3,)), ((), (0,)))]
WITHOUT_WRONG = [Pair((1, 2), (1, 3), (1,), ((0,),), ((),))]
LOGITS = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_there_is_one_number_per_example(name: str) -> None:
    batch, (model, circuit) = Batch.of(PAIRS), LOGITS
    found = get_objective(name)(model, circuit, batch)
    assert found.shape == (2,)
    alone = [get_objective(name)(model[rows], circuit[rows], Batch.of([pair]))
             for pair, rows in zip(PAIRS, ([0], [1, 2]), strict=True)]
    torch.testing.assert_close(found, torch.cat(alone))


@pytest.mark.parametrize("name", ["kl", "squared_error"])
def test_the_model_itself_is_at_zero_and_everything_else_above(name: str) -> None:
    batch, (model, circuit) = Batch.of(PAIRS), LOGITS
    assert get_objective(name)(model, model, batch).abs().max() < 1e-12
    assert (get_objective(name)(model, circuit, batch) > 0).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_those_that_compare_look_at_the_model(name: str) -> None:
    batch, (model, circuit) = Batch.of(PAIRS), LOGITS
    changes = not get_objective(name)(model, circuit, batch).equal(get_objective(name)(2 * model, circuit, batch))
    assert changes == get_objective(name).compares


@pytest.mark.parametrize("name", ["answer_loss", "logit_difference", "probability_difference"])
def test_more_logit_on_the_answers_is_lower(name: str) -> None:
    batch, (model, circuit) = Batch.of(PAIRS), LOGITS
    better = circuit.clone()
    for row, tokens in enumerate(batch.answers):
        better[row, tokens[tokens >= 0]] += 1
    assert (get_objective(name)(model, better, batch) < get_objective(name)(model, circuit, batch)).all()


def test_the_answer_loss_sums_over_the_answers_and_averages_over_positions() -> None:
    p = LOGITS[1].softmax(-1)
    expected = [-(p[0, 0] + p[0, 4]).log(), -(p[1, 1].log() + p[2, 3].log()) / 2]
    torch.testing.assert_close(metrics.surprise(LOGITS[1], Batch.of(PAIRS)), torch.stack(expected))


def test_the_squared_error_is_the_mean_over_outputs_and_positions() -> None:
    model, circuit = LOGITS
    expected = [((model[0] - circuit[0]) ** 2).mean(), ((model[1:] - circuit[1:]) ** 2).mean()]
    torch.testing.assert_close(metrics.squared_error(model, circuit, Batch.of(PAIRS)), torch.stack(expected))


@pytest.mark.parametrize("name", ["logit_difference", "probability_difference"])
def test_differences_need_a_wrong_answer_somewhere(name: str) -> None:
    get_objective(name).check([*PAIRS, *WITHOUT_WRONG])
    with pytest.raises(ValueError, match=f"{name} needs wrong answers, but none of the 1 pairs .* use kl, squared_err"):
        get_objective(name).check(WITHOUT_WRONG)
    both = Batch.of([PAIRS[0], *WITHOUT_WRONG])
    assert get_objective(name)(LOGITS[0][:2], LOGITS[1][:2], both)[1] == 0


def test_unknown_objectives_list_the_nearest() -> None:
    with pytest.raises(ValueError, match="no objective 'kl_divergence'; nearest: kl, "):
        get_objective("kl_divergence")
