"""Write a RASP program, compile it, and find its circuit: needs `pip install 'edge-pruning[tracr]'`."""

from tracr.rasp import rasp

import edge_pruning as ep
from edge_pruning.models.tracr import compile_program
from edge_pruning.truth.truths import write_truths

same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
times = rasp.SelectorWidth(same).named("times")  # how often each value occurs
answer = rasp.Map(lambda n: "again" if n > 1 else "once", times).named("repeated")

compiled = compile_program(answer, vocabulary=["a", "b", "c"], max_length=4)  # checked on every input
compiled.save("repeated")
write_truths("repeated", command="python examples/own_program.py")  # the true circuit, and a card

run = ep.discover("tracr:repeated")
print(run.circuit)
print("exact:", run.evaluation.ground_truth.edges.exact, "edges:", ", ".join(run.circuit.edges))
run.draw("circuit.svg")
