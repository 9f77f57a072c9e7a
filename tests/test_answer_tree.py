"""Answers of several tokens that differ before their last one, against each answer run by itself, token by token."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.ablation import Ablation, get_ablation
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.answer_tree import AnswerTree
from edge_pruning.batch import Batch
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.discovery.magnitude import Magnitude
from edge_pruning.discovery.search import Search
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.metrics import DIFFERENCES
from edge_pruning.objectives import OBJECTIVES, get_objective
from edge_pruning.pair import Pair
from edge_pruning.tasks import PairSet
from edge_pruning.tasks.encoding import pair_of_ids
from edge_pruning.tasks.packed import PackedPairs
from tests.random_models import VOCABULARY, config_of, pair, random_mask, random_model

Ids = tuple[int, ...]
RIGHT: list[list[Ids]] = [[(3, 4), (3, 5), (6, 4)], [(1,), (2, 7, 8), (2, 7, 9), (2, 5)], [(9, 9), (8,)]]
WRONG: list[list[Ids]] = [[(3, 6), (7,)], [(4, 4), (2, 7, 1), (2, 6)], []]


def branching(seed: int, length: int, right: list[Ids], wrong: list[Ids]) -> Pair:
    prompts = pair(seed, length, (length - 1,))
    return pair_of_ids(prompts.clean, prompts.corrupted, *({ids: str(ids) for ids in of} for of in (right, wrong)))


TREES = [branching(i, 3 + i, *answers) for i, answers in enumerate(zip(RIGHT, WRONG, strict=True))]
PLAIN = [pair_of_ids(*pair(9, 5, (4,)).sequences[0], {(1, 2): "", (1, 3): ""}, {(4,): ""})]


@cache
def engine(kind: str = "llama") -> MaskedPass:
    return FusedPass(random_model(config_of(kind)))


def fitted(name: str) -> Ablation:
    return get_ablation(name).fitted(engine(), [*TREES, *(pair(20 + i, 3 + i % 4, (1 + i % 4,)) for i in range(40))])


# --- the oracle ------------------------------------------------------------------------------------------------------


def next_token(tree: Pair, before: Ids, ablation: Ablation, mask: Tensor | None) -> Tensor:
    """Log probabilities after a prompt and some tokens, from a run on them alone; of the model where mask is None."""
    behind = before
    if ablation.name == "mean":  # a mean is over prompts of one length, here that of the branch
        behind = next(branch for branch in tree.branches if branch[: len(before)] == before)
    position = len(tree.clean) - 1 + len(before)
    batch = Batch.of([Pair(tree.clean + behind, tree.corrupted + behind, (position,), ((),), ((),))],
                     widths=[len(tree.clean) + len(behind)])  # fmt: skip
    if mask is None:
        return engine().own_logits(batch)[0].log_softmax(-1)
    if ablation.name == "resample":  # the partner is that of the prompt
        prompt = Batch.of([Pair(tree.clean, tree.corrupted, (len(tree.clean) - 1,), ((),), ((),))])
        batch = replace(batch, corrupted=torch.tensor([donor(prompt, ablation) + before]))
        ablation = get_ablation("patch")
    return engine().logits(mask, batch, ablation.freeze(engine(), batch))[0].log_softmax(-1)


def donor(prompt: Batch, ablation: Ablation) -> Ids:
    return ablation._donor(tuple(prompt.clean[0].tolist()))  # type: ignore[attr-defined]


class Literal:
    """One run, on one pair, of everything that its answers need."""

    def __init__(self, number: int, log_p: dict[Ids, Tensor]) -> None:
        self.right, self.wrong, self.log_p = RIGHT[number], WRONG[number], log_p

    @classmethod
    def run(cls, number: int, ablation: Ablation, mask: Tensor | None) -> Literal:
        inner = {ids[:end] for ids in RIGHT[number] + WRONG[number] for end in range(len(ids))}
        return cls(number, {before: next_token(TREES[number], before, ablation, mask) for before in sorted(inner)})

    def log_probability(self, answer: Ids) -> Tensor:
        return torch.stack([self.log_p[answer[:i]][token] for i, token in enumerate(answer)]).sum()

    def total(self, answers: list[Ids]) -> Tensor:
        return sum((self.log_probability(ids).exp() for ids in answers), torch.zeros((), dtype=torch.float64))

    def mean(self, answers: list[Ids]) -> Tensor:
        return torch.stack([self.log_probability(ids) for ids in answers]).mean()

    @property
    def exits(self) -> dict[Ids, Tensor]:
        """The log probability of every place where a continuation leaves the tree."""
        return {
            (*before, token): self.log_probability((*before, token))
            for before in self.log_p for token in range(VOCABULARY) if (*before, token) not in self.log_p
        }

    @property
    def greedy(self) -> Ids:
        ids: Ids = ()
        while ids in self.log_p:
            ids = (*ids, int(self.log_p[ids].argmax()))
        return ids


def literal(name: str, model: Literal, circuit: Literal) -> Tensor:
    """The value of an objective on one pair."""
    if name == "kl":
        return sum((p.exp() * (p - circuit.exits[at]) for at, p in model.exits.items()), torch.zeros(()))
    if name == "answer_loss":
        return -circuit.total(circuit.right).log()
    if not circuit.wrong:
        return torch.zeros((), dtype=torch.float64)
    value = {
        "probability_difference": lambda: circuit.total(circuit.right) - circuit.total(circuit.wrong),
        "logit_difference": lambda: circuit.mean(circuit.right) - circuit.mean(circuit.wrong),
    }[name]
    return -value()


# --- the metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if not objective.of_numbers])
def test_every_objective_and_its_gradient_are_those_of_all_answers_one_by_one(name: str) -> None:
    ablation, leaf = get_ablation("patch"), random_mask(engine().graph).requires_grad_()
    found, gradient = mask_gradient(
        engine(), FrozenCache(engine(), TREES, ablation), range(len(TREES)), leaf, get_objective(name)
    )
    runs = [[Literal.run(i, ablation, mask) for mask in (None, leaf.float())] for i in range(len(TREES))]
    expected = torch.stack([literal(name, model, circuit) for model, circuit in runs]).mean()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(expected, leaf)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
@torch.no_grad()
def test_removed_edges_carry_what_they_carry_for_each_continuation_by_itself(ablation: str) -> None:
    chosen, mask = fitted(ablation), random_mask(engine().graph).float()
    batch = engine().batch(TREES)
    logits = engine().logits(mask, batch, chosen.freeze(engine(), batch))
    runs = [Literal.run(i, chosen, mask) for i in range(len(TREES))]
    expected = torch.stack([-run.total(run.right).log() for run in runs])
    torch.testing.assert_close(metrics.surprise(logits, batch), expected)


@torch.no_grad()
def test_accuracy_and_exact_match_follow_the_greedy_continuation() -> None:
    batch, seen = Batch.of(TREES), set()
    own = torch.randn(len(batch.positions), VOCABULARY, generator=torch.Generator().manual_seed(0))
    for seed in range(8):
        circuit, start = own + torch.randn(own.shape, generator=torch.Generator().manual_seed(seed)) * seed / 2, 0
        if seed % 2:  # some answers are likely
            circuit[:, [4, 9]] += 9
        right, same = metrics.accuracy(circuit, batch, "logit_difference"), metrics.exact_match(own, circuit, batch)
        difference = metrics.logit_difference(circuit, batch)
        assert difference.isnan().tolist() == [not wrong for wrong in WRONG]
        for i, tree in enumerate(TREES):
            rows = slice(start, start := start + len(tree.positions))
            model, run = (
                Literal(i, dict(zip(tree.prefixes, logits[rows].log_softmax(-1), strict=True)))
                for logits in (own, circuit)
            )
            expected = run.greedy in RIGHT[i] if not WRONG[i] else run.mean(RIGHT[i]) > run.mean(WRONG[i])
            assert (right[i], same[i]) == (float(expected), float(run.greedy == model.greedy))
            seen |= {(i, "right", bool(right[i])), ("same", bool(same[i]))}
    assert len(seen) == 8  # both outcomes of everything


def test_a_tree_of_one_node_is_an_ordinary_pair() -> None:
    plain = pair_of_ids((1, 2, 3), (1, 5, 3), {(4,): "", (5,): ""}, {(6,): ""})
    root = replace(plain, prefixes=((),))
    model, circuit = torch.randn(2, 1, VOCABULARY, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name, objective in OBJECTIVES.items():
        values = [objective(model, circuit, Batch.of([one])) for one in (plain, root)]
        torch.testing.assert_close(*values, msg=name)
    for function in (*DIFFERENCES.values(), lambda x, b: metrics.accuracy(x, b, "logit_difference")):
        torch.testing.assert_close(function(circuit, Batch.of([plain])), function(circuit, Batch.of([root])))


# --- batches ---------------------------------------------------------------------------------------------------------


def test_kept_values_are_those_that_would_be_computed_and_kinds_are_never_mixed() -> None:
    pairs = [TREES[0], PLAIN[0], TREES[1], TREES[2], PLAIN[0]]
    masked, mask = engine(), random_mask(engine().graph).float()
    assert masked.tiles(pairs) == [[1, 4], [0, 2, 3]]
    tokens = [sum(masked.tokens(pairs[i]) for i in ids) for ids in masked.tiles(pairs, 20)]
    assert max(tokens) <= 20
    assert [masked.tokens(one) for one in pairs] == [8, 6, 12, 6, 6]
    for name in ("patch", "resample"):
        ablation = fitted(name)
        whole = FrozenCache(masked, pairs, ablation, 1 << 30)
        half = FrozenCache(masked, pairs, ablation, whole.bytes // 2)
        assert whole.kept == 5
        assert 1 <= half.kept < 4
        for ids in ([2], [3, 0], [0, 2, 3], [4, 1]):
            batch = masked.batch([pairs[i] for i in ids])
            expected = masked.logits(mask, batch, ablation.freeze(masked, batch))
            for kept in (whole, half):
                torch.testing.assert_close(masked.logits(mask, *kept.batch(ids)), expected)
    with pytest.raises(ValueError, match=r"pairs of one kind in a batch; 3 of 5 have a tree of answers"):
        masked.batch(pairs)


def test_pairs_weigh_alike_however_many_branches_they_have() -> None:
    def scores(pairs: list[Pair]) -> Tensor:
        data = PairSet("x", "train", "logit_difference", pairs, ())
        return Magnitude().find(Search(engine(), data, get_ablation("patch"))).values

    (tree, *_), others = TREES, [scores([other]) for other in TREES]
    torch.testing.assert_close(scores(TREES), torch.stack(others).mean(0))
    apart = [scores([Pair(*both, (len(both[0]) - 1,), ((),), ((),))]) for both in tree.sequences]
    torch.testing.assert_close(others[0][:, :-1], torch.stack(apart).mean(0)[:, :-1])  # all but the logits


def test_packed_pairs_keep_their_trees() -> None:
    assert list(PackedPairs([*TREES, *PLAIN])) == [*TREES, *PLAIN]
    assert [len(tree.branches) for tree in TREES] == [2, 2, 1]
    assert PLAIN[0].branches == ((),)
    assert not PLAIN[0].prefixes
    hashes = {PairSet("x", "train", "m", [replace(TREES[0], prefixes=prefixes)], ()).hash for prefixes in [
        TREES[0].prefixes, ((), (3,), (7,)),
    ]}  # fmt: skip
    assert len(hashes) == 2


def test_answers_become_a_tree() -> None:
    tree = AnswerTree.of(dict.fromkeys(RIGHT[1], ""), dict.fromkeys(WRONG[1], ""))
    assert tree.prefixes == ((), (2,), (2, 7), (4,))
    assert tree.answers == ((1,), (5,), (8, 9), ())
    assert tree.wrong == ((), (6,), (1,), (4,))
    assert TREES[1].positions == (3, 4, 5, 4)
    assert TREES[1].sequence_of_each == (0, 0, 0, 1)


def test_an_answer_that_begins_with_another_adds_nothing() -> None:
    short = branching(0, 3, [(1,), (2, 3)], [])
    assert branching(0, 3, [(1,), (2, 3), (1, 5), (2, 3, 4)], []) == short
    assert not branching(0, 3, [(1,), (1, 5)], []).prefixes


@pytest.mark.parametrize("wrong", [(2,), (1, 4), (2, 3, 4)])
def test_a_right_and_a_wrong_answer_that_never_differ_are_refused(wrong: Ids) -> None:
    with pytest.raises(ValueError, match=r"the wrong answer '\(.*\)' and the answer '.*' begin with the same tokens"):
        branching(0, 3, [(1,), (2, 3), (5, 5)], [wrong])


@pytest.mark.parametrize(
    ("prefixes", "positions"),
    [(((), (3,), (3,)), (2, 3, 3)), (((3,), (), (6,)), (3, 2, 3)), (((), (3,), (6, 1)), (2, 3, 4)),
     (((), (3,), (6,)), (2, 3, 4))],
)  # fmt: skip
def test_prefixes_that_are_no_tree_are_refused(prefixes: tuple[Ids, ...], positions: Ids) -> None:
    with pytest.raises(ValueError, match=r"expected the root \(\) first, every node once with its parent"):
        replace(TREES[0], prefixes=prefixes, positions=positions)


def test_what_compares_numbers_is_refused_and_the_gradient_without_an_answer_is_finite() -> None:
    with pytest.raises(ValueError, match=r"squared_error .* no value .* those of 3 of 4 pairs do; use kl"):
        get_objective("squared_error").check([*TREES, *PLAIN])
    batch = Batch.of(TREES)
    logits = torch.zeros(len(batch.positions), VOCABULARY, dtype=torch.float64, requires_grad=True)
    metrics.surprise(logits, batch).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    expected = [sum((1 / VOCABULARY) ** len(ids) for ids in right) for right in RIGHT]
    assert metrics.surprise(logits, batch).tolist() == pytest.approx([-math.log(p) for p in expected])
