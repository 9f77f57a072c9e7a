"""What the pages in docs/ say is what the code does."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import FAMILIES, VISION, config_of, mixed_pairs, random_mask, random_model
from running import relative, runner

from edge_pruning.batch import Batch
from edge_pruning.loading.self_check import law_errors, self_check
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import ADAPTERS

ROOT = Path(__file__).parent.parent
VARIANT = "smollm3, a layer without positions"


def code(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


# --- models.md --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not VISION, reason="this version of transformers is too old for a row of the table")
def test_the_table_of_families_is_what_the_code_says() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "models_table.py"))["page"]()
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == written, "run python scripts/models_table.py"


def test_the_table_has_the_golden_counts() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for counts in ("32,491", "32,347", "79,813 (179,749)", "50,610 (74,218)", "805,681 (1,592,881)"):
        assert f"| {counts} |" in page


@pytest.mark.skipif(not VISION, reason="this version of transformers is too old for ViT")
def test_circuits_of_images_are_found_as_the_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_model(config_of("vit"), torch.float32).hf.save_pretrained(tmp_path)
    images = torch.randn(6, 2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    (example,) = code("models.md")
    names: dict[str, Any] = {"MODEL": str(tmp_path), "IMAGES": images, "CLASS": 1, "OTHER": 2, "STEPS": 5}
    exec(example, names)
    assert float(capsys.readouterr().out) > 0
    assert len(names["circuit"]) == 100


# --- add-a-model.md ---------------------------------------------------------------------------------------------------


@pytest.fixture
def smollm3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model of the family that the page adds, with its unusual layer; made from what a block registers."""
    monkeypatch.setitem(FAMILIES, VARIANT, {"no_rope_layer_interval": 2})

    def with_adapter(block: str, dtype: torch.dtype) -> Any:
        exec(block, {})
        return random_model(config_of(VARIANT), dtype)

    assert "smollm3" not in ADAPTERS
    yield with_adapter
    ADAPTERS.remove("smollm3")


def test_the_check_finds_what_the_first_try_leaves_out(smollm3: Any) -> None:
    first, _ = code("add-a-model.md")
    with pytest.raises(ValueError, match="right before layer 1, so what is wrong is there or behind it"):
        self_check(FusedPass(smollm3(first, torch.float32)))


@pytest.mark.usefixtures("exact_norm")
def test_the_family_that_the_page_adds_is_exact(smollm3: Any) -> None:
    adapter, batch = smollm3(code("add-a-model.md")[1], torch.float64), Batch.of(mixed_pairs())
    passes = [MaskedPass(adapter), FusedPass(adapter)]
    assert max(max(law_errors(engine)) for engine in passes) < 1e-9
    mask = random_mask(passes[0].graph)
    general, fused = (runner(engine, batch)(mask) for engine in passes)
    assert relative(fused, general) < 1e-9
