"""A model whose weights are shared out over ranks gives the numbers of the whole one, and no rank ever holds it all."""

from __future__ import annotations

import gc
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from processes import on_ranks
from random_models import answered, config_of, pairs_for, random_mask, random_model
from running import logits_and_gradient, runner

from edge_pruning import ranks
from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.loading import in_parts
from edge_pruning.loading.fingerprint import MOST_VALUES, fingerprint
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import ADAPTERS, Adapter, adapt
from edge_pruning.models.shards import Shards, blocks_of
from edge_pruning.objectives import OBJECTIVES

LAYERS, FEW = 4, 2
CPU = torch.device("cpu")
KINDS = ("gpt2", "llama", "gemma2", "qwen3", "bloom")
READ = ("gpt2", "llama", "gemma3_text", "mixtral", "gpt_oss")  # tied, untied, buffers by kind of layer, fused experts


def model(kind: str) -> Adapter:
    return random_model(config_of(kind, num_hidden_layers=LAYERS))


def shared_out(kind: str) -> Adapter:
    adapter = model(kind)
    adapter.shards = Shards(adapter.hf, LAYERS, CPU)
    return adapter


class Counting:
    """Counts the weights that this rank holds whenever a group has been gathered."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter, self.most, gather = adapter, 0, Shards.gather
        assert adapter.shards is not None
        self.shards = adapter.shards

        def counted(*arguments: Any) -> None:
            gather(self.shards, *arguments)
            self.most = max(self.most, self.held())

        self.shards.gather = counted  # type: ignore[method-assign]

    def held(self) -> int:
        """The numbers in the memory of this rank: its parts, and what is gathered beside them."""
        whole = sum(self.size_of(group) for group in self.shards._here)
        parts = (getattr(p, "_local_tensor", None) for p in self.sharded())
        return whole + sum(part.numel() for part in parts if part is not None)

    def sharded(self) -> list[Any]:
        return [p.sharded_param for group in self.shards._groups
                for p in group._get_fsdp_state()._fsdp_param_group.fsdp_params]  # fmt: skip

    def size_of(self, group: int) -> int:
        params = self.shards._groups[group]._get_fsdp_state()._fsdp_param_group.fsdp_params
        return sum(p.sharded_param.numel() for p in params)


def compared(kinds: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Whether logits and gradients are those of the whole model; and the most numbers that this rank has held."""
    found = []
    for kind in kinds:
        for engine_of in (MaskedPass, FusedPass):
            whole, adapter = model(kind), shared_out(kind)
            pairs = [answered(pair, seed) for seed, pair in enumerate(pairs_for(whole))]
            ends = sum(p.numel() for p in whole.hf.parameters())
            outputs = []
            for one in (whole, adapter):
                engine = engine_of(one)
                counting = Counting(one) if one is adapter else None
                mask = random_mask(engine.graph, dtype=torch.float32)
                outputs.append(logits_and_gradient(runner(engine, engine.batch(pairs)), mask))
            assert counting is not None
            same = all(torch.equal(one, other) for one, other in zip(*outputs, strict=True))
            groups = sorted(counting.size_of(group) for group in range(LAYERS + 1))
            ranks.meet()
            found.append((kind, same, counting.most, ends, groups, counting.held()))
    return found


def test_logits_and_gradients_are_those_of_the_whole_model(on_two: list[dict[str, Any]]) -> None:
    expected = [(kind, True) for kind in KINDS for _ in range(2)]
    for rank in on_two:
        assert [(kind, same) for kind, same, *_ in rank["compared"]] == expected


def test_a_rank_holds_its_share_and_two_groups_at_most(on_two: list[dict[str, Any]]) -> None:
    for rank in on_two:
        for kind, _, most, whole, groups, afterwards in rank["compared"]:
            share = whole / 2 + 0.02 * whole  # parts are cut between rows
            assert most <= share + sum(groups[-2:]), kind
            assert most < whole + groups[0], kind
            assert afterwards <= share, kind


def gradient_of_many(kind: str, share_weights: bool) -> list[float]:
    """The gradient over five pairs, in micro-batches of one: two or three on each of two ranks."""
    adapter = shared_out(kind) if share_weights else model(kind)
    engine = FusedPass(adapter)
    engine.largest_tile = 1
    pairs = [answered(pair, seed) for seed, pair in enumerate(pairs_for(adapter))][:5]
    cache = FrozenCache(engine, pairs, Patch(), 0)
    mask = random_mask(engine.graph, dtype=torch.float32)
    _, gradient = mask_gradient(engine, cache, range(len(pairs)), mask, OBJECTIVES["kl"])
    return gradient.flatten().tolist()


def test_ranks_with_unequal_work_wait_for_each_other(on_two: list[dict[str, Any]]) -> None:
    alone = torch.tensor(gradient_of_many("llama", False))
    for rank in on_two:
        torch.testing.assert_close(torch.tensor(rank["unequal"]), alone, rtol=1e-4, atol=1e-5)


