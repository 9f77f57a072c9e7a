"""A pair of images in words, and as small pictures, for whatever is printed or drawn of it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from edge_pruning.models.image_reader import ImageReader
from edge_pruning.tasks.encoding import TextPair

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 96  # pixels of a picture's longer side


@dataclass(frozen=True)
class ImageText(TextPair):
    """`clean` and `corrupted` say where the images come from; `answer` and `wrong` are names of classes.

    pictures: both images as data URIs (PNG, at most 96 pixels wide and high).
    """

    pictures: tuple[str, str] = ("", "")

    @property
    def shown(self) -> dict[str, Any]:
        return {**super().shown, "pictures": list(self.pictures)}


def picture(image: Image) -> str:
    """An image as a data URI, made smaller if it is large."""
    from PIL import Image as Images

    small = image.copy()
    small.thumbnail((LARGEST, LARGEST), Images.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture_of(pixels: Tensor) -> str:
    """What a model reads [channel, height, width] as a data URI, from its darkest to its brightest value.

    Unlike the file it shows what the image processor has left of the image, so that patches lie where the model's do.
    """
    from PIL import Image

    values = pixels.float().cpu()
    values = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-12)
    grey = (255 * values).round().byte().permute(1, 2, 0).numpy()  # [height, width, channel]
    return picture(Image.fromarray(grey[..., 0] if grey.shape[-1] != 3 else grey))


def image_reader(tokenizer: Any, what: str) -> ImageReader:
    """The reader of a vision model, as `Model.tokenizer` holds it. Raises ValueError for another kind of model."""
    if isinstance(tokenizer, ImageReader):
        return tokenizer
    if tokenizer is None:
        raise ValueError(
            f"{what}: the model has no image processor, so it cannot read images; put the preprocessor_config.json of "
            "the model that it was trained from into its folder"
        )
    raise ValueError(
        f"{what}: its pairs are images, but the model does not read images; use a vision model, such as "
        "--model digits or a ViT"
    )
