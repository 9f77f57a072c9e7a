"""The task `digits` keeps what every task promises, and holds out what the bundled model was trained on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from image_readers import reader_of
from transformers import PreTrainedTokenizerBase

from edge_pruning.models.image_reader import ImageReader
from edge_pruning.tasks import SPLITS, get_task
from edge_pruning.tasks.digit_images import SIZES, digit_images
from edge_pruning.tasks.image_text import ImageText

SMALL: Any = {"train": 16, "validation": 16, "test": 16}


@pytest.fixture(scope="module")
def reader() -> ImageReader:
    return reader_of(tuple("0123456789"))


def test_the_same_settings_give_the_same_pairs_and_another_seed_others(reader: ImageReader) -> None:
    task = get_task("digits", **SMALL)
    first, again, other = (t.pairs(reader, "train") for t in (task, task, replace(task, seed=1)))
    assert first == again
    assert first.hash == again.hash != other.hash


def test_partners_are_of_another_class_of_the_same_split(reader: ImageReader) -> None:
    seen = []
    for split in SPLITS:
        data = get_task("digits", **SMALL).pairs(reader, split)
        digits = {reader.read(_image(split, i)).numpy().tobytes(): d for i, d in enumerate(digit_images(split).digits)}
        for pair, text in zip(data.pairs, data.texts, strict=True):
            clean, corrupted = (digits[image.numpy().tobytes()] for image in (pair.clean, pair.corrupted))
            assert pair.answers == ((clean,),)
            assert pair.wrong == ((corrupted,),)
            assert clean != corrupted
            assert isinstance(text, ImageText)
            assert text.answer + text.wrong == (str(clean), str(corrupted))
            assert all(picture.startswith("data:image/png;base64,") for picture in text.pictures)
        seen.append(set(digits))
    assert not any(a & b for a, b in itertools.combinations(seen, 2))


def _image(split: str, i: int) -> Any:
    from PIL import Image

    return Image.fromarray(digit_images(split).pixels[i])


def test_every_held_out_image_is_judged_once(reader: ImageReader) -> None:
    for split in ("validation", "test"):
        data = get_task("digits", validation=10**4, test=10**4).pairs(reader, split)
        assert len({pair.clean.numpy().tobytes() for pair in data.pairs}) == len(data.pairs) == SIZES[split]
        assert data.notices == (f"{split}: {SIZES[split]} pairs, all there are; 10000 were requested",)


def test_training_pairs_are_enlarged_with_other_partners(reader: ImageReader) -> None:
    data = get_task("digits", digit=3, other=8, train=60).pairs(reader, "train")
    more = data.enlarged(400)
    assert more.pairs[:60] == data.pairs
    assert len({(p.clean.numpy().tobytes(), p.corrupted.numpy().tobytes()) for p in more.pairs}) == 400
    assert {pair.answers + pair.wrong for pair in more.pairs} == {((3,), (8,))}


@pytest.mark.parametrize(("settings", "message"), [
    ({"test": 0, "digit": 12}, "at least one pair per split, got test=0; expected digit from 0 to 9, got 12"),
    ({"digit": 3, "other": 3}, "expected two different digits, got 3 twice"),
    ({"digit": True}, "expected digit from 0 to 9, got True"),
    ({"digits": 3}, "task 'digits' has no setting digits; its settings are .*digit"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_task("digits", **settings)


def test_a_model_without_the_classes_is_refused_with_all_that_it_lacks() -> None:
    with pytest.raises(ValueError, match="no class 0, 1, 2, 4, 5, 6, 7, 8, 9; its 4 classes begin with cat, dog"):
        get_task("digits").pairs(reader_of(("cat", "dog", "3", "owl")), "test")


def test_classes_without_names_are_called_by_their_numbers() -> None:
    data = get_task("digits", **SMALL).pairs(reader_of(tuple(f"LABEL_{n}" for n in range(10))), "test")
    assert {pair.answers for pair in data.pairs} > {((3,),), ((8,),)}


def test_images_for_a_language_model_and_text_for_a_vision_model_are_refused(
    reader: ImageReader, words: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(ValueError, match="'digits': its pairs are images, but the model does not read images; use a"):
        get_task("digits").pairs(words, "test")
    with pytest.raises(ValueError, match="'digits': the model has no image processor.*preprocessor_config.json"):
        get_task("digits").pairs(None, "test")
    for name in ("ioi", "boolean-expressions", "capitals"):
        with pytest.raises(ValueError, match=f"'{name}': its pairs are text, but the model reads images"):
            get_task(name).pairs(reader, "test")
