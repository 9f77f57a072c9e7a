"""Whatever goes wrong while a file is written, the old version stays and nothing is left lying about."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_pruning import files


def _full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def _fails_after(written: int) -> Callable[..., Any]:
    """An `open` whose files take a few bytes and then say that the disk is full."""
    real = io.open

    def opened(*args: Any, **kwargs: Any) -> Any:
        file = real(*args, **kwargs)
        if "w" in (args[1] if len(args) > 1 else kwargs.get("mode", "r")):
            write = file.write
            file = _Full(file, lambda content: (write(content[:written]), _full_disk()))
        return file

    return opened


class _Full:
    def __init__(self, file: Any, write: Callable[[bytes], Any]) -> None:
        self._file, self.write = file, write

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "circuit.json"
    path.write_bytes(b"old")
    return path


@pytest.fixture(params=["write", "fsync", "replace"])
def full_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A disk that is full when the bytes are written, when they are flushed, or when the file is renamed."""
    if request.param == "write":
        monkeypatch.setattr(io, "open", _fails_after(3))
    elif request.param == "fsync":
        monkeypatch.setattr(os, "fsync", _full_disk)
    else:
        monkeypatch.setattr(Path, "replace", _full_disk)
    return str(request.param)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(old_file: Path, full_disk: str) -> None:
    with pytest.raises(OSError, match="could not write .*No space left on device. The previous version") as error:
        files.write_bytes(old_file, b"a longer new version")
    assert error.value.errno == errno.ENOSPC
    assert old_file.read_bytes() == b"old"
    assert os.listdir(old_file.parent) == [old_file.name]


def test_a_full_disk_leaves_no_file_where_there_was_none(tmp_path: Path, full_disk: str) -> None:
    with pytest.raises(OSError, match="No space left on device") as error:
        files.write_bytes(tmp_path / "circuit.json", b"content")
    assert "previous version" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(old_file, b"new")
    assert old_file.read_bytes() == b"old"
    assert os.listdir(old_file.parent) == [old_file.name]


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match=r"could not write .*runs/circuit\.json"):
        files.write_bytes(tmp_path / "runs" / "circuit.json", b"content")
    assert (tmp_path / "runs").read_text() == "a file"


def test_folders_are_made_and_files_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    files.write_text(path, "eins")
    files.write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert os.listdir(path.parent) == ["c.txt"]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"name": "Zoë ☃", "numbers": [1, 2.5, None, True], "nested": {"a": []}}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value
    assert "Zoë ☃" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = {
        "transposed": base.T, "scalar": torch.tensor(3), "flags": base > 4, "half": base.bfloat16(),
        "infinite": torch.tensor([torch.inf, -torch.inf, torch.nan]), "none": torch.zeros(0, 5),
    }  # fmt: skip
    files.write_tensors(tmp_path / "x.safetensors", tensors, {"step": "3"})
    found = files.read_tensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, equal_nan=True, rtol=0, atol=0)


def test_truncated_files_are_refused_by_name_wherever_they_end(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"edges": ["input->logits"]})
    files.write_tensors(tmp_path / "x.safetensors", {"scores": torch.arange(4.0)})
    whole_json, whole_tensors = (tmp_path / "x.json").read_bytes(), (tmp_path / "x.safetensors").read_bytes()
    for end in range(len(whole_json) - 2):  # the last two bytes are the closing brace and the end of the line
        (tmp_path / "x.json").write_bytes(whole_json[:end])
        with pytest.raises(ValueError, match=r"x\.json is truncated or not JSON"):
            files.read_json(tmp_path / "x.json")
    for end in range(len(whole_tensors)):
        (tmp_path / "x.safetensors").write_bytes(whole_tensors[:end])
        with pytest.raises(ValueError, match=r"x\.safetensors is truncated or not a safetensors file"):
            files.read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("read", [files.read_json, files.read_tensors])
def test_missing_files_and_folders_are_refused_by_name(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected a file, but .* is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("read", [files.read_json, files.read_tensors])
def test_files_of_other_kinds_are_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(ValueError, match="noise is truncated or not"):
        read(tmp_path / "noise")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400"])
def test_numbers_that_json_has_not_are_refused_in_own_files(tmp_path: Path, number: str) -> None:
    (tmp_path / "x.json").write_text(f'{{"format": "f", "version": 1, "somewhere": [{number}]}}')
    with pytest.raises(ValueError, match=r"x\.json is damaged: expected finite numbers or null"):
        files.read_own(tmp_path / "x.json", "f", 1, dict)
