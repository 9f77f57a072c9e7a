"""SVG elements as strings, with rounded numbers, and with attributes and text escaped."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from edge_pruning.drawing.text import printable

NAMESPACE = "http://www.w3.org/2000/svg"
FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def element(name: str, *children: str, **attributes: object) -> str:
    """`<name attributes>children</name>`; `stroke_width=2` becomes `stroke-width="2"`, a None is left out.

    Children are markup: foreign text enters through `text`, `title` and `description`, or as an attribute.
    """
    given = {key.strip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opening = " ".join([name, *(f"{key}={_value(value)}" for key, value in given.items())])
    return f"<{opening}>{''.join(children)}</{name}>" if children else f"<{opening}/>"


def text(content: object, x: float, y: float, **attributes: object) -> str:
    return element("text", escape(printable(content)), x=x, y=y, **attributes)


def title(content: object) -> str:
    """A tooltip: browsers show it while the pointer rests on the element around it."""
    return element("title", escape(printable(content)))


def description(content: object) -> str:
    """A description of the picture for screen readers."""
    return element("desc", escape(printable(content)))


def number(value: float) -> str:
    """A number with at most two decimals and no trailing zeros, so that files are small and equal pictures equal."""
    digits = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def _value(value: object) -> str:
    return quoteattr(number(value) if isinstance(value, float) else printable(value))
