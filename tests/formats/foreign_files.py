"""Small files as other tools write them, by hand: one layer, two heads, a circuit of three edges."""

from __future__ import annotations

import torch

from edge_pruning.circuit import Circuit
from edge_pruning.graph import Graph, ModelShape

GRAPH = Graph(ModelShape(1, 2))
EDGES = ["input->a0.h1<v>", "a0.h1->m0", "m0->logits"]
CIRCUIT = Circuit.from_names(GRAPH, EDGES)

EAP_IG_JSON = """{"cfg": {"n_layers": 1, "n_heads": 2, "parallel_attn_mlp": false, "d_model": 8},
"nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": false}, "a0.h1": {"in_graph": true},
          "m0": {"in_graph": true}, "logits": {"in_graph": true}},
"edges": {"input->a0.h0<q>": {"score": -0.25, "in_graph": false},
          "input->a0.h0<k>": {"score": 0.0, "in_graph": false},
          "input->a0.h0<v>": {"score": 0.125, "in_graph": false},
          "input->a0.h1<q>": {"score": 0.0, "in_graph": false},
          "input->a0.h1<k>": {"score": 0.0, "in_graph": false},
          "input->a0.h1<v>": {"score": -2.5, "in_graph": true},
          "input->m0": {"score": 0.5, "in_graph": false},
          "a0.h0->m0": {"score": 0.0, "in_graph": false},
          "a0.h1->m0": {"score": 1.5, "in_graph": true},
          "input->logits": {"score": 0.0, "in_graph": false},
          "a0.h0->logits": {"score": 0.0, "in_graph": false},
          "a0.h1->logits": {"score": 0.0, "in_graph": false},
          "m0->logits": {"score": 3.0, "in_graph": true}}}
"""
SCORES = {"input->a0.h0<q>": -0.25, "input->a0.h0<v>": 0.125, "input->a0.h1<v>": -2.5, "input->m0": 0.5,
          "a0.h1->m0": 1.5, "m0->logits": 3.0}

SRC = ["input", "a0.h0", "a0.h1", "m0"]
DST = ["a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h1<k>", "a0.h0<v>", "a0.h1<v>", "m0", "logits"]


def eap_ig_tensors() -> dict[str, object]:
    """The same as EAP-IG's tensor file: all queries, all keys, all values, the MLP, then the logits."""
    scores = torch.tensor([
        [-0.25, 0, 0, 0, 0.125, -2.5, 0.5, 0.0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1.5, 0],
        [0, 0, 0, 0, 0, 0, 0, 3.0],
    ])
    return {
        "cfg": {"n_layers": 1, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8},
        "src_nodes": SRC,
        "dst_nodes": DST,
        "edges_scores": scores,
        "edges_in_graph": (scores == -2.5) | (scores >= 1.5),
        "nodes_in_graph": torch.tensor([True, False, True, True]),
    }


EDGES_JSON = '[["embeds", "a0.h1.v"], ["a0.h1", "m0"], ["m0", "resid_post"]]'
EDGES_JSON_GPT2 = '[["tok_embeds", "a0.h1.v"], ["pos_embeds", "a0.h1.v"], ["a0.h1", "m0"], ["m0", "resid_post"]]'

CSV = """edge,in_circuit,score
input->a0.h0<q>,false,
input->a0.h1<q>,false,
input->a0.h0<k>,false,
input->a0.h1<k>,false,
input->a0.h0<v>,0,0.5
input->a0.h1<v>,TRUE,2
input->m0,false,
a0.h0->m0,false,
a0.h1->m0,1,1e3
input->logits,false,
a0.h0->logits,false,
a0.h1->logits,false,
m0->logits,true,-1
"""

GRAPHML = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key id="e" for="edge" attr.name="edge" attr.type="string"/>
  <graph edgedefault="directed">
    <node id="input"/><node id="a0.h1"/><node id="m0"/><node id="logits"/>
    <edge source="input" target="a0.h1"><data key="e">input-&gt;a0.h1&lt;v&gt;</data></edge>
    <edge source="a0.h1" target="m0"><data key="e">a0.h1-&gt;m0</data></edge>
    <edge source="m0" target="logits"><data key="e">m0-&gt;logits</data></edge>
  </graph>
</graphml>
"""

DOT = """digraph circuit {
  layers=1; heads=2;
  input -> "a0.h1" [edge="input->a0.h1<v>", score=2.5];
  "a0.h1" -> m0 [edge="a0.h1->m0"];
  m0 -> logits [edge="m0->logits", score="-1e-3"];
}
"""

ACDC_JSON = """[
[["blocks.0.hook_v_input", [null, null, 1], "blocks.0.hook_resid_pre", [null]], 2.5],
[["blocks.0.hook_mlp_in", [null], "blocks.0.attn.hook_result", [null, null, 1]], 1.5],
[["blocks.0.hook_resid_post", [null], "blocks.0.hook_mlp_out", [null]], 3.0]
]
"""

AUTO_CIRCUIT = """{
"blocks.0.hook_q_input": [[0], [0]],
"blocks.0.hook_k_input": [[0], [0]],
"blocks.0.hook_v_input": [[0], [-2.5]],
"blocks.0.hook_mlp_in": [0.5, 0, 1.5],
"blocks.0.hook_resid_post": [0, 0, 0, 3.0]}
"""
