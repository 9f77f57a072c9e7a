"""Edge Pruning's formula, word for word: the slow oracle that the masked pass is tested and timed against.

Every read is a weighted sum over the full stack of clean and corrupted writes,

    x_j = sum_i z_ij y_i + (1 - z_ij) c_i   (+ the output biases before j)

built by autograd from the methods of an adapter, with nothing shared, folded, cached or skipped. `one_by_one` sums
read by read; `together` says the same as one product for all reads of a sublayer (the benchmark times both).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.graph import Graph
from edge_pruning.models.adapter import Adapter

Sum = Callable[[Tensor, Tensor, Tensor], Tensor]


def one_by_one(z: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """Reads [r, b, p, d] from masks [w, r] and the stacks of clean and corrupted writes [w, b, p, d]."""
    return torch.stack([_weighted_sum(column, y) + _weighted_sum(1 - column, c) for column in z.unbind(1)])


def _weighted_sum(weights: Tensor, stack: Tensor) -> Tensor:
    return torch.einsum("w,wbpd->bpd", weights, stack)


def together(z: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """The same reads as two products."""
    return torch.einsum("wr,wbpd->rbpd", z, y) + torch.einsum("wr,wbpd->rbpd", 1 - z, c)


def literal_logits(
    adapter: Adapter, graph: Graph, mask: Tensor, clean: Tensor, corrupted: Tensor, sum_up: Sum = one_by_one
) -> Tensor:
    """Logits of the masked run at every position, [b, p, vocab]."""
    ones = torch.ones_like(mask)
    ablated = literal_run(adapter, graph, ones, corrupted, None, together)[1]
    return literal_run(adapter, graph, mask, clean, ablated, sum_up)[0]


def literal_batch_logits(
    adapter: Adapter, graph: Graph, mask: Tensor, batch: Batch, sum_up: Sum = one_by_one
) -> Tensor:
    """Logits at the compared positions of a batch [n, vocab]."""
    return literal_logits(adapter, graph, mask, batch.clean, batch.corrupted, sum_up).flatten(0, 1)[batch.positions]


def literal_run(
    adapter: Adapter, graph: Graph, mask: Tensor, tokens: Tensor, ablated: list[Tensor] | None, sum_up: Sum = one_by_one
) -> tuple[Tensor, list[Tensor]]:
    """Logits and the list of all writes; without `ablated` writes mix with zeros, which is the plain model at ones."""
    writes = list(adapter.embed(tokens, split=graph.embeddings == "split"))
    bias = torch.zeros(adapter.d_model, dtype=writes[0].dtype, device=tokens.device)
    context = adapter.context(tokens.shape[1])

    def read(readers: slice, count: int, bias: Tensor) -> Tensor:
        y = torch.stack(writes[:count])
        c = torch.stack(ablated[:count]) if ablated else torch.zeros_like(y)
        z = mask[:count, readers].to(y.dtype)
        return sum_up(z, y, c) + bias

    for layer in range(graph.shape.layers):
        x = read(graph.attention_readers(layer), graph.writers_before_attention(layer), bias)
        reads = x.split([graph.shape.heads, graph.kv_readers, graph.kv_readers])
        writes += list(adapter.attend(layer, *reads, context))
        out_bias, before = adapter.out_bias(layer), bias
        bias = bias if out_bias is None else bias + out_bias
        seen = before if graph.shape.parallel else bias
        x = read(graph.mlp_reader(layer), graph.writers_before_mlp(layer), seen)
        writes += list(adapter.feed_forward(layer, x))
    final = read(slice(len(graph.readers) - 1, None), len(graph.writers), bias)[0]
    return adapter.unembed(final), writes
