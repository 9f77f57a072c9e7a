"""A page inside a notebook: an iframe that carries it, so that its style and script touch nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from edge_pruning import files

HEIGHT = 900


@dataclass(frozen=True)
class Inline:
    """Notebooks show it where a cell ends with it; `save` writes the page to a file."""

    page: str
    height: int = HEIGHT

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="Circuit" sandbox="allow-scripts allow-downloads" srcdoc="{escape(self.page)}" '
            f'style="width:100%;height:{self.height}px;border:0"></iframe>'
        )

    def save(self, path: str | Path) -> None:
        files.write_text(Path(path), self.page)
