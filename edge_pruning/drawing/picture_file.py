"""A picture in a file: SVG as it is; PNG and PDF by CairoSVG, which the extra `[pictures]` installs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from edge_pruning import files

SCALE = 2  # pixels of a PNG per unit of the SVG, so that text stays sharp
CONVERTERS = {".png": "svg2png", ".pdf": "svg2pdf"}  # functions of CairoSVG
KINDS = (".svg", *CONVERTERS)


def check_picture(path: Path) -> None:
    """Raises ValueError for a file name that no picture can be written to; before the work, so that none is lost."""
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"{path}: expected a picture to end with {', '.join(KINDS)}; the picture is of the kind that "
                         "its name says")  # fmt: skip
    if path.suffix.lower() in CONVERTERS:
        _cairosvg(path)


def save_picture(path: str | Path, svg: str) -> None:
    """Write SVG text as the kind of picture that the file name asks for. Raises ValueError as `check_picture` does."""
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
