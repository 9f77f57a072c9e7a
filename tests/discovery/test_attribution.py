"""EAP and EAP-IG against hooks on the plain model, their laws, and the baselines that are built on them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hooked import edge_effects
from literal import literal_batch_logits
from random_models import CONFIGS, answered, config_of, mixed_pairs, pair, random_model
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from watching import DATA, engine, find, some_edges

from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.discovery import Search, get_method
from edge_pruning.discovery.eap import Eap
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.objectives import get_objective
from edge_pruning.tasks import PairSet

ENGINES = [MaskedPass, FusedPass]
MIXED = PairSet("mixed", "train", "logit_difference", tuple(answered(p, i) for i, p in enumerate(mixed_pairs())), ())
EQUAL = replace(MIXED, pairs=tuple(answered(pair(seed, 7, (4, 6)), seed) for seed in range(5)))


@pytest.fixture(autouse=True)
def _exact_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hugging Face's RMSNorm computes in float32 in every dtype."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@cache
def model(kind: str) -> Adapter:
    return random_model(config_of(kind))


def close(found: Tensor, expected: Tensor) -> None:
    """Masks and scores are float32."""
    torch.testing.assert_close(found.double(), expected.double(), rtol=2e-6, atol=1e-6 * float(expected.abs().max()))


def by_hooks(kind: str, data: PairSet, metric: str, points: list[float]) -> Tensor:
    """Mean over the pairs, each run alone, so that no filling is involved."""
    objective, total = get_objective(metric), torch.tensor(0.0)
    for one in data.pairs:
        batch = Batch.of([one])
        whole = model(kind).hf(batch.clean, use_cache=False).logits.flatten(0, 1)[batch.positions]

        def loss(logits: Tensor, batch: Batch = batch, whole: Tensor = whole) -> Tensor:
            return objective(whole, logits.flatten(0, 1)[batch.positions], batch).sum()

        total = total + edge_effects(model(kind), batch.clean, batch.corrupted, loss, points) / len(data.pairs)
    return total


def values(method: Any, on: MaskedPass, data: PairSet, **options: Any) -> Tensor:
    found = method.find(Search(on, data, Patch(), **options)).values
    return found.masked_fill(found == -torch.inf, 0)


# --- the oracle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("make", ENGINES)
def test_eap_is_write_difference_times_read_gradient_edge_by_edge(make: type[MaskedPass], kind: str) -> None:
    expected = by_hooks(kind, MIXED, "logit_difference", [1.0])
    close(values(Eap(sign="signed"), make(model(kind)), MIXED), expected)
    close(values(Eap(), make(model(kind)), MIXED), expected.abs())
    assert (expected < 0).sum() > 5


@pytest.mark.parametrize("metric", ["probability_difference", "answer_loss"])
def test_eap_of_other_metrics_is_the_formula_too(metric: str) -> None:
    close(values(Eap(metric, "signed"), FusedPass(model("gpt2")), EQUAL), by_hooks("gpt2", EQUAL, metric, [1.0]))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "llama, biases, tied, odd heads, own head size"])
@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("metric", ["logit_difference", "kl"])
def test_eap_ig_on_inputs_moves_the_gradient_and_not_the_difference(
    metric: str, make: type[MaskedPass], kind: str
) -> None:
    expected = by_hooks(kind, MIXED, metric, [1 / 6, 3 / 6, 5 / 6])
    close(values(EapIg(metric, steps=3, sign="signed"), make(model(kind)), MIXED), expected)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("metric", ["logit_difference", "kl"])
def test_eap_ig_on_activations_is_the_literal_formulas_gradient_along_the_masks(metric: str, kind: str) -> None:
    adapter, graph, objective = model(kind), Graph(model(kind).shape), get_objective(metric)
    expected = torch.zeros(graph.edge_mask.shape, dtype=torch.float64)
    for a in (0.25, 0.75):
        leaf = (a * graph.edge_mask.double()).requires_grad_()
        for one in MIXED.pairs:
            batch = Batch.of([one])
            whole = adapter.hf(batch.clean, use_cache=False).logits.flatten(0, 1)[batch.positions]
            loss = objective(whole, literal_batch_logits(adapter, graph, leaf, batch), batch).sum()
            (loss / len(MIXED.pairs) / 2).backward()
        assert leaf.grad is not None
        expected -= leaf.grad
    found = values(EapIg(metric, "activations", 2, "signed"), FusedPass(adapter), MIXED)
    close(found, expected.masked_fill(~graph.edge_mask, 0))


@pytest.mark.parametrize("method", [Eap(sign="signed"), EapIg(steps=3, sign="signed")])
def test_among_candidates_the_others_stay_ablated(method: Any) -> None:
    """Against sums that are written out, read by read."""
    adapter, graph = model("gpt2"), Graph(model("gpt2").shape)
    within = some_edges(graph)
    found = values(method, FusedPass(adapter), EQUAL, within=within)
    assert not found[~within].any()
    close(found, masked_formula(adapter, graph, within, getattr(method, "steps", 0)))


def masked_formula(adapter: Adapter, graph: Graph, within: Tensor, steps: int) -> Tensor:
    """Write differences of the run with all candidates, times read gradients at the points of the path (0: its end)."""
    batch, objective = Batch.of(EQUAL.pairs), get_objective("logit_difference")
    y, c = (adapter.embed(tokens, split=False)[0] for tokens in (batch.clean, batch.corrupted))
    corrupted = summed_run(adapter, graph, graph.edge_mask, c, [])[1]
    clean = summed_run(adapter, graph, within, y, corrupted)[1]
    points = [(step + 0.5) / steps for step in range(steps)] or [1.0]
    total = torch.zeros(graph.edge_mask.shape, dtype=torch.float64)
    for a in points:
        logits, _, probes = summed_run(adapter, graph, within, c + a * (y - c), corrupted)
        loss = objective(logits, logits.flatten(0, 1)[batch.positions], batch).mean() / len(points)
        gradients = torch.autograd.grad(loss, probes)
        for w, r in within.nonzero().tolist():
            total[w, r] -= ((clean[w] - corrupted[w]) * gradients[r]).sum()
    return total


def summed_run(
    adapter: Adapter, graph: Graph, mask: Tensor, embeddings: Tensor, ablated: list[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, writes, and probes: zeros added to every read, whose gradients are the reads'."""
    writes, probes, bias = [embeddings], [], torch.zeros(adapter.d_model, dtype=torch.float64)

    def read(r: int) -> Tensor:
        seen = [w for w in range(len(writes)) if graph.edge_mask[w, r]]
        probes.append(torch.zeros_like(embeddings, requires_grad=True))
        return sum((writes[w] if mask[w, r] else ablated[w] for w in seen), bias) + probes[-1]

    for layer in range(graph.shape.layers):
        rows = graph.attention_readers(layer)
        x = torch.stack([read(r) for r in range(rows.start, rows.stop)])
        parts = x.split([graph.shape.heads, graph.kv_readers, graph.kv_readers])
        writes += list(adapter.attend(layer, *parts, adapter.context(embeddings.shape[1])))
        bias = bias + adapter.attention(layer).out_bias
        writes += list(adapter.feed_forward(layer, read(graph.mlp_reader(layer).start)[None]))
    logits = adapter.unembed(read(len(graph.readers) - 1))
    return logits, [write.detach() for write in writes], probes


