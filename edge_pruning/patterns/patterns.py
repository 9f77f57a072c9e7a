"""Attention patterns of a circuit's heads, and their direct effects on the answer, for a few pairs.

For every head and pair there are three patterns: in the model, in the circuit (every other edge carries its ablated
value), and on the corrupted prompt. Weights are stored as one byte each, for positions up to the query. Where attention
looks in all directions (images), they are stored for all positions; of images with many patches only the first query is
kept, which is the class token.

The direct effect of a head is the decrease of the answer metric if only the head's edge to the logits is cut in the
model: positive means that the head writes towards the answer. Effects through other nodes are excluded.

Cost: a few passes for each pair, one pair at a time.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.ablation import Ablation
from edge_pruning.batch import Batch
from edge_pruning.circuit import Circuit
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models.parts import PartsAdapter
from edge_pruning.pair import ImagePair, Pair
from edge_pruning.patterns.watching import Watching
from edge_pruning.tasks.encoding import whole_answers
from edge_pruning.tasks.image_text import picture_of
from edge_pruning.tasks.task import PairSet

FORMAT = "edge-pruning/patterns"
FORMAT_VERSION = 1
RUNS = ("model", "circuit", "corrupted")
MOST_HEADS, MOST_PAIRS, MOST_TOKENS = 24, 4, 96
SPECIAL = ("class token", "distillation token")  # the positions before an image's patches


def find_patterns(
    circuit: Circuit, engine: MaskedPass, pairs: PairSet, ablation: Ablation, tokenizer: Any, *, heads: int = MOST_HEADS
) -> dict[str, Any] | None:
    """Find the patterns of the circuit's strongest heads, as plain JSON values.

    Returns None if there is nothing to show: no heads, no text, texts of more than 96 tokens, or a family without an
    adapter in parts.
    """
    chosen = strongest_heads(circuit, heads)
    shown = _telling(engine, pairs.pairs)
    if not chosen or not shown or tokenizer is None or not isinstance(engine.adapter, PartsAdapter):
        return None
    watching, weights, effects = Watching(engine), [], []
    for pair in shown:
        patterns, effect = _of_pair(watching, circuit, pair, pairs.metric, ablation, chosen)
        weights.append(patterns)
        effects.append(effect)
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "metric": pairs.metric,
        "definition": _definition(pairs.metric),
        "runs": list(RUNS),
        "pairs": [_words(engine, pair, tokenizer) for pair in shown],
        "heads": _effects(circuit.graph, chosen, effects),
        "weights": _packed(weights, [_queries(engine, pair) for pair in shown]),
    }


def strongest_heads(circuit: Circuit, most: int) -> list[tuple[int, int]]:
    """Return layer and index of the circuit's heads, those with the strongest edge first; in graph order without
    scores.
    """
    graph = circuit.graph
    scores = circuit.mask.float() if circuit.scores is None else circuit.scores.values
    kept = scores.masked_fill(~circuit.mask, -torch.inf)
    best = torch.maximum(kept.amax(1), _of_readers(graph, kept.amax(0)))
    heads = [(layer, head) for layer in range(graph.shape.layers) for head in range(graph.shape.heads)]
    strength = {(i, h): float(best[graph.head_writers(i).start + h]) for i, h in heads}
    return sorted((at for at in heads if strength[at] > -math.inf), key=lambda at: -strength[at])[:most]


def _of_readers(graph: Graph, best: Tensor) -> Tensor:
    """Return, for every writer, the best value of its own readers [w]; shared keys and values do not count for any
    head.
    """
    alone = graph.feeds & (graph.feeds.sum(1, keepdim=True) == 1)
    return best[:, None].where(alone, torch.tensor(-torch.inf)).amax(0)


def _telling(engine: MaskedPass, pairs: Sequence[Pair]) -> list[Pair]:
    """A few short pairs, of different templates where there are several."""
    short = [pair for pair in pairs if isinstance(pair, ImagePair) or engine.width(pair) <= MOST_TOKENS]
    first = {pair.template: pair for pair in reversed(short)}
    apart = sorted(first.values(), key=short.index)
    return [*apart, *(pair for pair in short if pair not in apart)][:MOST_PAIRS]


@torch.no_grad()
def _of_pair(
    watching: Watching, circuit: Circuit, pair: Pair, metric: str, ablation: Ablation, heads: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Return the weights [head, run, query, key] and direct effects [head] of a pair."""
    engine = watching.engine
    batch = engine.batch([pair])
    frozen = ablation.freeze(watching.original, batch)  # a fitted ablation belongs to that engine
    mask = circuit.mask.to(engine.adapter.device, torch.float32)
    runs = {
        "model": lambda: engine.unmasked_run(batch.clean),
        "circuit": lambda: engine.logits(mask, batch, frozen),
        "corrupted": lambda: engine.unmasked_run(batch.corrupted),
    }
    patterns = []
    for name in RUNS:
        with watching.weights() as weights:
            runs[name]()
        shown = _shown_positions(engine, pair)
        patterns.append(torch.stack([weights[layer][head, 0, :shown, :shown] for layer, head in heads]))
    differences = engine.differences(engine.graph.edge_mask.to(mask), batch, frozen)[:, batch.positions]  # [w, n, d]
    final = frozen.final_base(batch.positions) + differences.sum(0)
    whole = _answer(engine, final, batch, metric)
    writers = [engine.graph.head_writers(layer).start + head for layer, head in heads]
    effects = [whole - _answer(engine, final - differences[w], batch, metric) for w in writers]
    return torch.stack(patterns, 1), torch.tensor(effects)


