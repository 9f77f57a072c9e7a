"""The vision model that ships with the library loads offline, is small, and reads held-out digits as its card says."""

from __future__ import annotations

import re

import pytest
import torch
from PIL import Image
from random_models import VISION
from safetensors import safe_open

from edge_pruning.loading.loading import load_model
from edge_pruning.models.digits import DIGITS
from edge_pruning.tasks.digit_images import SIZES, digit_images

pytestmark = pytest.mark.skipif(not VISION, reason="this version of transformers is too old for ViT")
CARD = (DIGITS / "README.md").read_text(encoding="utf-8")


def test_the_folder_is_well_under_a_megabyte_and_has_a_card() -> None:
    assert sum(path.stat().st_size for path in DIGITS.iterdir() if path.is_file()) < 5e5
    with safe_open(DIGITS / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118  # no mapping
    assert "license: apache-2.0" in CARD
    assert "python scripts/train_digits.py" in CARD


def test_held_out_digits_are_read_as_the_card_says() -> None:
    model = load_model("digits", device="cpu")
    assert model.tokenizer.classes == tuple("0123456789")
    for split in SIZES:
        images = digit_images(split)
        pixels = torch.stack([model.tokenizer.read(Image.fromarray(one)) for one in images.pixels])
        right = (model.adapter.hf(pixels).logits.argmax(-1) == torch.tensor(images.digits)).double().mean().item()
        row = re.search(rf"\| {split} \| ([\d,]+) \| ([\d.]+)% \|", CARD)
        assert row is not None
        assert int(row[1].replace(",", "")) == len(images)
        assert float(row[2]) == pytest.approx(100 * right, abs=0.3)  # another machine may round one image away
        assert right >= 0.97


def test_the_splits_are_all_images_once_and_always_the_same() -> None:
    from sklearn.datasets import load_digits

    splits = [digit_images(split) for split in SIZES]
    found = sorted(tuple(image.flatten().tolist()) for split in splits for image in split.pixels)
    every = (load_digits().images * 255 / 16).round().astype(int)
    assert found == sorted(tuple(image.flatten().tolist()) for image in every)
    assert [split.digits[:8] for split in splits] == FIRST


FIRST = [(0, 8, 4, 6, 5, 7, 6, 8), (6, 1, 0, 0, 4, 4, 9, 3), (9, 3, 5, 2, 5, 4, 4, 2)]  # of each split