# --- laws ------------------------------------------------------------------------------------------------------------


def test_effects_along_the_masks_add_up_to_what_the_whole_model_gains() -> None:
    """Completeness of integrated gradients: the sum is m(model) - m(empty), whatever lies between."""
    masked = FusedPass(model("gpt2"))
    batch, objective = Batch.of(EQUAL.pairs), get_objective("kl")
    frozen = Patch().freeze(masked, batch)
    empty = objective(frozen.logits, masked.logits(torch.zeros(masked.graph.edge_mask.shape), batch, frozen), batch)
    found = values(EapIg("kl", "activations", 100, "signed"), masked, EQUAL)
    assert float(found.sum()) == pytest.approx(float(empty.mean()), rel=1e-3)


def test_one_step_at_the_end_of_the_path_would_be_eap() -> None:
    class AtTheEnd(EapIg):
        def _points(self, whole: Tensor, frozen: Any) -> Any:
            yield whole.clone(), frozen

    for path in ("inputs", "activations"):
        at_the_end = AtTheEnd(path=path, steps=1, sign="signed")
        close(values(at_the_end, engine(), DATA), values(Eap(sign="signed"), engine(), DATA))


def test_the_cut_into_micro_batches_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = [Eap(), EapIg(), EapIg(path="activations"), get_method("magnitude"), get_method("node-attribution")]
    together = [values(method, FusedPass(model("gpt2")), MIXED) for method in methods]
    monkeypatch.setattr(MaskedPass, "tile_tokens", 1)
    for method, expected in zip(methods, together, strict=True):
        close(values(method, FusedPass(model("gpt2")), MIXED), expected)


