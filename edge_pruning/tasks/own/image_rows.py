"""Rows whose prompts are paths or addresses of images, and whose answers are classes, as a vision model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, equal

from edge_pruning.answer_tree import Ids
from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import ImagePair
from edge_pruning.tasks.image_text import ImageText, picture
from edge_pruning.tasks.own.encoded import Encoded
from edge_pruning.tasks.own.image_files import SUFFIXES, is_image_name, open_image
from edge_pruning.tasks.own.problems import Notices, Problems
from edge_pruning.tasks.own.rows import Row


class EncodedImages(Encoded):
    """Every image is read once, in however many pairs it is. folder: where relative paths begin."""

    def __init__(self, reader: ImageReader, folder: Path, problems: Problems, notices: Notices) -> None:
        super().__init__(problems, notices)
        self.reader, self.folder = reader, folder
        self._read: dict[str, tuple[Tensor, str] | ValueError] = {}

    def add_all(self, rows: Sequence[Row]) -> None:
        if rows and not any(is_image_name(row.clean) for row in rows):
            raise ValueError(
                f"{self.problems.what}: its pairs are text, but the model reads images; expected paths or addresses of "
                f"images ({', '.join(SUFFIXES)}), or use a language model"
            )
        super().add_all(rows)

    def encoded(self, row: Row, notices: Notices) -> tuple[ImageText, ImagePair]:
        wrongs, images = [], []
        for name in dict.fromkeys((row.clean, row.corrupted)):
            try:
                images.append(self._image(name))
            except ValueError as error:
                wrongs.append(str(error))
        answers, wrong = (self._classes(names, wrongs) for names in (row.answer, row.wrong))
        if set(answers) & set(wrong):
            wrongs.append(f"{self.reader.decode(answers)} is both the class and the other class")
        if len(images) == 2 and equal(images[0][0], images[1][0]):
            wrongs.append("the clean and the corrupted image are the same picture")
        if wrongs:
            raise ValueError("; ".join(wrongs))
        (clean, shown), (corrupted, also_shown) = images
        names, others = (tuple(self.reader.classes[n] for n in numbers) for numbers in (answers, wrong))
        template = " or ".join(names)
        return (
            ImageText(str(row.clean), str(row.corrupted), names, others, template, (shown, also_shown)),
            ImagePair(clean, corrupted, answers=(answers,), wrong=(wrong,), template=template),
        )

    def _image(self, name: str | Ids) -> tuple[Tensor, str]:
        """The image as the model reads it, and as a small picture. Raises ValueError if there is none that fits."""
        if not isinstance(name, str):
            raise ValueError("expected the path or address of an image, got token ids")
        if name not in self._read:
            self._read[name] = self._opened(name)
        found = self._read[name]
        if isinstance(found, ValueError):
            raise found
        return found

    def _opened(self, name: str) -> tuple[Tensor, str] | ValueError:
        try:
            image = open_image(name, self.folder)
        except ValueError as error:
            return error
        try:
            return self.reader.read(image), picture(image)
        except ValueError as error:
            return ValueError(f"{name}: {error}")

    def _classes(self, names: Sequence[str | int | Ids], wrongs: list[str]) -> Ids:
        """The numbers of classes; what the model does not have is added to `wrongs`."""
        numbers = []
        for name in names:
            if isinstance(name, tuple):
                wrongs.append(f"expected a class by name or number, got the list {list(name)}")
                continue
            is_number = isinstance(name, str) and name.isdecimal() and name not in self.reader.classes
            try:
                numbers.append(self.reader.number_of(int(name) if is_number else name))
            except ValueError as error:
                wrongs.append(str(error))
        return tuple(dict.fromkeys(numbers))
