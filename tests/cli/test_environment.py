"""What the command sets before torch is loaded, unless the user has set it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from edge_pruning.cli import main
sys.argv = ["edge-pruning", "--version"]
try:
    main()
except SystemExit:
    print(*(os.environ[name] for name in {names}))
"""
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


@pytest.mark.parametrize(("given", "expected"), [({}, ["128", "128"]), ({CACHES[1]: "7"}, ["128", "7"])])
def test_code_is_kept_for_few_shapes_of_products(given: dict[str, str], expected: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in CACHES} | given
    program = PROGRAM.format(names=CACHES)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == expected
