"""From circuits to one HTML page that people explore: no server, no network, one file.

The script and the style sheet are written into the page, and a content security policy lets only that script run, by
its hash. The data stands in a block that no browser executes, with `<` written as an escape, so that no token, label or
path can end it. Everything else that comes from outside passes the template engine, which escapes it.
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
    """The page as text. Raises ValueError without circuits."""
    if not sources:
        raise ValueError("expected at least one circuit to show, got none")
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
    """How a content security policy names a script: the hash of what stands between its tags."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def inert(value: Any) -> str:
    """JSON that can stand between script tags: nothing in it ends the block or begins a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("view.html")