# --- the baselines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("sign", ["signed", "absolute"])
def test_node_scores_are_the_lesser_of_two_nodes_whose_effects_are_sums(sign: str, kind: str) -> None:
    masked = FusedPass(model(kind))
    graph, effects = masked.graph, values(Eap(sign="signed"), masked, EQUAL).sum(1)
    worth = dict(zip(graph.writers, (effects.abs() if sign == "absolute" else effects).tolist(), strict=True))
    found = get_method("node-attribution", sign=sign).find(Search(masked, EQUAL, Patch()))
    group = graph.shape.heads // graph.shape.kv_heads
    for name in graph.names(graph.edge_mask):
        writer, _, reader = name.partition("->")
        node, _, kind_of_read = reader.partition("<")
        nodes = [node]
        if kind_of_read in ("k>", "v>"):
            layer, _, head = node.partition(".h")
            nodes = [f"{layer}.h{int(head) * group + i}" for i in range(group)]
        of_reader = max((worth[node] for node in nodes), default=0) if reader != "logits" else float("inf")
        score = found.values[graph.mask([name])].item()
        assert score == pytest.approx(min(worth[writer], of_reader), rel=1e-5)


def test_magnitude_is_the_mean_length_of_what_changes() -> None:
    adapter, found = model("llama"), get_method("magnitude").find(Search(MaskedPass(model("llama")), MIXED, Patch()))
    graph, expected = found.graph, torch.zeros(len(found.graph.writers), 2, dtype=torch.float64)
    for one in MIXED.pairs:
        batch = Batch.of([one])
        writes = [MaskedPass(adapter).unmasked_run(tokens) for tokens in (batch.clean, batch.corrupted)]
        lengths = []
        for part in ("embeddings", "heads", "mlps"):
            change = (getattr(writes[0], part) - getattr(writes[1], part)).norm(dim=-1)
            lengths.append(change.unflatten(0, (-1, 1)) if change.dim() == 3 else change)  # [layer, w, b, p]
        blocks = [torch.cat([heads, mlp]) for heads, mlp in zip(lengths[1], lengths[2], strict=True)]
        by_writer = torch.cat([lengths[0].flatten(0, 1), *blocks])[:, 0]  # [w, p]
        by_writer[-1, [p for p in range(by_writer.shape[1]) if p not in batch.positions.tolist()]] = 0
        both = torch.stack([by_writer.mean(1), by_writer[:, batch.positions].mean(1)], 1)
        expected += both / len(MIXED.pairs)
    close(found.values[:, -1], expected[:, 1])
    close(found.values[graph.writers.index("m0")][graph.edge_mask[graph.writers.index("m0")]][0], expected[5, 0])
    close(found.values[0, :-1], expected[0, 0].expand(len(graph.readers) - 1))


def test_random_scores_are_spread_evenly() -> None:
    found = find(get_method("random")).values[engine().graph.edge_mask]
    assert 0 <= found.min() < 0.15 < 0.85 < found.max() < 1


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eap", "eap-ig", "node-attribution"])
def test_a_metric_that_needs_a_wrong_answer_where_there_is_none_is_refused(name: str) -> None:
    none = replace(DATA, pairs=tuple(replace(p, wrong=((),)) for p in DATA.pairs))
    message = (
        f"method '{name}', metric 'difference': logit_difference needs wrong answers, but none of the 10 pairs has "
        f"one; add wrong answers, or use {'kl, squared_error, ' if name == 'eap-ig' else ''}answer_loss"
    )
    with pytest.raises(ValueError, match=message):
        find(get_method(name), data=none)
    assert find(get_method(name, metric="answer_loss"), data=none).values.isfinite().any()


@pytest.mark.parametrize("name", ["eap", "node-attribution"])
@pytest.mark.parametrize("metric", ["kl", "squared_error", "objective"])
def test_a_metric_that_is_flat_at_the_whole_model_is_refused(name: str, metric: str) -> None:
    with pytest.raises(ValueError, match=f"method '{name}': metric must be one of .*where their gradient is 0"):
        get_method(name, metric=metric)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("eap", {"sign": "up"}, "method 'eap': sign must be absolute or signed, got 'up'"),
        ("eap-ig", {"path": "output"}, "path must be inputs or activations, got 'output'"),
        ("eap-ig", {"metric": "loss"}, "metric must be one of difference, objective, kl, .*, got 'loss'"),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_method(name, **settings)


def test_candidates_of_another_graph_are_refused() -> None:
    other = Graph(ModelShape(1, 2))
    with pytest.raises(ValueError, match="expected candidate edges as a bool mask"):
        find(Eap(), within=other.edge_mask)
