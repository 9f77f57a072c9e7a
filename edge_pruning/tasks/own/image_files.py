"""Images from files and addresses, and a folder with a folder of images for each class.

    photos/cat/1.png  photos/dog/2.png  ...                      divided 60 / 20 / 20 by a hash, class by class
    photos/train/cat/1.png  photos/test/dog/2.png  ...           divided as the folders say

In a folder of classes every image is clean once, and its partner is drawn from another class of its split.
"""

from __future__ import annotations

import hashlib
import io
import random
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_pruning import files
from edge_pruning.tasks.own.splits import divided

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
ADDRESSES = ("http://", "https://")
SECONDS_TO_ANSWER = 20.0
MOST_BYTES = 50_000_000  # of an image that is downloaded
SPLIT_FOLDERS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
                 "test": "test"}  # fmt: skip


def is_image_name(name: Any) -> bool:
    """Whether a text is the path or the address of an image."""
    return isinstance(name, str) and (name.startswith(ADDRESSES) or Path(name).suffix.lower() in SUFFIXES)


def open_image(name: str, folder: Path) -> Image:
    """The image at a path (relative to `folder`) or an address, turned upright. Raises ValueError if there is none."""
    from PIL import Image as Images
    from PIL import ImageOps

    content = _downloaded(name) if name.startswith(ADDRESSES) else _read(folder / name)
    try:
        image = Images.open(io.BytesIO(content))
        image.load()
    except Images.DecompressionBombError:
        raise ValueError(f"{name} has too many pixels; make it smaller first") from None
    except Exception as error:  # each of Pillow's readers raises its own for damaged files
        raise ValueError(f"{name} is damaged, or no image ({str(error) or type(error).__name__})") from None
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"{name} holds {image.n_frames} pictures; expected one")  # type: ignore[attr-defined]
    return ImageOps.exif_transpose(image)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"there is no image {path}")
    return files.read_bytes(path)


def _downloaded(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=SECONDS_TO_ANSWER) as answer:
            content: bytes = answer.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # no network, no such page, no address
        raise ValueError(f"{address} cannot be downloaded: {error}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"{address} is larger than {MOST_BYTES:,} bytes")
    return content


# --- a folder for each class ------------------------------------------------------------------------------------------


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds folders of images: of classes, or of splits with classes in them."""
    return path.is_dir() and any(_images(folder) for folder in _class_folders(path))


def _class_folders(path: Path) -> list[Path]:
    inside = _folders(path)
    return [one for split in inside for one in _folders(split)] if _is_divided(inside) else inside


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir())


def _is_divided(folders: list[Path]) -> bool:
    return bool(folders) and all(folder.name in SPLIT_FOLDERS for folder in folders)


def _images(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_file() and is_image_name(child.name))


def folder_rows(path: Path, seed: int) -> list[Mapping[str, Any]]:
    """A row for each image, as a file of pairs would have it. Raises ValueError if a split has only one class."""
    splits = _by_split(path, seed)
    alone = {split: list(classes) for split, classes in splits.items() if len(classes) < 2}
    if alone:
        found = "; ".join(f"{split}: {', '.join(classes) or 'none'}" for split, classes in alone.items())
        raise ValueError(
            f"{path}: partners are drawn from another class of the same split, so each split needs images of at least "
            f"two classes ({found})"
        )
    return [row for split, classes in splits.items() for row in _drawn(path, split, classes, seed)]


def _by_split(path: Path, seed: int) -> dict[str, dict[str, list[Path]]]:
    """Images by split and class."""
    inside = _folders(path)
    if _is_divided(inside):
        return {
            SPLIT_FOLDERS[split.name]: {one.name: images for one in _folders(split) if (images := _images(one))}
            for split in inside
        }
    splits: dict[str, dict[str, list[Path]]] = {}
    for folder in inside:
        names = [image.relative_to(path).as_posix() for image in _images(folder)]
        for name, split in divided(names, seed).items():
            splits.setdefault(split, {}).setdefault(folder.name, []).append(path / name)
    return splits


def _drawn(path: Path, split: str, classes: Mapping[str, list[Path]], seed: int) -> Iterator[Mapping[str, Any]]:
    for name, images in classes.items():
        others = [(other, image) for other, of in classes.items() if other != name for image in of]
        for image in images:
            clean = image.relative_to(path).as_posix()
            digest = hashlib.sha256(f"{seed} {clean}".encode()).hexdigest()
            partner_class, partner = random.Random(digest).choice(others)
            yield {
                "clean": clean, "corrupted": partner.relative_to(path).as_posix(), "class": name,
                "other_class": partner_class, "split": split,
            }
