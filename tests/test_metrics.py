"""Every metric against the same thing said with Python loops, and at values that are known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.batch import Batch
from edge_pruning.pair import Pair

VOCABULARY = 11


def _pairs(n: int, seed: int) -> list[Pair]:
    """Pairs with one to three compared positions, answer sets of one to three tokens, and up to two wrong answers."""
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    pairs = []
    for _ in range(n):
        positions = tuple(range(number(1, 3)))
        drawn = [torch.randperm(VOCABULARY, generator=generator).tolist() for _ in positions]
        answers = tuple(tuple(tokens[: number(1, 3)]) for tokens in drawn)
        wrong = tuple(tuple(tokens[3 : 3 + number(0, 2)]) for tokens in drawn)
        pairs.append(Pair((1, 2, 3), (1, 5, 3), positions, answers, wrong))
    return pairs


PAIRS = _pairs(40, seed=0)
BATCH = Batch.of(PAIRS)


def _logits(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(len(BATCH.positions), VOCABULARY, generator=generator, dtype=torch.float64)).to(dtype)


def _per_pair(logits: Tensor) -> list[list[list[float]]]:
    """Logits as lists: pair, position, token."""
    rows = iter(logits.tolist())
    return [[next(rows) for _ in pair.positions] for pair in PAIRS]


def _softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def _margin(row: list[float], right: tuple[int, ...], wrong: tuple[int, ...], metric: str) -> float:
    if metric == "logit_difference":
        return sum(row[t] for t in right) / len(right) - sum(row[t] for t in wrong) / len(wrong)
    p = _softmax(row)
    return sum(p[t] for t in right) - sum(p[t] for t in wrong)


def _margins(pair: Pair, rows: list[list[float]], metric: str) -> list[float]:
    answers = zip(rows, pair.answers, pair.wrong, strict=True)
    return [_margin(row, right, wrong, metric) for row, right, wrong in answers if wrong]


def _same(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), equal_nan=True)


def test_kl_is_the_mean_over_positions_in_nats() -> None:
    model, circuit = _logits(1), _logits(2)
    expected = []
    for p_rows, q_rows in zip(_per_pair(model), _per_pair(circuit), strict=True):
        each = [(_softmax(p), _softmax(q)) for p, q in zip(p_rows, q_rows, strict=True)]
        expected.append(sum(a * math.log(a / b) for p, q in each for a, b in zip(p, q, strict=True)) / len(each))
    _same(metrics.kl_divergence(model, circuit, BATCH), expected)


@pytest.mark.parametrize("metric", list(metrics.DIFFERENCES))
def test_differences_are_means_over_the_positions_with_a_wrong_answer(metric: str) -> None:
    logits = _logits(3)
    margins = [_margins(pair, rows, metric) for pair, rows in zip(PAIRS, _per_pair(logits), strict=True)]
    expected = [sum(m) / len(m) if m else math.nan for m in margins]
    assert any(map(math.isnan, expected))
    _same(metrics.DIFFERENCES[metric](logits, BATCH), expected)


@pytest.mark.parametrize("metric", list(metrics.DIFFERENCES))
def test_a_pair_is_right_only_if_every_position_is(metric: str) -> None:
    logits, expected = _logits(4), []
    for pair, rows in zip(PAIRS, _per_pair(logits), strict=True):
        margins = _margins(pair, rows, metric)
        top = all(row.index(max(row)) in right for row, right in zip(rows, pair.answers, strict=True))
        expected.append(float(all(m > 0 for m in margins)) if margins else float(top))
    means = metrics.DIFFERENCES[metric](logits, BATCH)
    assert any(mean > 0 and not right for mean, right in zip(means.tolist(), expected, strict=True))
    _same(metrics.accuracy(logits, BATCH, metric), expected)


def test_without_a_wrong_answer_the_most_likely_token_decides() -> None:
    batch = Batch.of([Pair((1,), (2,), (0,), (answers,), ((),)) for answers in ((3,), (4, 3), (5,))])
    logits = torch.zeros(3, VOCABULARY)
    logits[:, 3] = 1
    assert metrics.accuracy(logits, batch, "logit_difference").tolist() == [1, 1, 0]
    for name in ("logit_difference", "probability_difference"):  # other tests may have added metrics of their own
        assert metrics.DIFFERENCES[name](logits, batch).isnan().all()


def test_exact_match_compares_the_most_likely_tokens_at_every_position() -> None:
    model, circuit = _logits(5), _logits(5)
    circuit[::4] = _logits(6)[::4]
    expected = []
    for p_rows, q_rows in zip(_per_pair(model), _per_pair(circuit), strict=True):
        same = [p.index(max(p)) == q.index(max(q)) for p, q in zip(p_rows, q_rows, strict=True)]
        expected.append(float(all(same)))
    assert 0 < sum(expected) < len(expected)
    _same(metrics.exact_match(model, circuit, BATCH), expected)


def test_known_values() -> None:
    batch = Batch.of([Pair((1,), (2,), (0,), ((0,),), ((1,),))])
    model, circuit = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert metrics.kl_divergence(model, circuit, batch).item() == pytest.approx(kl)
    assert metrics.kl_divergence(model, model, batch).item() == 0
    assert metrics.logit_difference(model, batch).item() == pytest.approx(math.log(3))
    assert metrics.probability_difference(model, batch).item() == pytest.approx(0.5)
    assert metrics.accuracy(model, batch, "logit_difference").item() == 1
    assert metrics.accuracy(circuit, batch, "logit_difference").item() == 0  # a tie is not right
    assert metrics.accuracy(-model, batch, "probability_difference").item() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_is_widened_and_double_is_kept(dtype: torch.dtype) -> None:
    model, circuit = _logits(7, dtype), _logits(8, dtype)
    found = metrics.kl_divergence(model, circuit, BATCH)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    in_float64 = metrics.kl_divergence(model.double(), circuit.double(), BATCH)
    torch.testing.assert_close(found.double(), in_float64, rtol=2e-6, atol=2e-6)


def test_metrics_of_a_pair_do_not_depend_on_its_batch() -> None:
    logits, row = _logits(9), 0
    together = metrics.logit_difference(logits, BATCH), metrics.kl_divergence(logits, _logits(10), BATCH)
    for i, pair in enumerate(PAIRS):
        rows, alone = slice(row, row + len(pair.positions)), Batch.of([pair])
        row += len(pair.positions)
        _same(metrics.logit_difference(logits[rows], alone), [float(together[0][i])])
        _same(metrics.kl_divergence(logits[rows], _logits(10)[rows], alone), [float(together[1][i])])


def test_numbers_match_where_they_are_close_and_have_no_accuracy() -> None:
    pairs = [Pair((1, 2), (1, 3), (0, 1), ((), ()), ((), ())), Pair((1, 2), (1, 3), (1,), ((),), ((),))]
    batch = Batch.of(pairs)
    model, circuit = torch.tensor([[0.5], [0.25], [1.0]]), torch.tensor([[0.505], [0.3], [1.0]])
    assert metrics.exact_match(model, circuit, batch).tolist() == [0.0, 1.0]
    assert metrics.accuracy(model, batch, "logit_difference").isnan().all()


@pytest.mark.parametrize("metric", metrics.DIFFERENCES)
def test_pairs_without_a_wrong_answer_leave_the_gradient_of_the_others_alone(metric: str) -> None:
    logits = _logits(1).requires_grad_()
    found = metrics.DIFFERENCES[metric](logits, BATCH)
    assert 0 < int(found.isnan().sum()) < len(PAIRS)
    (gradient,) = torch.autograd.grad(found.nan_to_num(0).sum(), logits)
    assert gradient.isfinite().all()
    assert gradient.any()
