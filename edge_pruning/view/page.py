"""Make one interactive HTML file of circuits. It needs no server and no network.

The page contains its script and its style sheet. A content security policy allows only that script, by its hash. The
data is in a block that browsers do not execute, with `<` escaped, so that no token, label or path can end the block.
The template engine escapes all other text from outside.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edge_pruning.page.page import look, parts
from edge_pruning.view.commands import commands_of
from edge_pruning.view.content import content_of
from edge_pruning.view.source import Source, sources_of

HERE = Path(__file__).parent


def view_page(sources: Sequence[Source]) -> str:
    """The page as HTML text. Raises ValueError without circuits."""
    if not sources:
        raise ValueError("expected at least one circuit to show, got none; give run folders or circuit files")
    script = (HERE / "app.js").read_text(encoding="utf-8")
    reports = [
        {"name": source.name, "commands": commands_of(source), **parts(source.report, source.circuit, prefix=f"r{i}-")}
        for i, source in enumerate(sources) if source.report
    ]
    return str(_template().render(
        title=sources[0].title if len(sources) == 1 else ", ".join(source.name for source in sources),
        subtitle=sources[0].circuit if not reports else None,
        policy=f"default-src 'none'; script-src '{hash_of(script)}'; style-src 'unsafe-inline'; img-src blob: data:; "
               "base-uri 'none'; form-action 'none'",
        reports=reports,
        data=Markup(inert(content_of(sources))),
        script=Markup(script),
        own_style=Markup((HERE / "app.css").read_text(encoding="utf-8")),
        **look(),
    ))


def view_paths(paths: Sequence[Path], **of_foreign_files: Any) -> str:
    """The page about run folders and circuit files; see `sources_of`."""
    return view_page(sources_of(paths, **of_foreign_files))


def hash_of(script: str) -> str:
    """The name of a script in a content security policy: the hash of the text between its tags."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def inert(value: Any) -> str:
    """JSON that is safe between script tags: nothing in it can end the block or begin a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("view.html")
