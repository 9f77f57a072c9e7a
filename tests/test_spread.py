"""A model spread over two devices gives the numbers that it gives on one, and what must move moves once.

The devices are pretended (`pretend_devices.py`). Modules move their inputs, as accelerate's hooks make them do.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pretend_devices import Pretended, pretending
from random_models import answered, config_of, pair, pairs_for, random_mask, random_model
from running import logits_and_gradient
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from edge_pruning.ablation import Mean, Patch
from edge_pruning.discovery import Method, Search
from edge_pruning.discovery.acdc import Acdc
from edge_pruning.discovery.eap import Eap
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.hard_concrete import HardConcrete
from edge_pruning.discovery.magnitude import Magnitude
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.evaluation.measure import measure
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.placement import refuse_offloading
from edge_pruning.loading.self_check import law_errors
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

FIRST, SECOND = torch.device("lazy:0"), torch.device("lazy:1")
PLACES = {"one after the other": (0, 0, 1, 1), "embeddings alone": (1, 1, 1, 1), "there and back": (0, 1, 0, 1)}
PASSES = [MaskedPass, FusedPass]
KINDS = ["gpt2", "llama", "gemma2", "gemma3_text", "gpt_neox", "bloom", "phi3", "mixtral"]


def four_layers(kind: str) -> Adapter:
    more = {"layer_types": ["sliding_attention", "full_attention"] * 2} if kind == "gemma3_text" else {}
    return random_model(config_of(kind, num_hidden_layers=4, **more))


def placed(adapter: Adapter, places: tuple[int, ...]) -> Adapter:
    """Layers where `places` says, embeddings on the first device, what comes after the layers on the second."""
    modules = list(adapter.hf.modules())
    layers = next(m for m in modules if isinstance(m, nn.ModuleList) and len(m) == len(places))
    norms = [child for m in modules if layers in m.children() for child in m.children()]
    last = [*norms[norms.index(layers) + 1 :], adapter.hf.get_output_embeddings()]
    adapter.hf.to(FIRST)
    homes = {module: SECOND for module in last if "Rotary" not in type(module).__name__}
    homes |= {layer: (FIRST, SECOND)[place] for layer, place in zip(layers, places, strict=True)}
    for module, home in homes.items():
        module.to(home).register_forward_pre_hook(_taking_inputs_to(home), with_kwargs=True)
    return adapter


def _taking_inputs_to(home: torch.device) -> Callable[..., Any]:
    return lambda module, args, kwargs: tree_map_only(Tensor, lambda x: x.to(home), (args, kwargs))


def on_both(kind: str, work: Callable[[Adapter], Tensor], places: str = "one after the other") -> Pretended:
    """`work` on one device and on two: raises AssertionError if the results differ."""
    here = work(four_layers(kind))
    with pretending() as pretended:
        adapter = placed(four_layers(kind), PLACES[places])
        pretended.waits.clear()
        pretended.crossings.clear()
        there = work(adapter).to("cpu")
    torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-6)
    return pretended


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("of", PASSES, ids=lambda of: of.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_one_device(kind: str, of: type[MaskedPass], places: str) -> None:
    def work(adapter: Adapter) -> Tensor:
        engine, found = of(adapter, keep_reads=places == "there and back"), []  # type: ignore[arg-type]
        batch, within = engine.batch(pairs_for(adapter)), random_mask(engine.graph, 1) > 0.7
        frozen = Patch().freeze(engine, batch)
        for run in (engine, engine.restricted(within, consistent=True)):
            mask = random_mask(engine.graph) * (True if run is engine else within)
            found += logits_and_gradient(lambda z, run=run: run.logits(z, batch, frozen), mask.to(engine.home))
        assert all(value.device == engine.home for value in found)
        return torch.cat([value.flatten() for value in found])

    pretended = on_both(kind, work, places)
    assert pretended.crossings
    assert set(pretended.places) <= ({"experts.ExpertsDecoder.mlp_module"} if kind == "mixtral" else set())


@pytest.mark.parametrize("of", PASSES, ids=lambda of: of.__name__)
def test_differences_and_their_gradients_move_once(of: type[MaskedPass]) -> None:
    """Once over the boundary, and once back; and no device has room for what is written after its last layer."""
    with pretending() as pretended:
        engine = of(placed(four_layers("llama"), (0, 0, 1, 1)))  # type: ignore[arg-type]
        batch = engine.batch(pairs_for(engine.adapter))
        frozen = Patch().freeze(engine, batch)
        mask = random_mask(engine.graph).to(engine.home).requires_grad_()
        pretended.crossings.clear()
        engine.logits(mask, batch, frozen).sum().backward()
        written, tokens = engine.graph.writers_before_attention(2), batch.size * batch.width
        buffers = [crossed for crossed in pretended.crossings if crossed[2] == (written, tokens, 16)]
        assert buffers == [(FIRST, SECOND, buffers[0][2]), (SECOND, FIRST, buffers[0][2])]
        stream = engine.run(mask.detach(), batch, frozen)
        assert stream.differences.device == SECOND
        assert engine._writers_at(FIRST, 0) == written < len(engine.graph.writers) == engine._writers_at(SECOND, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_laws_hold_for_a_spread_model(kind: str) -> None:
    for of in PASSES:
        on_both(kind, lambda adapter, of=of: torch.tensor(law_errors(of(adapter))))


@pytest.mark.parametrize("kind", [*KINDS, "opt", "cohere", "granite", "gptj"])
def test_the_laws_hold_where_accelerate_has_put_things(kind: str) -> None:
    """With accelerate's own choice of places, and its own hooks; tied weights lie with the embeddings."""
    accelerate = pytest.importorskip("accelerate")
    adapter = four_layers(kind)
    size, whole = sum(weight.nbytes for weight in adapter.hf.parameters()), adapter.hf._no_split_modules
    room = {0: int(0.62 * size), 1: 2 * size, "cpu": 0}
    places = accelerate.infer_auto_device_map(adapter.hf, max_memory=room, no_split_module_classes=whole)
    with pretending():
        places = {name: f"lazy:{number}" for name, number in places.items()}
        accelerate.dispatch_model(adapter.hf, places, main_device="lazy:0", force_hooks=True)
        engine = FusedPass(adapter)  # type: ignore[arg-type]
        assert set(engine.devices) == {FIRST, SECOND}
        assert max(law_errors(engine)) < 1e-4