def _shown_positions(engine: MaskedPass, pair: Pair) -> int:
    """How many positions of a pair's first sequence are shown: of a tree of answers, only the prompt."""
    return len(pair.clean) if pair.prefixes else engine.width(pair)


def _answer(engine: MaskedPass, final: Tensor, batch: Batch, metric: str) -> float:
    return float(metrics.DIFFERENCES[metric](engine.unembed(final), batch))


def _effects(graph: Graph, heads: Sequence[tuple[int, int]], effects: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Return one entry per head, sorted by the size of its mean effect; effects are null for pairs without a wrong
    answer.
    """
    rows = []
    for i, (layer, head) in enumerate(heads):
        by_pair = [float(effect[i]) for effect in effects]
        known = [value for value in by_pair if math.isfinite(value)]
        rows.append({
            "node": graph.writers[graph.head_writers(layer).start + head],
            "effect": sum(known) / len(known) if known else None,
            "effect_by_pair": [value if math.isfinite(value) else None for value in by_pair],
        })
    return rows


def _words(engine: MaskedPass, pair: Pair, tokenizer: Any) -> dict[str, Any]:
    """A pair as tokens, up to the last compared position, or as patches."""
    width = _shown_positions(engine, pair)
    names = {
        "position": pair.positions[0],
        "answer": [tokenizer.decode(list(ids)) for ids in whole_answers(pair, pair.answers)],
        "wrong": [tokenizer.decode(list(ids)) for ids in whole_answers(pair, pair.wrong)],
    }
    if isinstance(pair, ImagePair):
        return {**_patches(engine, pair, width), **names}
    return {
        "clean": [tokenizer.decode([token]) for token in pair.clean[:width]],
        "corrupted": [tokenizer.decode([token]) for token in pair.corrupted[:width]],
        **names,
    }


def _patches(engine: MaskedPass, pair: ImagePair, width: int) -> dict[str, Any]:
    """A pair of images as the names of its positions, with both pictures."""
    rows, columns = engine.adapter.patches
    patches = [f"row {row}, column {column}" for row in range(1, rows + 1) for column in range(1, columns + 1)]
    positions = [*SPECIAL[: width - len(patches)], *patches]
    images = {
        "pictures": [picture_of(pair.clean), picture_of(pair.corrupted)], "grid": [rows, columns],
        "queries": _queries(engine, pair),
    }
    return {"clean": positions, "corrupted": positions, "images": images}


def _queries(engine: MaskedPass, pair: Pair) -> int | None:
    """How many queries are stored, from the first on, with all keys; None: every query with the keys up to it."""
    if not isinstance(pair, ImagePair):
        return None
    width = engine.width(pair)
    return width if width <= MOST_TOKENS else 1


def _packed(weights: Sequence[Tensor], queries: Sequence[int | None]) -> str:
    """Head after head, run after run, pair after pair, row after row: bytes, compressed, as base64."""
    heads, runs = weights[0].shape[:2]
    rows = [
        (_stored(of_pair[head, run], most) * 255).round().clamp(0, 255).to(torch.uint8)
        for head in range(heads) for run in range(runs) for of_pair, most in zip(weights, queries, strict=True)
    ]
    return base64.b64encode(zlib.compress(torch.cat(rows).numpy().tobytes(), 9)).decode()


def _stored(pattern: Tensor, queries: int | None) -> Tensor:
    """The weights of a pattern [query, key] that are kept, row after row."""
    return pattern[*torch.tril_indices(*pattern.shape)] if queries is None else pattern[:queries].flatten()


def _definition(metric: str) -> str:
    return (
        f"The direct effect of a head is the decrease of the model's {metric.replace('_', ' ')} if only the head's "
        "edge to the logits is cut. If it is positive, the head writes towards the answer. Mean over the pairs shown "
        "here."
    )
