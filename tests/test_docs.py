"""What the pages in docs/ say is what the code does."""

from __future__ import annotations

import dataclasses
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
from edge_pruning.discovery import METHODS, Search
from edge_pruning.loading.self_check import law_errors, self_check
from edge_pruning.masked_pass import stream
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import ADAPTERS
from edge_pruning.runs import RunConfig
from edge_pruning.runs.pipeline import setup_of

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
    with pytest.raises(ValueError, match="exact before layer 1; the error is in that layer, the final norm"):
        self_check(FusedPass(smollm3(first, torch.float32)))


@pytest.mark.usefixtures("exact_norm")
def test_the_family_that_the_page_adds_is_exact(smollm3: Any) -> None:
    adapter, batch = smollm3(code("add-a-model.md")[1], torch.float64), Batch.of(mixed_pairs())
    passes = [MaskedPass(adapter), FusedPass(adapter)]
    assert max(max(law_errors(engine)) for engine in passes) < 1e-9
    mask = random_mask(passes[0].graph)
    general, fused = (runner(engine, batch)(mask) for engine in passes)
    assert relative(fused, general) < 1e-9


# --- how-it-works.md --------------------------------------------------------------------------------------------------


def test_the_equation_is_quoted_from_the_literal_reference() -> None:
    *quotations, _ = code("how-it-works.md")
    source = (ROOT / "tests" / "literal.py").read_text(encoding="utf-8")
    assert len(quotations) == 2
    assert all(f"\n{quotation}" in source for quotation in quotations)


def test_the_chain_of_two_writers_and_two_readers_has_the_gradients_of_the_equation() -> None:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(code("how-it-works.md")[-1], names)
    embedding, its_ablated, ablated_head = names["E"], names["c_E"], names["c_H"]
    z = names["mask"].detach().requires_grad_()
    x_h = z[0, 0] * embedding + (1 - z[0, 0]) * its_ablated
    x_l = z[0, 1] * embedding + (1 - z[0, 1]) * its_ablated + z[1, 1] * x_h.tanh() + (1 - z[1, 1]) * ablated_head
    torch.testing.assert_close(names["x_l"], x_l)
    x_l.square().sum().backward()
    torch.testing.assert_close(names["mask"].grad, z.grad)
    assert z.grad.count_nonzero() == 3


def test_the_chain_runs_backward_as_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers add to the gradients of their writers before these are handed on, and the mask gets its own last."""
    ran: list[str] = []
    for step in ("_Open", "_Read", "_Write"):
        function = getattr(stream, step)

        def backward(ctx: Any, *gradients: Any, real: Any = function.backward, step: str = step) -> Any:
            ran.append(step)
            return real(ctx, *gradients)

        monkeypatch.setattr(function, "backward", staticmethod(backward))
    exec(code("how-it-works.md")[-1], {})
    assert ran == ["_Read", "_Write", "_Read", "_Open"]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_links_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    missing = [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()]
    assert not missing


# --- your-own.md ------------------------------------------------------------------------------------------------------


def test_the_page_about_own_pairs_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"STEPS": 5}
    for block in code("your-own.md"):
        exec(block, names)
    kl, probability = (line.split() for line in capsys.readouterr().out.splitlines())
    assert float(kl[0]) >= 0
    assert 0 < float(probability[0]) < 1
    assert probability[1] == "5"


def test_the_row_in_the_readme_is_one_of_the_example_that_works_with_the_bundled_model() -> None:
    import edge_pruning as ep

    row = (ROOT / "examples" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert row in (ROOT / "README.md").read_text(encoding="utf-8")
    found = ep.inspect(ROOT / "examples" / "pairs.jsonl", model="bundled")
    assert (found.usable, found.refused, found.notices) == (24, (), ())
    assert found.accuracy is not None
    assert found.accuracy > 0.8


# --- methods.md -------------------------------------------------------------------------------------------------------

METHODS_PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_section_with_all_its_settings(name: str) -> None:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", METHODS_PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/methods.md has no section {name!r}"
    settings = re.search(r"\*\*Settings:\*\*(.*?)^- ", section[1], re.MULTILINE | re.DOTALL)
    assert settings
    told = set(re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", settings[1])))
    assert told == {field.name for field in dataclasses.fields(METHODS[name])}


def test_the_table_of_methods_links_to_every_section() -> None:
    assert set(re.findall(r"^\| \[`([^`]+)`\]\(#", METHODS_PAGE, re.MULTILINE)) == set(METHODS)


@pytest.mark.parametrize(("name", "told"), [
    ("soft-top-k", "5,120 gradient"), ("edge-pruning", "96,000 gradient"), ("mattr", "5,000 gradient"),
    ("ugs", "180,000 gradient"), ("eap", "N gradient"), ("eap-ig", "5 N gradient"), ("mean-gradient", "5 N gradient"),
    ("node-attribution", "N gradient"), ("magnitude", "N forward"), ("random", "none"),
])  # fmt: skip
def test_the_passes_in_the_table_are_those_of_the_plan(name: str, told: str) -> None:
    """N = 200 pairs of the bundled model's IOI."""
    (row,) = re.findall(rf"^\| \[`{name}`\].*$", METHODS_PAGE, re.MULTILINE)
    assert f"| {told}" in row
    setup = setup_of(RunConfig(task="ioi", method=name))
    cost = METHODS[name]().cost(Search(setup.engine, setup.train, setup.ablation))
    numbers = {"N": 200, "5 N": 1000, "none": 0}
    amount, _, kind = told.rpartition(" ")
    expected = numbers[told] if told in numbers else numbers.get(amount) or int(amount.replace(",", ""))
    assert (cost.forwards if kind == "forward" else cost.gradients) == expected
