"""How long the viewer takes for one change of the size slider, in Chromium, against the number of edges in the page.

    python benchmarks/viewer_frames.py

Random scores (seed 0) on graphs of 8, 15 and 30 layers with 9 heads and 3 key-value heads; the last has 70,651 edges. A
change is the work of the script from the slider's event to the end of drawing 400 edges. Printed are the median and
the worst of 40 changes over two thirds of the slider, and the bytes of the page.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import torch

from edge_pruning.circuit import Circuit, EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.view import Source, view_page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "view"))
from browser import Browser, missing

CHANGES = """
const done = arguments[0], slider = document.getElementById("size"), took = [];
const change = (i) => {
  if (i === 40) { slider.dispatchEvent(new Event("change")); done(took); return; }
  const before = performance.now();
  slider.value = 350 + ((i * 367) % 560);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  took.push(performance.now() - before);
  requestAnimationFrame(() => setTimeout(() => change(i + 1), 20));
};
change(0);
"""


def page_of(graph: Graph) -> str:
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(0))
    return view_page([Source("random", Circuit.from_scores(EdgeScores(graph, values), edges=3000))])


def main() -> None:
    if missing():
        raise SystemExit(f"cannot measure: {missing()}")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder, "profile"))
        for layers in (8, 15, 30):
            graph, page = Graph(ModelShape(layers, 9, 3)), Path(folder, "page.html")
            page.write_text(page_of(graph), encoding="utf-8")
            browser.open(page)
            took = browser.driver.execute_async_script(CHANGES)
            numbers = f"median {statistics.median(took):.1f} ms, worst {max(took):.1f} ms"
            print(f"{graph.n_edges:>7,} edges, {page.stat().st_size:>9,} bytes: {numbers} a change")
        browser.driver.quit()


if __name__ == "__main__":
    main()
