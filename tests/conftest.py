"""What many tests share: tiny random models (no downloads) and random pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from edge_pruning.models import Adapter, adapt
from edge_pruning.pair import Pair
from edge_pruning.tasks.task import PairSet

torch.set_num_threads(1)  # tiny tensors only wait for each other's threads
if not torch.cuda.is_available():  # on a GPU this would choose other kernels than those that users run
    torch.use_deterministic_algorithms(True, warn_only=True)  # new memory is full of NaN, so reading it shows

VOCABULARY = 23
PairFactory = Callable[..., PairSet]
_NO_SPECIALS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def build(kind: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Adapter:
    """A random model whose every edge matters: two layers, weights of standard deviation 0.3, no bias left at zero."""
    hf = GPT2LMHeadModel(_gpt2_config()) if kind == "gpt2" else LlamaForCausalLM(_llama_config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            is_gain = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + is_gain)
    return adapt(hf.to(dtype))


def _gpt2_config() -> GPT2Config:
    return GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=12, n_layer=2, n_head=3, **_NO_SPECIALS)


def _llama_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=16, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, **_NO_SPECIALS,
    )


_CASTS = {Tensor.float, Tensor.to, Tensor.type, Tensor.matmul}


class _Float64(TorchFunctionMode):
    """Keeps float64 tensors float64 where code casts them to float32.

    It sees calls from Python only, which is where transformers casts, and costs a third of a mode that sees every
    operation of the forward and the backward pass.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _CASTS and "dtype" not in kwargs:  # nearly all
            return func(*args, **kwargs)
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.dtype == torch.float64:
            if func is Tensor.float:
                return first
            if func in (Tensor.to, Tensor.type):
                args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs = {**kwargs, "dtype": torch.float64}
        if func is Tensor.matmul and args[0].dtype != args[1].dtype:  # positions times frequencies
            args = tuple(arg.double() for arg in args)
        return func(*args, **kwargs)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, metavar="N", help="damaged files per reader in tests/fuzz (default: 200)")


@pytest.fixture
def exact_norm() -> Iterator[None]:
    """Transformers computes norms, softmaxes and routers in float32 in every dtype; laws to 1e-10 need float64."""
    with _Float64():
        yield


@pytest.fixture(scope="session")
def tiny_gpt2() -> Adapter:
    """float32; 3 heads."""
    return build("gpt2")


@pytest.fixture(scope="session")
def tiny_llama() -> Adapter:
    """float32; 4 heads that share 2 key-value heads."""
    return build("llama")


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def exact_model(request: pytest.FixtureRequest) -> Adapter:
    """Each family in float64, so that laws hold to many digits."""
    return build(request.param, torch.float64)


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Adapter]:
    """`build(kind, dtype, seed)`, for tests that change a model or need another one."""
    return build


@pytest.fixture(scope="session")
def random_pairs() -> PairFactory:
    """`random_pairs(8)`: pairs of random tokens and lengths. Clean and corrupted prompts begin with the same token."""

    def make(
        n: int = 8, *, lengths: tuple[int, ...] = (5, 6, 7, 9), positions: int = 1, wrong: bool = True, seed: int = 0,
        split: str = "test", metric: str = "logit_difference",
    ) -> PairSet:
        generator = torch.Generator().manual_seed(seed)
        pairs = tuple(_pair(lengths[i % len(lengths)], positions, wrong, f"t{i % 3}", generator) for i in range(n))
        return PairSet("random", split, metric, pairs, ())

    return make


def _pair(length: int, positions: int, wrong: bool, template: str, generator: torch.Generator) -> Pair:
    clean, corrupted = torch.randint(VOCABULARY, (2, length), generator=generator).tolist()
    answers = [torch.randperm(VOCABULARY, generator=generator)[:2].tolist() for _ in range(positions)]
    return Pair(
        tuple(clean),
        (clean[0], *corrupted[1:]),
        tuple(range(length - positions, length)),
        tuple((right,) for right, _ in answers),
        tuple((bad,) if wrong else () for _, bad in answers),
        template,
    )
