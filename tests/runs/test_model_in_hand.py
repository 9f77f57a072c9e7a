"""The model that is handed over is the one that circuits are found and judged in; it is never loaded again."""

from __future__ import annotations

import pytest
import torch

import edge_pruning as ep
from edge_pruning.loading import loading
from edge_pruning.runs import pipeline
from edge_pruning.runs.circuit_file import open_circuit

SHORT = {"method": "eap", "edges": 12, "draw": False}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_whose_weights_were_changed_is_judged_as_it_is(model_folder, pairs_file, dtype, monkeypatch):
    model = ep.load_model(str(model_folder), device="cpu", dtype=dtype)
    with torch.no_grad():
        for parameter in model.adapter.hf.parameters():
            parameter.zero_()
    for place in (loading, pipeline):
        monkeypatch.setattr(place, "load_model", lambda *_, **__: pytest.fail("loaded another model"))
    run = ep.discover(str(pairs_file), model=model, **SHORT)
    assert run.evaluation["model"]["logit_difference"] == 0, "all logits of this model are equal"
    assert run.evaluation["circuit"]["kl"] == pytest.approx(0, abs=1e-6)


def test_a_circuit_found_in_bfloat16_is_judged_as_by_a_model_that_has_run_nothing(model_folder, pairs_file):
    run = ep.discover(str(pairs_file), model=str(model_folder), dtype="bfloat16", **SHORT)
    opened = open_circuit(run.circuit, dtype="bfloat16")
    afresh = ep.evaluate(opened.circuit, opened.setup.judging)
    assert run.evaluation["circuit"]["kl"] == pytest.approx(afresh["circuit"]["kl"], rel=1e-5)


def test_seeds_share_one_loaded_model(model_folder, pairs_file, monkeypatch):
    loaded = []
    monkeypatch.setattr(pipeline, "load_model", lambda *a, **k: loaded.append(a) or loading.load_model(*a, **k))
    ep.discover_seeds(str(pairs_file), model=str(model_folder), seeds=3, dtype="bfloat16", **SHORT)
    assert len(loaded) == 1