def out_of_step() -> list[bool]:
    """The ranks gather other groups, in another order, and more often; then one of them while the other holds it."""
    adapter, whole = shared_out("llama"), model("llama")
    shards = adapter.shards
    assert shards is not None
    right = []
    for group in ((0, 3, 1, 0) if ranks.is_first() else (2, 3)):
        shards.gather(group)
        own, other = adapter.attention(group).q.weight, whole.attention(group).q.weight
        if group == 3:  # it stays here while the other rank gathers more
            before = shards.gathered
            shards.gather(1 if ranks.is_first() else 0)
            assert shards.gathered == before + 1
        right.append(torch.equal(own, other))
        for held in (0, 1, group):
            shards.free(held)
    ranks.meet()
    return right


def test_ranks_that_are_out_of_step_get_what_they_ask_for(on_two: list[dict[str, Any]]) -> None:
    assert [rank["out of step"] for rank in on_two] == [[True] * 4, [True] * 2]


def read(folder: Path, dtype: torch.dtype = torch.float32) -> Adapter:
    config = transformers.AutoConfig.from_pretrained(folder)
    loader = getattr(transformers, ADAPTERS[config.model_type].loader)
    return adapt(loader.from_pretrained(folder, dtype=dtype))


def read_in_parts(folder: Path, kind: str) -> tuple[str, list[str], bool]:
    """Names of the parameters and buffers that are not those of the whole model, and whether all were cut."""
    whole = read(folder / kind)
    with in_parts.cut_when_registered(CPU):
        adapter = read(folder / kind)
    all_cut = all(parameter.is_meta for parameter in adapter.hf.parameters())
    same_fingerprint = fingerprint(adapter.hf.named_parameters(), in_parts.sample) == fingerprint(
        whole.hf.named_parameters()
    )
    shards = Shards(adapter.hf, FEW, CPU, in_parts.rows_of(adapter.hf))
    for group in range(FEW + 1):
        shards.gather(group)
    values = {**dict(adapter.hf.named_parameters(remove_duplicate=False)), **dict(adapter.hf.named_buffers())}
    expected = {**dict(whole.hf.named_parameters(remove_duplicate=False)), **dict(whole.hf.named_buffers())}
    wrong = [name for name in expected if not torch.equal(values[name], expected[name])]
    wrong += ["fingerprint"] * (not same_fingerprint) + [*(values.keys() ^ expected.keys())]
    ranks.meet()
    return kind, wrong, all_cut


def test_read_in_parts_a_model_has_the_values_of_the_whole_one(on_two: list[dict[str, Any]]) -> None:
    for rank in on_two:
        assert rank["read in parts"] == [(kind, [], True) for kind in READ]


def bytes_held() -> int:
    """The bytes of all tensors in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = {x.data_ptr(): x.nbytes for x in gc.get_objects() if isinstance(x, torch.Tensor) and not x.is_meta}
    return sum(held.values())


def held_while_reading(folder: Path) -> tuple[list[int], list[int], int]:
    """Bytes held when the first and the last parameter are cut; the bytes of all parameters, and of their samples."""
    sizes = [p.nbytes for p in read(folder).hf.parameters()]
    before, held, calls, rows_of = bytes_held(), [], [], ranks.rows_of

    def watched(whole: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) in (1, len(sizes)):
            time.sleep(0.1)  # whoever reads ahead has read by then
            held.append(bytes_held() - before)
        return rows_of(whole)

    with pytest.MonkeyPatch.context() as patched, in_parts.cut_when_registered(CPU):
        patched.setattr(ranks, "rows_of", watched)
        read(folder)
    return held, sizes, sum(min(size, 4 * MOST_VALUES) for size in sizes)


def test_a_rank_that_reads_holds_its_share_and_a_parameter_at_most(on_two: list[dict[str, Any]]) -> None:
    for rank in on_two:
        (first, last), sizes, samples = rank["held"]
        assert first <= 2 * max(sizes)
        assert last <= sum(sizes) / 2 + 2 * max(sizes) + samples < 0.9 * sum(sizes)


def everything(folder: Path) -> dict[str, Any]:
    return {
        "compared": compared(KINDS), "unequal": gradient_of_many("llama", True), "out of step": out_of_step(),
        "read in parts": [read_in_parts(folder, kind) for kind in READ], "held": held_while_reading(folder / "wide"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks have found: starting them is what takes the time."""
    folder = tmp_path_factory.mktemp("models")
    for kind in READ:
        random_model(config_of(kind, num_hidden_layers=FEW)).hf.save_pretrained(folder / kind)
    random_model(config_of("llama", hidden_size=64, intermediate_size=2048)).hf.save_pretrained(folder / "wide")
    return on_ranks(2, everything, folder)


def test_a_model_without_a_list_of_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no list of 3 blocks"):
        blocks_of(model("llama").hf, 3)
