"""How images become what a vision model reads, and what its classes are called.

An image is converted only if nothing is lost: grey becomes RGB, RGB with equal channels becomes grey, a palette becomes
its colours, and an alpha channel without transparency is dropped. Any other image is refused, because a circuit found
on a guessed conversion would answer another question. The model's own image processor sets the size and the range of
the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from edge_pruning.registry import nearest

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}  # Pillow's name for images of so many channels
SHOWN = 5  # names of classes, in a message


@dataclass(frozen=True, eq=False)
class ImageReader:
    """Takes the place of a language model's tokenizer in a vision model.

    processor: the model's image processor.
    shape: channels, height and width of the images that the model reads.
    classes: the names of the classes, in the order of their numbers; a class without a name is called by its number.
    """

    processor: Any
    shape: tuple[int, int, int]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, processor: Any, config: Any) -> ImageReader:
        """The reader of a vision model in transformers, from its image processor and its configuration."""
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        names = (str(config.id2label[number]) for number in range(config.num_labels))
        classes = tuple(str(n) if name == f"LABEL_{n}" else name for n, name in enumerate(names))  # no name was given
        return cls(processor, (config.num_channels, height, width), classes)

    def read(self, image: Image) -> Tensor:
        """The image as the model reads it [channel, height, width].

        Raises ValueError if a conversion would lose something, or if the image processor gives another size.
        """
        pixels: Tensor = self.processor(_converted(image, self.shape[0]), return_tensors="pt").pixel_values[0]
        if tuple(pixels.shape) != self.shape:
            raise ValueError(
                f"an image of {image.width} x {image.height} pixels becomes {_size(pixels.shape)} in the model's image "
                f"processor, but the model reads {_size(self.shape)}; resize it first"
            )
        return pixels

    def number_of(self, name: str | int) -> int:
        """The number of a class, from its number, its name, or a part of its name ("tabby" of "tabby, tabby cat").

        Raises ValueError if the model has no such class, or several.
        """
        if isinstance(name, int) and 0 <= name < len(self.classes):
            return name
        word = str(name).strip().lower()
        exact = [number for number, known in enumerate(self.classes) if known.lower() == word]
        loose = [n for n, known in enumerate(self.classes) if word in (one.strip() for one in known.lower().split(","))]
        found = exact or loose
        if len(found) == 1:
            return found[0]
        if found:
            numbers = ", ".join(map(str, found[:SHOWN]))
            raise ValueError(f"classes {numbers} of the model are all called {name!r}; give one of these numbers")
        near = nearest(str(name), self.classes)[:SHOWN] or self.classes[:SHOWN]
        raise ValueError(
            f"the model has no class {name!r}; it has {len(self.classes)} classes, such as {', '.join(map(repr, near))}"
        )

    def decode(self, numbers: Sequence[int]) -> str:
        """The names of the classes with these numbers, separated by commas."""
        return ", ".join(self.classes[number] for number in numbers)


def _converted(image: Image, channels: int) -> Image:
    """The same picture with `channels` channels. Raises ValueError if that would lose something."""
    if channels not in MODES:
        raise ValueError(
            f"the model reads images of {channels} channels, but image files have 1 or 3; give the images as tensors"
        )
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise ValueError("it has transparent pixels, which have no certain colour; put it on a background first")
        image = image.convert(image.mode.removesuffix("A"))
    if image.mode not in ("1", "L", "RGB"):
        raise ValueError(f"its pixels are {image.mode}; expected grey or RGB with 8 bits per channel")
    if MODES[channels] == "L" and image.mode == "RGB":
        bands = [band.tobytes() for band in image.split()]
        if bands.count(bands[0]) < len(bands):
            raise ValueError("it is in colour, but the model reads grey images; convert it first")
    return image.convert(MODES[channels])


def _size(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{width} x {height} pixels of {channels} channel{'s' * (channels != 1)}"