def test_what_would_lie_on_the_cpu_or_on_disk_is_refused() -> None:
    fits = SimpleNamespace(hf_device_map={"embed": 0, "layers.0": 0, "layers.1": 1})
    assert refuse_offloading(fits) is fits
    for away in ("cpu", "disk"):
        with pytest.raises(ValueError, match="1 of its 2 parts would lie on the CPU or on disk .first: layers.1"):
            refuse_offloading(SimpleNamespace(hf_device_map={"layers.0": 0, "layers.1": away}))


def test_spreading_without_accelerate_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'edge-pruning\[spread\]'"):
        load_model(device="spread")


def test_a_model_that_fits_on_one_device_is_not_spread() -> None:
    pytest.importorskip("accelerate")
    assert load_model(device="spread").device == str(load_model(device="auto").adapter.device)


@pytest.mark.parametrize("method", [
    SoftTopK(steps=3, batch_size=4),
    HardConcrete(steps=3, target_steps=2, warmup_steps=1, batch_size=4, initial_log_alpha=1.0),
    Eap(), EapIg(steps=2), EapIg(steps=2, path="activations"), Magnitude(), Acdc(sweep=1, batch_size=2),
], ids=lambda method: f"{method.name} {getattr(method, 'path', '')}".strip())  # fmt: skip
def test_methods_and_evaluation_find_the_same(method: Method) -> None:
    pairs = tuple(answered(pair(seed, 5 + seed % 2, (3,)), seed) for seed in range(4))
    data = PairSet("random", "train", "logit_difference", pairs, ())

    def work(adapter: Adapter) -> Tensor:
        engine = FusedPass(adapter)  # type: ignore[arg-type]
        scores = method.find(Search(engine, data, Patch(), [40]))
        kl = measure(Setup(engine, data, Mean().fitted(engine, pairs)), [scores.values > 0], data)[1].kl
        return torch.cat([scores.values[engine.graph.edge_mask], kl.flatten().float()])

    on_both("llama", work, "there and back")
