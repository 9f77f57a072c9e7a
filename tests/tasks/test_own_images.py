"""Images of one's own: a file of pairs or a folder for each class, and everything that can be wrong with them."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_readers import reader_of
from PIL import Image
from transformers import PreTrainedTokenizerBase

from edge_pruning.models.image_reader import ImageReader
from edge_pruning.tasks import SPLITS, get_task
from edge_pruning.tasks.image_text import ImageText

CLASSES = ("tabby, tabby cat", "dog", "owl")


@pytest.fixture
def reader() -> ImageReader:
    return reader_of(CLASSES)


def grey(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """An image of one shade, but for its first pixel."""
    image = Image.new("L", size, value)
    image.putpixel((0, 0), 255 - value)
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images in a folder, and pairs of them in images.jsonl."""
    rows = []
    for i in range(12):
        grey(10 * i).save(tmp_path / f"{i}.png")
        row = {"clean": f"{i}.png", "corrupted": f"{(i + 1) % 12}.png", "class": "cat", "other_class": "dog"}
        rows.append({**row, "class": "tabby"} if i % 2 else row | {"class": "tabby cat"})
    write(tmp_path / "images.jsonl", rows)
    return tmp_path / "images.jsonl"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_of_paths_becomes_pairs_of_images(photos: Path, reader: ImageReader) -> None:
    task = get_task(str(photos))
    sets = {split: task.pairs(reader, split) for split in SPLITS}
    assert {split: len(pairs.pairs) for split, pairs in sets.items()} == {"train": 8, "validation": 2, "test": 2}
    for pairs in sets.values():
        for pair, text in zip(pairs.pairs, pairs.texts, strict=True):
            assert pair.answers == ((0,),)
            assert pair.wrong == ((1,),)
            assert isinstance(text, ImageText)
            assert (text.answer, text.wrong) == (("tabby, tabby cat",), ("dog",))
            expected = torch.from_numpy(np.array(Image.open(photos.parent / text.clean))) / 127.5 - 1
            torch.testing.assert_close(pair.clean[0], expected)


def test_classes_are_named_by_number_too_and_may_be_missing(photos: Path, reader: ImageReader) -> None:
    rows = [{"clean_image": f"{i}.png", "corrupted_image": f"{i + 1}.png", "class": i % 3} for i in range(6)]
    pairs = get_task(str(write(photos, rows)), train=9).pairs(reader, "train").pairs
    assert {pair.answers for pair in pairs} <= {((0,),), ((1,),), ((2,),)}
    without = [{"clean": f"{i}.png", "corrupted": f"{i + 1}.png"} for i in range(6)]
    data = get_task(str(write(photos, without))).pairs(reader, "train")
    assert "the model's own prediction is the target" in " ".join(data.notices)
    table = photos.with_suffix(".csv")
    table.write_text("clean,corrupted,class\n" + "".join(f"{i}.png,{i + 1}.png,2\n" for i in range(4)))
    assert get_task(str(table)).pairs(reader, "test").pairs[0].answers == ((2,),)


