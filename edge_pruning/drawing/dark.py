"""Pictures on a dark page: the colours that are chosen for white paper, and what they become.

Pictures set their colours as attributes. A style sheet takes precedence over attributes, so a page can change the
colours without drawing anew.
"""

from __future__ import annotations

from edge_pruning.drawing.nodes import OTHER_FILL
from edge_pruning.drawing.stroke import BAND, FAINT, HUES, INK, MUTED

PAPER, DARK_PAPER = "#ffffff", "#171c22"
DARK = {
    PAPER: DARK_PAPER,
    INK: "#e4e8ec",
    MUTED: "#9aa5b1",
    FAINT: "#36404a",
    BAND: "#1d232a",
    OTHER_FILL: "#2b343d",
    HUES["q"]: "#4fa9e0",
    HUES["k"]: "#f0873c",
    HUES["v"]: "#2fc396",
    HUES["logits"]: "#b4bec8",
}


def dark_rules(inside: str) -> str:
    """Style rules for dark colours in the pictures inside a selector."""
    return "\n".join(
        f'{inside} [{attribute}="{light}"]{{{attribute}:{dark}}}'
        for light, dark in DARK.items() for attribute in ("fill", "stroke")
    )
