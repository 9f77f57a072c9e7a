"""What does a vision transformer need to tell a 3 from an 8, and does the same circuit tell a 3 from other digits?"""

import edge_pruning as ep
from edge_pruning.ablation import Patch

run = ep.discover("digits", data={"digit": 3, "other": 8}, edges=60)  # out="runs/three" writes pages with the images
print(run.circuit)
for name in ("model", "circuit", "random", "empty"):
    numbers = run.evaluation[name]
    print(f"{name:>8}: {numbers['edges']:,.0f} edges, KL {numbers['kl']:.2f}, accuracy {numbers['accuracy']:.2f}")
for head in sorted(run.patterns["heads"], key=lambda head: -abs(head["effect"]))[:4]:
    print(f"{head['node']} alone is worth {head['effect']:+.2f} of the logit difference")

model = ep.load_model("digits")
for other in (0, 1, 2, 4, 5, 6, 7, 9):
    setup = ep.Setup.of(model, ep.get_task("digits", digit=3, other=other), Patch())
    found = ep.evaluate(run.circuit, setup, random_circuits=0)
    print(f"3 against {other}: accuracy {found['circuit']['accuracy']:.2f}, model {found['model']['accuracy']:.2f}")
run.draw("circuit.svg")
