"""Check at load time that the masked pass runs a model exactly: three laws on a short random batch.

1. All ones: the masked pass gives the model's own logits.
2. All zeros: it gives the model's logits on the corrupted input.
3. Zeros inside, ones at `logits`: every head and MLP has its output on the corrupted input. (The first two laws alone
   do not test the inner reads.)
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass

LAWS = (
    "all edges kept: the model's own logits",
    "all edges ablated: the model's logits on the corrupted input",
    "inner edges ablated: every writer's corrupted output",
)
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


@torch.no_grad()
def law_errors(engine: MaskedPass, *, seed: int = 0) -> list[float]:
    """Return the error of each of `LAWS`, relative to the largest expected value."""
    adapter, graph = engine.adapter, engine.graph
    batch = engine.batch(adapter.sample(seed))
    frozen = Patch().freeze(engine, batch)
    own = (adapter.own_logits(inputs).to(engine.home) for inputs in _both(batch))
    clean, corrupted = (logits.flatten(0, 1)[batch.positions] for logits in own)
    edges = graph.edge_mask.to(adapter.device, torch.float32)
    only_final = torch.zeros_like(edges)
    only_final[:, -1] = 1
    stream = engine.run(only_final, batch, frozen)
    inner = stream.slots(graph.n_embeddings, len(graph.writers) - graph.n_embeddings)
    return [
        _relative(engine.logits(edges, batch, frozen) - clean, clean),
        _relative(engine.logits(torch.zeros_like(edges), batch, frozen) - corrupted, corrupted),
        _relative(inner, torch.stack(list(frozen.bases(parallel=graph.shape.parallel)))),
    ]


def self_check(engine: MaskedPass) -> list[float]:
    """Return the three errors. Raises ValueError with the violated laws and their errors."""
    errors = law_errors(engine)
    engine.release()  # a loaded model needs only the memory of its weights
    tolerance = TOLERANCE[engine.dtype]
    broken = [f"{law}: off by {e:.1e}" for law, e in zip(LAWS, errors, strict=True) if not e <= tolerance]
    if broken:
        raise ValueError(
            f"this {engine.adapter.model_type} model is not run exactly (relative error, at most {tolerance:g} allowed)"
            f": {'; '.join(broken)}; {_where(engine, tolerance)}. Its circuits would be wrong, so it is refused."
        )
    return errors


@torch.no_grad()
def _where(engine: MaskedPass, tolerance: float) -> str:
    """Locate the first layer in which the adapter's own methods differ from the model's residual stream."""
    adapter, graph = engine.adapter, engine.graph
    reference, batch = MaskedPass(adapter, graph), engine.batch(adapter.sample(0))
    try:
        expected = adapter.own_stream(batch.clean)
    except Exception as error:  # a diagnostic must not raise another error
        return f"the model's own residual stream cannot be read ({type(error).__name__})"
    if len(expected) != graph.shape.layers:
        return f"the model's own residual stream has {len(expected)} layers, expected {graph.shape.layers}"
    bases = reference.freeze(batch, reference.unmasked_run(batch.clean)).bases(parallel=graph.shape.parallel)
    for layer, (stream, own) in enumerate(zip(islice(bases, 0, None, 2), expected, strict=False)):
        off = _relative(stream - own.to(stream.device), own)
        if not off <= tolerance:
            what = f"layer {layer - 1}" if layer else "the embeddings"
            return f"its residual stream is wrong after {what} (relative error {off:.1e})"
    if max(law_errors(reference)) <= tolerance:
        return "the adapter's `attend` and `feed_forward` are exact, so the error is in its parts for the fast path"
    last = graph.shape.layers - 1
    return f"its residual stream is exact before layer {last}; the error is in that layer, the final norm or the logits"


def _both(batch: Batch) -> tuple[Tensor, Tensor]:
    return batch.clean, batch.corrupted


def _relative(error: Tensor, expected: Tensor) -> float:
    return float(error.float().abs().max()) / float(expected.float().abs().max())
