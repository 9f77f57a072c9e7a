"""The cost of a pass over a model, from shapes alone: memory and operations per token.

With W writers, R readers, E edges, L layers, width d, and per layer a numbers in queries, keys and values and f in the
MLP's hidden units, a training step holds per token

    d (2 W + R)       differences, their gradients, and all reads (R, unless reads are recomputed)
    2 L (a + f)       queries, keys, values and hidden units, and their gradients
    2 r d             reads of the current layer, and their gradients; r: the readers of a layer

and needs, besides the model's own 2 P operations forward and 2 P backward for P weights (without embeddings), 6 E d for
the masks: one product in the forward pass, two in the backward pass. At masks that all are 1, reads are running sums
(`masked_pass/whole_stream.py`), and one product is left. Logits count at compared positions only.

Weights that are shared out over N ranks (`models/shards.py`) take P / N and what is gathered: FSDP2 receives a group
(a block, or both ends) in a buffer and copies it into its parameters, while the buffer of the next group fills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models.parts import PartsAdapter
from edge_pruning.models.shards import blocks_of

LOGIT_COPIES = 6  # float32 copies of a compared position's logits: the model's, the circuit's, softmaxes, gradients
WEIGHTS_SHARE = 1.05  # memory of an engine at rest, at most, if folded maps are not kept


@dataclass(frozen=True)
class Costs:
    """Numbers (not bytes) and operations. `itemsize`: bytes per number in the model's dtype."""

    weights: int
    weights_used: int  # without the embeddings, which are only indexed
    folded: int
    layers: int
    ends: int  # weights outside the blocks
    edges: int
    width: int
    held: int  # per token, if reads are recomputed
    reads: int  # per token, if they are kept
    frozen: int  # per token
    writes: int  # per token
    vocabulary: int
    itemsize: int

    @classmethod
    def of(cls, engine: MaskedPass) -> Costs:
        """Compute the costs of an engine from shapes; its weights may be on the device `meta`."""
        graph, adapter = engine.graph, engine.adapter
        d, layers, writers = adapter.d_model, graph.shape.layers, len(graph.writers)
        attention, hidden, folded = _widths(adapter)
        return cls(
            weights=adapter.hf.num_parameters(),
            weights_used=_used(adapter.hf),
            folded=folded,
            layers=layers,
            ends=_ends(adapter.hf, layers),
            edges=graph.n_edges,
            width=d,
            held=d * (2 * writers + 2 * engine.layout.most_readers) + 2 * (attention + hidden),
            reads=d * len(graph.readers),
            frozen=d * (2 * layers + 1 + graph.n_embeddings) + layers * graph.shape.heads * engine.head_size,
            writes=d * writers,
            vocabulary=adapter.vocabulary,
            itemsize=adapter.dtype.itemsize,
        )

    # --- bytes -----------------------------------------------------------------------------------------------------

    def at_rest(self, *, keep_maps: bool) -> int:
        """Return the memory of a loaded engine in bytes. keep_maps: whether folded maps are kept."""
        kept = self.weights + self.folded if keep_maps else round(self.weights * WEIGHTS_SHARE)
        return kept * self.itemsize

    def at_rest_shared(self, ranks: int) -> int:
        """Return the memory in bytes of an engine whose weights are shared out over so many ranks."""
        block = math.ceil((self.weights - self.ends) / self.layers)
        gathered = max(3 * block, 2 * self.ends + block) + self.folded // self.layers
        return (math.ceil(self.weights / ranks) + gathered) * self.itemsize

    def received(self, ranks: int) -> int:
        """Return the bytes that a rank receives from the others in a training step on one micro-batch: the weights,
        forward and backward.
        """
        return 2 * self.weights * self.itemsize * (ranks - 1) // ranks

    def step(self, tokens: int, positions: int, *, keep_reads: bool) -> int:
        """Return the memory in bytes of a training step on `tokens` tokens with `positions` compared positions."""
        per_token = self.held + (self.reads if keep_reads else 0)
        return tokens * per_token * self.itemsize + positions * self.vocabulary * 4 * LOGIT_COPIES

    def forward_pass(self, tokens: int, positions: int) -> int:
        """Return the memory in bytes of a masked forward pass without gradients, as `step` does for a step."""
        return tokens * self.writes * self.itemsize + positions * self.vocabulary * 4 * LOGIT_COPIES

    def cache(self, tokens: int) -> int:
        """Return the memory in bytes of the frozen values of `tokens` tokens."""
        return tokens * self.frozen * self.itemsize

    # --- floating-point operations per token -----------------------------------------------------------------------

    @property
    def unmasked(self) -> int:
        """Operations of a forward pass of the model."""
        return 2 * self.weights_used

    @property
    def forward(self) -> int:
        """Operations of a masked forward pass."""
        return self.unmasked + 2 * self.edges * self.width

    def train(self, *, keep_reads: bool) -> int:
        """Operations of a masked forward and backward pass."""
        return 2 * self.unmasked + (6 if keep_reads else 8) * self.edges * self.width

    @property
    def whole(self) -> int:
        """Operations of a forward and backward pass at masks that all are 1."""
        return 2 * self.unmasked + 2 * self.edges * self.width

    @property
    def traffic(self) -> int:
        """Bytes that a training step moves per token: each read fetches all earlier writes."""
        return 7 * self.writes * self.layers // 2 * self.itemsize


def _used(hf: Any) -> int:
    """Count the weights used at every token: neither embeddings nor the map to the logits."""
    ends = [hf.get_input_embeddings(), hf.get_output_embeddings()]
    sizes = {id(module.weight): module.weight.numel() for module in ends if hasattr(module, "weight")}  # tied: one
    return int(hf.num_parameters()) - sum(sizes.values())


def _ends(hf: Any, layers: int) -> int:
    """Count the weights outside the blocks. Raises ValueError for a model that has no list of blocks."""
    blocks = sum(parameter.numel() for block in blocks_of(hf, layers) for parameter in block.parameters())
    return int(hf.num_parameters()) - blocks


def _widths(adapter: Any) -> tuple[int, int, int]:
    """Count the numbers per token in queries, keys and values, in hidden units, and in folded maps, over all layers."""
    attention = hidden = folded = 0
    for layer in range(adapter.shape.layers if isinstance(adapter, PartsAdapter) else 0):
        with adapter.weights_of(layer):
            heads, mlp = adapter.attention(layer), adapter.mlp(layer)
        maps = [linear.weight for linear in (heads.q, heads.k, heads.v)]
        attention += sum(weight.shape[0] * weight.shape[2] for weight in maps)
        folded += sum(weight.numel() for weight in maps)
        folded += heads.out.numel() if heads.norm is not None and heads.norm.centred else 0  # otherwise a view
        if mlp is not None:
            hidden += sum(linear.weight.shape[0] * linear.weight.shape[2] for linear in mlp.inward)
            folded += sum(linear.weight.numel() for linear in mlp.inward)
    return attention, hidden, folded
