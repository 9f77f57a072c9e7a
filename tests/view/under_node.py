"""Runs the viewer's sources under node, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parents[2] / "viewer" / "src"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

SCRIPT = """
import { inflateSync } from "node:zlib";
import { readFileSync } from "node:fs";
const input = JSON.parse(readFileSync(0, "utf8"));
const inflate = (bytes) => new Uint8Array(inflateSync(bytes));
%s
"""


def under_node(body: str, given: Any) -> Any:
    """What `body` prints as JSON; `input` is what is given, `inflate` zlib's, `SRC` the sources' folder."""
    script = SCRIPT % body.replace("SRC", SOURCES.as_uri())
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
