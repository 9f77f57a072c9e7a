"""A model written as ONNX is run by onnxruntime with the same outputs, for any number of examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import inputs, logits, model, some_kept
from random_models import VISION

from edge_pruning.shrink.cutting import cut
from edge_pruning.shrink.onnx import NEEDED, export_onnx, onnx_runner

for name in NEEDED:
    pytest.importorskip(name)


@pytest.mark.skipif(not VISION, reason="this version of transformers is too old for ViT")
def test_onnxruntime_computes_what_torch_computes(tmp_path: Path) -> None:
    hf = model("vit").hf
    x = inputs(model("vit"))
    cut(hf, some_kept(hf))
    export_onnx(hf, x, tmp_path / "model.onnx")
    for batch in (x[:1], torch.cat([x, -x, 2 * x])):
        found = onnx_runner(tmp_path / "model.onnx")(batch)()
        np.testing.assert_allclose(found, logits(hf, batch).numpy(), rtol=1e-4, atol=1e-4)
