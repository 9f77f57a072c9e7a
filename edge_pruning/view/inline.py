"""A page inside a notebook: an iframe contains it, so that its style and script affect nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from edge_pruning import files

HEIGHT = 900


@dataclass(frozen=True)
class Inline:
    """A page that a notebook shows if it is the last value of a cell.

    page: HTML.
    height: of the iframe, in pixels.
    """

    page: str
    height: int = HEIGHT

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="Circuit" sandbox="allow-scripts allow-downloads" srcdoc="{escape(self.page)}" '
            f'style="width:100%;height:{self.height}px;border:0"></iframe>'
        )

    def save(self, path: str | Path) -> None:
        """Write the page to a file."""
        files.write_text(Path(path), self.page)
