"""Circuits in a vision transformer: pairs of images, found, evaluated and kept like those of prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import VISION, config_of, pair, random_mask, random_model

import edge_pruning as ep
from edge_pruning.ablation import Patch, Zero, get_ablation
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.circuit import Circuit
from edge_pruning.discovery import Search, get_method
from edge_pruning.evaluation import evaluate
from edge_pruning.loading.loading import load_model
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.pair import ImagePair
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

pytestmark = pytest.mark.skipif(not VISION, reason="this version of transformers is too old for ViT")


def images(n: int, classes: int = 19) -> tuple[ImagePair, ...]:
    """Noise whose first channel is brighter in the clean image than in the corrupted one."""
    drawn = torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    bright = torch.tensor([1.0, 0.0])[:, None, None]
    return tuple(
        ImagePair(image + bright, image - bright, answers=((i % classes,),), wrong=(((i + 1) % classes,),))
        for i, image in enumerate(drawn)
    )


def data(n: int = 12) -> PairSet:
    return PairSet("bright", "test", "logit_difference", images(n), ())


@pytest.fixture(scope="module")
def engine() -> MaskedPass:
    return FusedPass(random_model(config_of("vit"), torch.float32))


def test_a_circuit_of_images_is_found_and_evaluated(engine: MaskedPass) -> None:
    scores = get_method("soft-top-k", steps=40).find(Search(engine, data(), Patch(), [20]))
    circuit = Circuit.from_scores(scores, edges=20)
    found = evaluate(circuit, Setup(engine, data(), Patch()), random_circuits=5)
    assert found["model"]["kl"] == pytest.approx(0, abs=1e-5)
    assert found["circuit"]["kl"] < 0.8 * found["random"]["kl"]


def test_frozen_values_of_images_are_kept(engine: MaskedPass) -> None:
    pairs, mask = images(7), random_mask(engine.graph, dtype=torch.float32)
    cache = FrozenCache(engine, pairs, Zero(), 1 << 20)
    assert cache.kept == 7
    batch, frozen = cache.batch([4, 1])
    expected = engine.logits(mask, batch, Zero().freeze(engine, engine.batch([pairs[4], pairs[1]])))
    torch.testing.assert_close(engine.logits(mask, batch, frozen), expected)


def test_the_fingerprint_of_a_set_of_images_sees_every_pixel() -> None:
    first, same, other = data(), data(), data()
    other.pairs[3].corrupted[1, 7, 7] += 1e-3
    assert first.hash == same.hash != other.hash


def test_a_model_of_images_is_loaded_without_a_tokenizer(tmp_path: Path, engine: MaskedPass) -> None:
    engine.adapter.hf.save_pretrained(tmp_path)
    model = load_model(str(tmp_path), device="cpu")
    assert model.tokenizer is None
    batch = model.engine().batch(images(2))
    assert torch.equal(model.adapter.own_logits(batch.clean), engine.adapter.own_logits(batch.clean))


def test_a_model_of_images_in_memory_takes_its_image_processor(engine: MaskedPass) -> None:
    from transformers import ViTImageProcessorPil  # which old versions do not have

    processor = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
    model = load_model((engine.adapter.hf, processor))
    assert model.tokenizer.shape == (2, 8, 8)
    assert model.tokenizer.classes == tuple(map(str, range(19)))  # they have no names
    with pytest.raises(ValueError, match="expected its image processor, got str"):
        load_model((engine.adapter.hf, "words"))


def test_a_task_of_another_kind_than_the_model_is_refused_before_the_search() -> None:
    with pytest.raises(ValueError, match="'digits': its pairs are images, but the model does not read images"):
        ep.discover("digits", model="bundled", edges=5)
    with pytest.raises(ValueError, match="'ioi': its pairs are text, but the model reads images"):
        ep.discover("ioi", model="digits", edges=5)


def test_what_is_no_image_of_the_model_is_refused(engine: MaskedPass) -> None:
    small = ImagePair(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match=r"shape \(2, 8, 8\), got \(2, 4, 4\); .*own image processor"):
        engine.batch([small])
    with pytest.raises(ValueError, match=r"of shape \(2, 8, 8\), got 5 tokens"):
        engine.batch([pair(0, 5, (4,))])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corrupted": torch.zeros(2, 8, 9)}, r"images of equal shape .*, got \(2, 8, 8\), \(2, 8, 9\)"),
        ({"clean": torch.zeros(8, 8), "corrupted": torch.zeros(8, 8)}, r"\[channel, height, width\], got \(8, 8\)"),
        ({"positions": (1,)}, r"an image has one class: expected positions \(0,\) .*, got \(1,\)"),
        ({"answers": ((1,), (2,))}, r"one tuple each of answers and wrong answers, got \(0,\), 2 and 1"),
    ],
)
def test_images_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImagePair(**({"clean": torch.zeros(2, 8, 8), "corrupted": torch.zeros(2, 8, 8)} | changes))


@pytest.mark.parametrize("name", ["mean", "resample"])
def test_ablations_that_compare_prompts_position_by_position_refuse_images(name: str, engine: MaskedPass) -> None:
    with pytest.raises(ValueError, match="use patch or zero for images"):
        get_ablation(name).fitted(engine, images(4))
