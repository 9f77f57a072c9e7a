"""Edge attribution from hooks on the plain Hugging Face model, edge by edge: the slow oracle.

    effect(i -> j) = - sum over tokens of <what i writes, clean minus corrupted> * <the loss's gradient at what j reads>

Nothing of the library's own pass is used. Writes are what goes into a layer's output projection, head by head through
that head's rows of its weight, and what the MLP puts out. A reader's gradient is that of its own projection's output,
pulled back through projection and norm by autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.graph import Graph
from edge_pruning.models import Adapter

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reader:
    """A norm, the projections behind it, and which of their output columns the reader owns."""

    name: str
    norm: nn.Module
    projections: tuple[nn.Module, ...]
    columns: slice


@dataclass
class Run:
    """What one run of the plain model wrote, read and projected; projections keep their gradients."""

    writes: dict[str, Tensor] = field(default_factory=dict)
    reads: dict[nn.Module, Tensor] = field(default_factory=dict)
    projected: dict[nn.Module, Tensor] = field(default_factory=dict)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


def readers_of(adapter: Adapter) -> Iterator[Reader]:
    hf, shape = adapter.hf, adapter.shape
    everything = slice(None)
    if adapter.model_type == "gpt2":
        e = hf.config.n_embd // shape.heads
        for i, block in enumerate(hf.transformer.h):
            for n, kind in enumerate("qkv"):
                for h in range(shape.heads):
                    start = n * hf.config.n_embd + h * e
                    columns = slice(start, start + e)
                    yield Reader(f"a{i}.h{h}<{kind}>", block.ln_1, (block.attn.c_attn,), columns)
            yield Reader(f"m{i}", block.ln_2, (block.mlp.c_fc,), everything)
        yield Reader("logits", hf.transformer.ln_f, (hf.lm_head,), everything)
        return
    for i, block in enumerate(hf.model.layers):
        e, attention = block.self_attn.head_dim, block.self_attn
        for kind, projection, heads in (
            ("q", attention.q_proj, shape.heads), ("k", attention.k_proj, shape.kv_heads),
            ("v", attention.v_proj, shape.kv_heads),
        ):
            for h in range(heads):
                yield Reader(f"a{i}.h{h}<{kind}>", block.input_layernorm, (projection,), slice(h * e, (h + 1) * e))
        mlp = block.mlp
        yield Reader(f"m{i}", block.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj), everything)
    yield Reader("logits", hf.model.norm, (hf.lm_head,), everything)


def plain_run(adapter: Adapter, embeddings: Tensor) -> Run:
    """Run the model on what its embedding table writes [b, p, d], with hooks that watch."""
    run = Run()
    with _watched(adapter, run):
        run.logits = adapter.hf(inputs_embeds=embeddings, use_cache=False).logits
    return run


def edge_effects(adapter: Adapter, clean: Tensor, corrupted: Tensor, loss: Loss, points: list[float]) -> Tensor:
    """The effect of every edge [w, r], the gradient averaged over runs on corrupted + a (clean - corrupted) embeddings.

    clean, corrupted: token ids [b, p]; loss: of logits [b, p, vocab], lower is better.
    """
    graph, table = Graph(adapter.shape), adapter.hf.get_input_embeddings()
    y, c = (plain_run(adapter, table(tokens)).writes for tokens in (clean, corrupted))
    effects = torch.zeros(graph.edge_mask.shape, dtype=torch.float64)
    for a in points:
        run = plain_run(adapter, table(corrupted) + a * (table(clean) - table(corrupted)))
        loss(run.logits).backward()
        for reader in readers_of(adapter):
            gradient = _read_gradient(run, reader)
            for writer in graph.writers:
                if graph.edge_mask[graph.writers.index(writer), graph.readers.index(reader.name)]:
                    place = graph.writers.index(writer), graph.readers.index(reader.name)
                    effects[place] -= ((y[writer] - c[writer]) * gradient).sum() / len(points)
    return effects


def _read_gradient(run: Run, reader: Reader) -> Tensor:
    x = run.reads[reader.norm].detach().requires_grad_()
    total = torch.zeros_like(x)
    for projection in reader.projections:
        projected, gradient = projection(reader.norm(x)), run.projected[projection].grad
        assert gradient is not None
        total = total + torch.autograd.grad(
            projected[..., reader.columns], x, gradient[..., reader.columns]
        )[0]
    return total


@contextmanager
def _watched(adapter: Adapter, run: Run) -> Iterator[None]:
    handles = []
    for reader in readers_of(adapter):
        handles.append(reader.norm.register_forward_hook(_remember_read(run)))
        handles += [projection.register_forward_hook(_remember_projected(run)) for projection in reader.projections]
    for i, (norm, out, mlp) in enumerate(_blocks(adapter)):
        if i == 0:
            handles.append(norm.register_forward_hook(_remember_write(run, "input", of_input=True)))
        handles.append(out.register_forward_hook(_remember_heads(run, i, adapter.shape.heads)))
        handles.append(mlp.register_forward_hook(_remember_write(run, f"m{i}")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(adapter: Adapter) -> Iterator[tuple[nn.Module, nn.Module, nn.Module]]:
    """First norm, output projection and MLP of every layer."""
    if adapter.model_type == "gpt2":
        yield from ((block.ln_1, block.attn.c_proj, block.mlp) for block in adapter.hf.transformer.h)
    else:
        yield from (
            (block.input_layernorm, block.self_attn.o_proj, block.mlp) for block in adapter.hf.model.layers
        )


def _remember_read(run: Run) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        run.reads[module] = inputs[0].detach()

    return hook


def _remember_projected(run: Run) -> Callable[..., Tensor]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if output.requires_grad:
            output.retain_grad()
        else:  # the weights are frozen and nothing before needs a gradient: begin here
            output = output.detach().requires_grad_()
        run.projected[module] = output
        return output

    return hook


def _remember_write(run: Run, name: str, *, of_input: bool = False) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        run.writes[name] = (inputs[0] if of_input else output).detach()

    return hook


def _remember_heads(run: Run, layer: int, heads: int) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        mixed = inputs[0].detach().unflatten(-1, (heads, -1))  # [b, p, h, e]
        weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T  # [h * e, d]
        for h, rows in enumerate(weight.unflatten(0, (heads, -1))):
            run.writes[f"a{layer}.h{h}"] = mixed[:, :, h] @ rows

    return hook
