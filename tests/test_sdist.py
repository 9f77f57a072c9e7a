"""The source distribution holds everything that is needed to run the tests: what git tracks, but for CI's own files."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77")

ROOT = Path(__file__).parents[1]
NOT_NEEDED = {".gitignore", ".ci"}  # and everything below them


def tracked() -> set[str]:
    shown = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if shown.returncode:
        pytest.skip("this checkout is not a git repository")
    names = shown.stdout.splitlines()
    return {name for name in names if name.split("/")[0] not in NOT_NEEDED and (ROOT / name).exists()}


def test_the_source_distribution_holds_every_file_that_git_tracks(tmp_path: Path) -> None:
    metadata = {"--global-option": ["egg_info", f"--egg-base={tmp_path}"]}  # nothing is written into the checkout
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}, {metadata!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with tarfile.open(tmp_path / built.stdout.splitlines()[-1]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert not tracked() - held
    assert not any("__pycache__" in name or "node_modules" in name for name in held)
