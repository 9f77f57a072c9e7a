"""Handwritten digits: an image of one digit, corrupted into an image of another digit.

Clean images and their partners are of one split (`digit_images.py`). The bundled model was trained on the images of the
training split; it has seen none of validation and test, so circuits are judged on images that are new to model and
circuit alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import ImagePair
from edge_pruning.tasks.digit_images import DigitImages, digit_images
from edge_pruning.tasks.image_text import ImageText, image_reader, picture
from edge_pruning.tasks.task import SPLITS, PairSet, Split, Task, task

if TYPE_CHECKING:
    from PIL.Image import Image

DIGITS = range(10)


@task
@dataclass(frozen=True, kw_only=True)
class Digits(Task):
    """Which digit is on an image.

    train, validation, test: at most so many pairs of each split.
    digit, other: only clean images of this digit, and only partners of that one; None for all.
    """

    name = "digits"
    summary = "an image of a handwritten 3, corrupted into one of an 8 -> class 3; for vision models"

    train: int = 200
    validation: int = 200
    test: int = 400
    digit: int | None = None
    other: int | None = None

    def __post_init__(self) -> None:
        sizes = {split: getattr(self, split) for split in SPLITS}
        problems = [
            f"expected at least one pair per split, got {split}={size!r}" for split, size in sizes.items()
            if not _is_number(size) or size < 1
        ]
        problems += [
            f"expected {name} from 0 to 9, got {value!r}" for name in ("digit", "other")
            if (value := getattr(self, name)) is not None and (not _is_number(value) or value not in DIGITS)
        ]
        if self.digit is not None and self.digit == self.other:
            problems.append(f"expected two different digits, got {self.digit} twice")
        if problems:
            raise ValueError(f"task {self.name!r}: {'; '.join(problems)}")

    @property
    def defaults(self) -> Mapping[str, Any]:
        return {"model": "digits"}

    def pairs(self, tokenizer: Any, split: str, *, max_length: int | None = None) -> PairSet:
        split, reader = self.check_split(split), image_reader(tokenizer, f"task {self.name!r}")
        return self._written(reader, split, getattr(self, split))

    def _written(self, reader: ImageReader, split: Split, size: int) -> PairSet:
        """The first `size` pairs of a split, or as many as there are; the same ones for every size."""
        images, classes = digit_images(split), self._classes(reader)
        chosen = list(islice(self._drawn(images, split), size))
        opened = {i: _image(images, i) for i in {i for pair in chosen for i in pair}}
        pixels = {i: reader.read(image) for i, image in opened.items()}
        pictures = {i: picture(image) for i, image in opened.items()}
        pairs, texts = [], []
        for clean, corrupted in chosen:
            right, wrong = images.digits[clean], images.digits[corrupted]
            pairs.append(ImagePair(
                pixels[clean], pixels[corrupted], answers=((classes[right],),), wrong=((classes[wrong],),),
                template=f"a {right}",
            ))
            texts.append(ImageText(
                f"{split} image {clean}: a {right}", f"{split} image {corrupted}: a {wrong}", (str(right),),
                (str(wrong),), f"a {right}", (pictures[clean], pictures[corrupted]),
            ))
        notices = (f"{split}: {len(pairs)} pairs, all there are; {size} were requested",) * (len(pairs) < size)
        return PairSet(
            self.name, split, self.metric, tuple(pairs), tuple(texts), notices, self.objective,
            partial(self._written, reader, split),
        )

    def _drawn(self, images: DigitImages, split: Split) -> Iterator[tuple[int, int]]:
        """Clean images and partners, by their places: every image once; in training, then again with other partners.

        Pairs to judge on are one for each image, because those that share an image are not independent.
        """
        rng = random.Random(f"{self.name} {split} {self.seed}")
        clean = [i for i, digit in enumerate(images.digits) if self.digit in (None, digit)]
        partners = {digit: self._partners(images, digit, rng) for digit in sorted({images.digits[i] for i in clean})}
        start = {i: rng.randrange(len(images)) for i in clean}
        rounds = min(map(len, partners.values())) if split == "train" else 1
        for done in range(rounds):
            for i in clean:
                others = partners[images.digits[i]]
                yield i, others[(start[i] + done) % len(others)]

    def _partners(self, images: DigitImages, digit: int, rng: random.Random) -> list[int]:
        """Images of other digits, in any order."""
        others = [i for i, other in enumerate(images.digits) if other != digit and self.other in (None, other)]
        return rng.sample(others, len(others))

    def _classes(self, reader: ImageReader) -> list[int]:
        """The model's classes of the digits. Raises ValueError if it lacks any."""
        missing = [str(digit) for digit in DIGITS if str(digit) not in reader.classes]
        if missing:
            raise ValueError(
                f"task {self.name!r}: the model has no class {', '.join(missing)}; its {len(reader.classes)} classes "
                f"begin with {', '.join(reader.classes[:5])}; use a model of digits, such as --model digits"
            )
        return [reader.number_of(str(digit)) for digit in DIGITS]


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _image(images: DigitImages, i: int) -> Image:
    from PIL import Image

    return Image.fromarray(images.pixels[i])
