"""Picture files: SVG is written as it is, PNG and PDF are made by CairoSVG, which the extra `[pictures]` installs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from edge_pruning import files

SCALE = 2  # pixels of a PNG per unit of the SVG, so that text stays sharp
CONVERTERS = {".png": "svg2png", ".pdf": "svg2pdf"}  # functions of CairoSVG
KINDS = (".svg", *CONVERTERS)


def check_picture(path: Path) -> None:
    """Raise ValueError if no picture can be written to this file name. Called before the work, so that none is lost."""
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"{path}: expected a name that ends with {', '.join(KINDS)}, which sets the kind of picture")
    if path.suffix.lower() in CONVERTERS:
        _cairosvg(path)


def save_picture(path: str | Path, svg: str) -> None:
    """Write SVG text as the kind of picture that the file name ends with. Raises ValueError as `check_picture` does."""
    path = Path(path)
    check_picture(path)
    converter = CONVERTERS.get(path.suffix.lower())
    if converter is None:
        files.write_text(path, svg)
    else:
        files.write_bytes(path, getattr(_cairosvg(path), converter)(bytestring=svg.encode(), scale=SCALE))


def _cairosvg(path: Path) -> Any:
    try:
        return importlib.import_module("cairosvg")
    except ImportError:
        raise ValueError(f"{path}: PNG and PDF need CairoSVG, which is not installed: pip install "
                         "'edge-pruning[pictures]'; a file that ends with .svg does not need it") from None  # fmt: skip
    except OSError as error:  # the package is there, the system's library is not
        raise ValueError(f"{path}: CairoSVG does not find the library cairo ({str(error).splitlines()[0]}); install it "
                         "(Debian: libcairo2, macOS: cairo), or write SVG") from None  # fmt: skip
