"""A hook of MkDocs: the site also holds the pages outside docs/, and every file of the project that a page links to.

Pages are written to be read in the repository, where their links lead to files. In the site, README.md is the first
page, the pages of `OUTSIDE` keep their places, and any other file that is linked to is copied to `files/`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
OUTSIDE = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/results/README.md")
COPIED = "files/"
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/, and what all pages link to."""
    for name in OUTSIDE:
        files.append(File.generated(config, place(ROOT / name), content=(ROOT / name).read_text(encoding="utf-8")))
    for page in [*(ROOT / name for name in OUTSIDE), *(ROOT / "docs").glob("*.md")]:
        for target in linked(page):
            if files.get_file_from_path(place(target)) is None:
                unlisted = InclusionLevel.NOT_IN_NAV
                files.append(File.generated(config, place(target), abs_src_path=str(target), inclusion=unlisted))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links of a page to their places in the site."""
    return in_site(markdown, source(page.file.src_uri))


def source(uri: str) -> Path:
    """The file of the repository that a page of the site is made from."""
    if uri == "index.md":
        return ROOT / "README.md"
    if uri in OUTSIDE or uri.startswith(COPIED):
        return ROOT / uri.removeprefix(COPIED)
    return ROOT / "docs" / uri


def place(path: Path) -> str:
    """Where a file of the repository is in the site."""
    name = path.relative_to(ROOT).as_posix()
    if name == "README.md":
        return "index.md"
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return name if name in OUTSIDE else f"{COPIED}{name}"


def linked(page: Path) -> list[Path]:
    """The files of the repository that a page links to."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    targets = [target for _, target, _ in LINK.findall(text) if "://" not in target]
    paths = [(page.parent / target).resolve() for target in targets]
    return [path for path in paths if path.is_file()]


def in_site(markdown: str, page: Path) -> str:
    """The text of a page with its links as they are in the site; a link to nothing stays, and MkDocs reports it."""
    here = Path(place(page)).parent

    def moved(match: re.Match[str]) -> str:
        path = (page.parent / match[2]).resolve()
        if "://" in match[2] or not path.is_file():
            return match[0]
        return match[1] + Path(os.path.relpath(place(path), here)).as_posix() + match[3]

    kept: list[str] = []  # code, which is not to be changed
    text = CODE.sub(lambda match: kept.append(match[0]) or f"\0{len(kept) - 1}\0", markdown)
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], LINK.sub(moved, text))