def test_pairs_in_memory_are_found_from_anywhere(
    photos: Path, reader: ImageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    rows = [(f"{i}.png", f"{i + 1}.png", "dog") for i in range(3)]
    data = get_task(rows).pairs(reader, "test")
    assert Path(data.texts[0].clean).is_absolute()


def test_an_address_is_downloaded(photos: Path, reader: ImageReader, served: str) -> None:
    rows = [{"clean": f"{served}/{i}.png", "corrupted": f"{i + 1}.png", "class": "owl"} for i in range(3)]
    task = get_task(str(write(photos, rows)))
    pair = task.pairs(reader, "test").pairs[0]
    assert pair.answers == ((2,),)
    rows[1]["clean"] = f"{served}/none.png"
    with pytest.raises(ValueError, match="none.png cannot be downloaded: HTTP Error 404"):
        get_task(str(write(photos, rows))).pairs(reader, "test")


@pytest.fixture
def served(photos: Path) -> Iterator[str]:
    """The address of a server of the folder with the images."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(photos.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# --- a folder for each class ------------------------------------------------------------------------------------------


def folder(path: Path, classes: tuple[str, ...] = ("dog", "owl", "tabby"), each: int = 10) -> Path:
    for c, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(each):
            grey(40 * c + 3 * i).save(path / name / f"{i}.png")
    return path


def test_in_a_folder_of_classes_partners_are_of_another_class_and_the_same_split(
    tmp_path: Path, reader: ImageReader
) -> None:
    task, seen = get_task(str(folder(tmp_path))), []
    for split, n in (("train", 18), ("validation", 6), ("test", 6)):
        data = task.pairs(reader, split)
        assert len(data.pairs) == n
        for text in data.texts:
            assert text.clean.partition("/")[0] in text.answer[0]
            assert text.corrupted.partition("/")[0] in text.wrong[0]
            assert text.answer != text.wrong
        seen.append({name for text in data.texts for name in (text.clean, text.corrupted)})
    assert not any(a & b for a, b in itertools.combinations(seen, 2))
    assert task.pairs(reader, "test").hash == get_task(str(tmp_path)).pairs(reader, "test").hash


def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path, reader: ImageReader) -> None:
    for split, each in (("train", 4), ("val", 2), ("test", 3)):
        folder(tmp_path / split, ("dog", "owl"), each)
    sizes = {split: len(get_task(str(tmp_path)).pairs(reader, split).pairs) for split in SPLITS}
    assert sizes == {"train": 8, "validation": 4, "test": 6}


def test_one_class_alone_has_no_partners(tmp_path: Path, reader: ImageReader) -> None:
    with pytest.raises(ValueError, match=r"at least two classes \(test: dog; validation: dog; train: dog\)"):
        get_task(str(folder(tmp_path, ("dog",)))).pairs(reader, "test")


# --- bad input --------------------------------------------------------------------------------------------------------


def test_every_bad_image_and_class_is_listed_at_once(photos: Path, reader: ImageReader) -> None:
    here = photos.parent
    (here / "broken.png").write_bytes((here / "1.png").read_bytes()[:40])
    (here / "text.png").write_text("no image")
    Image.new("RGB", (8, 8), (200, 10, 10)).save(here / "red.png")
    Image.new("RGBA", (8, 8), (9, 9, 9, 100)).save(here / "glass.png")
    Image.new("I;16", (8, 8), 3000).save(here / "deep.png")
    grey(1).save(here / "film.gif", save_all=True, append_images=[grey(2)])
    bad = {
        "none.png": "there is no image .*none.png", "broken.png": "broken.png is damaged, or no image",
        "text.png": "text.png is damaged, or no image", "red.png": "red.png: it is in colour, but the model reads grey",
        "glass.png": "glass.png: it has transparent pixels", "deep.png": "deep.png: its pixels are I",
        "film.gif": "film.gif holds 2 pictures",
    }
    rows = [{"clean": name, "corrupted": "1.png", "class": "dog"} for name in bad]
    rows.append({"clean": "2.png", "corrupted": "3.png", "class": "zebra", "other_class": "horse"})
    rows.append({"clean": "2.png", "corrupted": "3.png", "class": "cat", "other_class": "tabby"})
    grey(20).save(here / "again.png")
    rows.append({"clean": "2.png", "corrupted": "again.png", "class": "dog"})
    rows.append({"clean": "4.png", "corrupted": "5.png", "class": "dog", "other_class": 1})
    with pytest.raises(ValueError, match="11 problems") as refused:
        get_task(str(write(photos, rows))).pairs(reader, "test")
    lines = str(refused.value).splitlines()[1:]
    expected = [
        *bad.values(), "no class 'zebra'; it has 3 classes.*no class 'horse'", "no class 'cat'",
        "the same picture", "dog is both the class and the other class",
    ]
    for line, words in zip(lines, expected, strict=True):
        assert re.search(words, line), (words, line)


def test_an_image_that_the_processor_does_not_make_fit_is_refused(photos: Path) -> None:
    reader = reader_of(CLASSES, do_resize=False)
    grey(7, (9, 5)).save(photos.parent / "1.png")
    with pytest.raises(ValueError, match="1.png: an image of 9 x 5 pixels becomes 9 x 5 .* the model reads 8 x 8"):
        get_task(str(photos)).pairs(reader, "test")


def test_conversions_lose_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    image, colour = Image.fromarray(pixels), reader_of(CLASSES, channels=3)
    expected = colour.read(image.convert("RGB"))
    assert torch.equal(expected[0], expected[2])
    for mode in ("L", "LA", "RGBA", "P"):
        assert torch.equal(colour.read(image.convert(mode)), expected)
    assert torch.equal(reader_of(CLASSES).read(image.convert("RGB")), expected[:1])
    with pytest.raises(ValueError, match="2 channels, but image files have 1 or 3"):
        reader_of(CLASSES, channels=2).read(image)


def test_images_for_a_language_model_and_text_for_a_vision_model_are_refused(
    photos: Path, reader: ImageReader, words: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(ValueError, match="its pairs are images, but the model does not read images"):
        get_task(str(photos)).pairs(words, "test")
    text = write(photos.with_name("text.jsonl"), [{"clean": "One day, Lily", "corrupted": "One day, Tim"}])
    with pytest.raises(ValueError, match="its pairs are text, but the model reads images; expected paths or addresses"):
        get_task(str(text)).pairs(reader, "test")
    with pytest.raises(ValueError, match="the model reads images, so chat, bos would have no effect"):
        get_task(str(photos), chat=True, bos=True).pairs(reader, "test")
