"""Where a pair has no answer, the model's own prediction is the target, and accuracy means agreement with it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.pair import Pair
from edge_pruning.tasks.task import PairSet


def with_predictions(pairs: PairSet, engine: MaskedPass) -> PairSet:
    """The pairs with an answer each: their own, or the model's most likely token. Costs a run on those without.

    Pairs stay as they are where the model's outputs are numbers, which have no most likely token.
    """
    without = [i for i, pair in enumerate(pairs.pairs) if not any(pair.answers)]
    if not without or pairs.objective == "squared_error" or engine.adapter.vocabulary == 1:
        return pairs
    chosen, answered = [pairs.pairs[i] for i in without], list(pairs.pairs)

    def predictions(ids: list[int]) -> Tensor:
        return engine.own_logits(engine.batch([chosen[i] for i in ids])).argmax(-1).cpu()

    for ids, tokens in over_tiles(engine, chosen, predictions):
        rest = tokens.tolist()
        for i in ids:
            answered[without[i]] = _answered(chosen[i], rest[: len(chosen[i].positions)])
            rest = rest[len(chosen[i].positions) :]
    return replace(pairs, pairs=tuple(answered), predicted=len(without))


def _answered(pair: Pair, tokens: list[int]) -> Pair:
    """With the predicted tokens; a wrong answer that the model predicts is no wrong answer."""
    wrong = tuple(tuple(w for w in of if w != token) for of, token in zip(pair.wrong, tokens, strict=True))
    return replace(pair, answers=tuple((token,) for token in tokens), wrong=wrong)
