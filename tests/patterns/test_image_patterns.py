"""Where the heads of a vision transformer look: weights over all patches, and pictures of what the model reads."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from random_models import VISION, config_of, random_model

from edge_pruning.ablation import get_ablation
from edge_pruning.circuit import Circuit
from edge_pruning.contents import PatternsContent
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.files import read_json, write_json
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import ImagePair
from edge_pruning.patterns import find_patterns, patterns
from edge_pruning.tasks.task import PairSet

pytestmark = pytest.mark.skipif(not VISION, reason="this version of transformers is too old for ViT")


@pytest.fixture(scope="module")
def engine() -> FusedPass:
    return FusedPass(random_model(config_of("vit"), torch.float32))


@pytest.fixture(scope="module")
def pairs() -> tuple[ImagePair, ...]:
    drawn = torch.randn(2, 2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    return tuple(ImagePair(*images, answers=((1,),), wrong=((2,),)) for images in drawn)


def looked_at(engine: FusedPass, pairs: tuple[ImagePair, ...]) -> dict[str, Any]:
    values = torch.randn(engine.graph.edge_mask.shape, generator=torch.Generator().manual_seed(1))
    circuit = Circuit.from_scores(EdgeScores(engine.graph, values), edges=engine.graph.n_edges // 2)
    reader = ImageReader(None, (2, 8, 8), tuple(f"class {n}" for n in range(19)))
    data = PairSet("noise", "test", "logit_difference", pairs, ())
    found = find_patterns(circuit, engine, data, get_ablation("patch"), reader)
    assert found is not None
    return found


def own_weights(engine: FusedPass, image: torch.Tensor, head: dict[str, Any]) -> np.ndarray:
    engine.adapter.hf.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = engine.adapter.hf(image[None], output_attentions=True).attentions
    layer, index = (int(part[1:]) for part in head["node"].split("."))
    weights: np.ndarray = attentions[layer][0, index].numpy()
    return weights


def test_weights_over_all_positions_are_those_that_transformers_reports(
    engine: FusedPass, pairs: tuple[ImagePair, ...]
) -> None:
    found = looked_at(engine, pairs)
    n = engine.adapter.max_length
    shape = (len(found["heads"]), len(found["runs"]), len(pairs), n, n)
    weights = np.frombuffer(zlib.decompress(base64.b64decode(found["weights"])), np.uint8).reshape(shape) / 255
    for h, head in enumerate(found["heads"]):
        for i, pair in enumerate(pairs):
            assert weights[h, 0, i] == pytest.approx(own_weights(engine, pair.clean, head), abs=0.004)
            assert weights[h, 2, i] == pytest.approx(own_weights(engine, pair.corrupted, head), abs=0.004)


def test_a_pair_is_shown_as_patches_of_what_the_model_reads(
    engine: FusedPass, pairs: tuple[ImagePair, ...]
) -> None:
    (shown, _) = looked_at(engine, pairs)["pairs"]
    rows, columns = engine.adapter.patches
    assert shown["clean"][:2] == ["class token", "row 1, column 1"]
    assert shown["clean"][-1] == f"row {rows}, column {columns}"
    assert len(shown["clean"]) == rows * columns + 1
    assert (shown["answer"], shown["wrong"]) == (["class 1"], ["class 2"])
    for image, picture in zip((pairs[0].clean, pairs[0].corrupted), shown["images"]["pictures"], strict=True):
        seen = np.array(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))))
        assert np.corrcoef(seen.flatten(), image[0].flatten())[0, 1] > 0.999


def test_of_many_patches_only_the_class_token_is_watched(
    engine: FusedPass, pairs: tuple[ImagePair, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(patterns, "MOST_TOKENS", engine.adapter.max_length - 1)
    found = looked_at(engine, pairs)
    write_json(tmp_path / "patterns.json", found)
    assert read_json(tmp_path / "patterns.json", PatternsContent) == found
    shape = (len(found["heads"]), len(found["runs"]), len(pairs), engine.adapter.max_length)
    weights = np.frombuffer(zlib.decompress(base64.b64decode(found["weights"])), np.uint8).reshape(shape) / 255
    for h, head in enumerate(found["heads"]):
        assert weights[h, 2, 1] == pytest.approx(own_weights(engine, pairs[1].corrupted, head)[0], abs=0.004)


@pytest.mark.parametrize(("images", "message"), [
    ({"grid": [4, 5]}, "a position for each patch of the grid"),
    ({"pictures": ["https://example.org/a.png", "x"]}, "pictures"),
    ({"queries": 1}, "weights: expected"),
])  # fmt: skip
def test_damaged_patterns_of_images_are_refused(
    images: dict[str, Any], message: str, engine: FusedPass, pairs: tuple[ImagePair, ...], tmp_path: Any
) -> None:
    found = looked_at(engine, pairs)
    for pair in found["pairs"]:
        pair["images"] |= images
    write_json(tmp_path / "patterns.json", found)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "patterns.json", PatternsContent)
