"""A vision model's reader without a model."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from transformers import ViTImageProcessorPil

from edge_pruning.models.image_reader import ImageReader


def reader_of(classes: Sequence[str], *, size: int = 8, channels: int = 1, **settings: Any) -> ImageReader:
    """A reader of square images; settings: of the image processor."""
    grey = [0.5] * channels
    processor = ViTImageProcessorPil(
        **{"size": {"height": size, "width": size}, "image_mean": grey, "image_std": grey, **settings}
    )
    names = dict(enumerate(classes))
    config = SimpleNamespace(image_size=size, num_channels=channels, id2label=names, num_labels=len(names))
    return ImageReader.of(processor, config)
