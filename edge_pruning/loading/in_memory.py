"""A Hugging Face model that the caller has in memory: fine-tuned, edited, in any dtype. It is used as it is.

Nothing is loaded or copied. The model is put into evaluation mode, and its parameters get no gradients.
"""

from __future__ import annotations

from typing import Any

from edge_pruning.models import check_supported
from edge_pruning.provenance import MODEL_IN_MEMORY


def name_of(hf: Any) -> str:
    """Return the name of the original model, if known, with a suffix for models in memory."""
    began_as = str(getattr(hf.config, "_name_or_path", "") or type(hf).__name__)
    return began_as.removesuffix(MODEL_IN_MEMORY) + MODEL_IN_MEMORY


def check_usable(hf: Any, tokenizer: Any, dtypes: dict[str, Any]) -> None:
    """Raise ValueError with all reasons if a model in memory cannot be used as it is."""
    problems = []
    if any(type(module).__module__.partition(".")[0] == "peft" for module in hf.modules()):
        problems.append("it has peft adapters; merge them into the weights first: model.merge_and_unload()")
    if hf.dtype not in dtypes.values():
        expected = f"expected weights in {', '.join(dtypes)}"
        problems.append(f"{expected}; got {hf.dtype}. Convert it: model.to(torch.bfloat16)")
    wanted = check_supported(hf.config).attn_implementation
    if wanted and hf.config._attn_implementation != wanted:
        problems.append(f"load it with attn_implementation={wanted!r}; got {hf.config._attn_implementation!r}")
    if tokenizer is not None and not _fits(tokenizer, images=check_supported(hf.config).reads_images):
        expected = "image processor" if check_supported(hf.config).reads_images else "tokenizer"
        problems.append(f"expected its {expected}, got {type(tokenizer).__name__}")
    if problems:
        raise ValueError(f"the model {name_of(hf)} cannot be used: {'; '.join(problems)}")


def _fits(tokenizer: Any, *, images: bool) -> bool:
    from transformers.image_processing_utils import BaseImageProcessor

    if images:
        return isinstance(tokenizer, BaseImageProcessor)
    return callable(tokenizer) and hasattr(tokenizer, "get_vocab")


def is_hooked(hf: Any) -> bool:
    """Return whether the model has forward hooks."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())
