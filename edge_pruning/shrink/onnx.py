"""ONNX: a model as one file that onnxruntime runs without torch. Needs the extra `onnx`."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NEEDED = ("onnx", "onnxscript", "onnxruntime")
CLOSE = 1e-4  # relative to the largest output


def check_installed() -> None:
    """Raise ValueError, with the command that installs them, if packages are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--onnx needs {', '.join(missing)}; install with: pip install 'edge-pruning[onnx]'")


class _Logits(nn.Module):
    """A Hugging Face model that takes one tensor and returns one."""

    def __init__(self, hf: Any) -> None:
        super().__init__()
        self.hf = hf

    def forward(self, inputs: Tensor) -> Tensor:
        options = {} if inputs.dim() == 4 else {"use_cache": False}
        logits: Tensor = self.hf(inputs, **options).logits
        return logits


def export_onnx(hf: Any, inputs: Tensor, path: Path) -> None:
    """Write a model to a file. The number of examples stays variable, and for texts the number of tokens.

    inputs: examples to trace the model with: images [b, channel, height, width] or token ids [b, p].
    Raises ValueError if onnxruntime's outputs differ from torch's by more than `CLOSE` of the largest output.
    """
    check_installed()
    size: dict[int, Any] = {0: torch.export.Dim("examples")}
    if inputs.dim() == 2:
        size[1] = torch.export.Dim("tokens")
    model = _Logits(hf).eval()
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            model, (inputs,), str(path), input_names=["inputs"], output_names=["logits"],
            dynamic_shapes=(size,), dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
        expected = model(inputs)
    found = torch.from_numpy(onnx_runner(path)(inputs)())
    off = float((found - expected).abs().max() / expected.abs().max())
    if off > CLOSE:
        raise ValueError(f"{path}: onnxruntime and torch differ by {off:.1e} of the largest output; expected at most "
                         f"{CLOSE:g}. Use the torch model, or report the versions of both packages")  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings, for example about optional packages that are not installed."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def onnx_runner(path: Path) -> Callable[[Tensor], Callable[[], Any]]:
    """Open a file with onnxruntime, on as many threads as torch uses.

    Returns a function of inputs that returns a function that runs the model on them.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def prepare(inputs: Tensor) -> Callable[[], Any]:
        arrays = {"inputs": inputs.numpy()}
        return lambda: session.run(None, arrays)[0]

    return prepare
