"""How much work one change of the size slider is for the viewer, in Chromium, against the number of edges in the page.

    python benchmarks/viewer_frames.py

Random scores (seed 0) on graphs of 8, 15 and 30 layers with 9 heads and 3 key-value heads; the last has 70,651 edges. A
change is a jump of the slider within two thirds of its length, with 400 edges drawn; 40 are made. Printed are the
median and the worst of two numbers: the time of the script, from the slider's event to the end of drawing, and the CPU
time of the page's thread until the picture is on the screen (script, style, layout and paint).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import torch

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.view import Source, view_page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "view"))
from browser import Browser, missing

CHANGES = 40
CHANGE = """
const [i, done] = arguments, slider = document.getElementById("size"), before = performance.now();
slider.value = 350 + ((i * 367) % 560);
slider.dispatchEvent(new Event("input", { bubbles: true }));
const took = performance.now() - before;
requestAnimationFrame(() => setTimeout(() => done(took), 0));
"""


def page_of(graph: Graph) -> str:
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(0))
    return view_page([Source("random", Circuit.from_scores(EdgeScores(graph, values), edges=3000))])


def changes(browser: Browser) -> tuple[list[float], list[float]]:
    """Milliseconds of the script, and of the page's thread, for every change."""
    script, thread = [], []
    browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    for i in range(CHANGES):
        before = _busy(browser)
        script.append(browser.driver.execute_async_script(CHANGE, i))
        thread.append(1000 * (_busy(browser) - before))
    return script, thread


def _busy(browser: Browser) -> float:
    metrics = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def main() -> None:
    if missing():
        raise SystemExit(f"cannot measure: {missing()}")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder, "profile"))
        for layers in (8, 15, 30):
            graph, page = Graph(ModelShape(layers, 9, 3)), Path(folder, "page.html")
            page.write_text(page_of(graph), encoding="utf-8")
            browser.open(page)
            browser.settle()
            numbers = ", ".join(
                f"{name} {statistics.median(took):.1f} (worst {max(took):.0f}) ms"
                for name, took in zip(("script", "page's thread"), changes(browser), strict=True)
            )
            print(f"{graph.n_edges:>7,} edges, {page.stat().st_size:>9,} bytes; a change: {numbers}")
        browser.driver.quit()


if __name__ == "__main__":
    main()
