"""Judge a circuit of any origin: under an ablation of your choice, at all sizes, edge by edge, and as a page."""

from pathlib import Path

import edge_pruning as ep
from edge_pruning.ablation import Mean
from edge_pruning.page import render

model, task = ep.load_model("bundled"), ep.get_task("ioi", train=100, test=50)
setup = ep.Setup.of(model, task, Mean())  # the mean is over training pairs, whatever is judged with it

search = ep.Search(setup.engine, setup.train, setup.ablation)
scores = ep.get_method("eap").find(search)  # or ep.EdgeScores(setup.graph, numbers of your own)
circuit = ep.Circuit.from_scores(scores, edges=100)
report = ep.report_on(circuit, setup)

print(circuit)
for level in report.curve.levels():
    print(f"{level['words']}: {level['edges']} edges")
print(report.curve.areas)
print(report.minimality.counts)
Path("report.html").write_text(render(report.to_json(), circuit), encoding="utf-8")
