"""Find the circuit with which the bundled model tells who gets the drink, and see how faithful it is."""

import edge_pruning as ep

run = ep.discover("ioi", edges=100)  # out="runs/ioi" writes everything into a folder
print(run.circuit)
for name in ("model", "circuit", "random", "empty"):
    print(f"{name:>8}: KL {run.evaluation[name]['kl']:.3f} nats, accuracy {run.evaluation[name]['accuracy']:.2f}")
run.draw("circuit.svg")
