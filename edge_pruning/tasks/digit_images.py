"""Handwritten digits: 1,797 real images of 8 x 8 pixels that scikit-learn brings, always split in the same way.

Source: the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI repository). No two
images are equal. The file does not say who wrote an image, so a split has other images than the others, not other
hands.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIZES = {"train": 1197, "validation": 200, "test": 400}  # images; the bundled model has seen those of train only
INK = 16  # the value of a black pixel in the data


@dataclass(frozen=True)
class DigitImages:
    """Some of the images: `pixels` [n, 8, 8] from 0 (paper) to 255 (ink) in whole numbers, and the digit on each."""

    pixels: np.ndarray
    digits: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.digits)


@cache
def digit_images(split: str) -> DigitImages:
    """The images of a split (train, validation or test), in an order drawn once and for all."""
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    order = random.Random("digits").sample(range(len(data.target)), len(data.target))
    before = list(SIZES).index(split)
    start = sum(list(SIZES.values())[:before])
    chosen = order[start : start + SIZES[split]]
    pixels = np.rint(data.images[chosen] * (255 / INK)).astype(np.uint8)
    return DigitImages(pixels, tuple(int(digit) for digit in data.target[chosen]))
