"""The true circuits of bundled programs: minimal, enough, explained, and never mixed up."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch

from edge_pruning.ablation import Zero, get_ablation
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models.tracr import bundled_programs, compiled_folder
from edge_pruning.models.tracr.reach import Reach
from edge_pruning.tasks import PairSet, get_task
from edge_pruning.truth.exhaustive import needed_edges, needed_in_order
from edge_pruning.truth.outputs import Outputs, edges_of, without
from edge_pruning.truth.truth import FILE, Truth, Truths, moving
from edge_pruning.truth.truths import known_truths, write_truths

SMALL = ("count", "hist", "length", "reverse", "sort_unique", "xproportion")
KNOWN = [name for name in bundled_programs() if known_truths(f"tracr:{name}")]


def place(name: str, embeddings: str = "split") -> tuple[MaskedPass, PairSet]:
    model = load_model(f"tracr:{name}")
    engine = model.engine(Graph(model.adapter.shape, embeddings))
    return engine, get_task(f"tracr:{name}").pairs(model.tokenizer, "test")


def truths(name: str) -> Truths:
    found = known_truths(f"tracr:{name}")
    assert found
    return found


def outputs(name: str) -> Outputs:
    return Outputs(*place(name), Zero())


def zero_truth(name: str) -> Truth:
    return next(t for t in truths(name).truths if (t.ablation, t.graph.embeddings) == ("zero", "split"))


def test_every_bundled_program_has_its_truths() -> None:
    assert set(KNOWN) == set(bundled_programs())
    for name in KNOWN:
        found = {(truth.ablation, truth.graph.embeddings) for truth in truths(name).truths}
        assert found == set(itertools.product(("zero", "patch"), ("split", "joint")))


def test_reverse_is_what_its_program_says() -> None:
    """Length by attending everywhere, length - index - 1 in three MLPs, then one head that fetches."""
    truth = zero_truth("reverse")
    assert truth.graph.names(truth.by_ablation) == [
        "tok->a0.h0<v>", "tok->m0", "tok->m1", "tok->a3.h0<v>", "pos->m1", "pos->a3.h0<k>", "a0.h0->m0", "m0->m1",
        "m1->m2", "m2->a3.h0<q>", "a3.h0->logits",
    ]  # fmt: skip


def test_xproportion_is_what_its_program_says() -> None:
    """An MLP finds out what is an x, a head averages that over the positions so far."""
    truth = zero_truth("xproportion")
    assert truth.graph.names(truth.by_ablation) == [
        "tok->m0", "pos->a1.h0<q>", "pos->a1.h0<k>", "m0->a1.h0<v>", "a1.h0->logits",
    ]


@pytest.mark.parametrize("name", SMALL)
def test_the_true_circuit_keeps_every_output_and_needs_every_edge(name: str) -> None:
    truth, asked = zero_truth(name).by_ablation, outputs(name)
    assert asked.kept_by(truth)
    assert list(asked.spare(truth)) == []


@pytest.mark.parametrize("name", SMALL)
def test_the_true_circuit_is_what_literally_taking_edges_away_leaves(name: str) -> None:
    """The slow oracle: one edge after the other, from the logits down, over and over; by hand instead of in rounds."""
    asked, mask, changed = outputs(name), place(name)[0].graph.edge_mask, True
    while changed:
        changed = False
        for edge in reversed(edges_of(mask)):
            if asked.kept_by(without(mask, [edge])):
                mask, changed = without(mask, [edge]), True
    assert torch.equal(mask, zero_truth(name).by_ablation)
    assert torch.equal(mask, needed_in_order(asked, asked.engine.graph.edge_mask, seed=5))


@pytest.mark.parametrize("name", ["count", "length", "sort_unique"])  # xproportion: where truths are written anew
def test_stored_truths_are_found_anew(name: str) -> None:
    for stored in truths(name).truths:
        engine, pairs = place(name, stored.graph.embeddings)
        found = Truth.find(engine, pairs, get_ablation(stored.ablation))
        assert found.to_json() == stored.to_json()


@pytest.mark.parametrize("name", KNOWN)
def test_what_an_output_needs_the_weights_can_carry(name: str) -> None:
    for truth in truths(name).truths:
        assert not (truth.by_ablation & ~truth.by_weights).any()
        assert truth.graph.edge_mask[truth.by_weights].all()


@pytest.mark.parametrize("name", ["reverse", "pair_balance"])
def test_edges_that_the_weights_exclude_change_no_number(name: str) -> None:
    """Not only no output: the logits are the same to the last bit or so without them."""
    (engine, pairs), truth = place(name), zero_truth(name)
    for ids in engine.tiles(pairs.pairs):
        batch = engine.batch([pairs.pairs[i] for i in ids])
        frozen = Zero().freeze(engine, batch)
        assert torch.allclose(engine.logits(truth.by_weights.float(), batch, frozen), frozen.logits, atol=1e-5)


def test_truth_depends_on_the_ablation() -> None:
    """Inputs of a pair are equally long, so what finds out the length is needed only where nothing is given."""
    by_ablation = {truth.ablation: int(truth.by_ablation.sum()) for truth in truths("length").truths}
    assert by_ablation == {"zero": 4, "patch": 0}
    engine, pairs = place("length")
    assert not moving(engine, pairs, get_ablation("patch"))[1].any()  # positions
    assert moving(engine, pairs, Zero())[1].any()


def test_an_edge_is_named_by_what_it_carries() -> None:
    engine, _ = place("reverse")
    reach = Reach(engine.adapter.hf, engine.graph)
    assert reach.dimensions("tok->a3.h0<q>") == ["one"]
    assert reach.dimensions("tok->a3.h0<k>") == ["tokens:compiler_bos"]
    assert reach.dimensions("tok->a3.h0<v>") == ["tokens:a", "tokens:b", "tokens:c"]
    assert reach.dimensions("pos->m0") == []


def test_a_circuit_that_loses_outputs_cannot_be_pruned_by_them() -> None:
    asked = outputs("reverse")
    with pytest.raises(ValueError, match="does not keep every output of the model"):
        needed_edges(asked, torch.zeros_like(asked.engine.graph.edge_mask))


class EitherOr(Outputs):
    """Outputs that need the first edge, and the second or the third, which stand in for each other."""

    def __init__(self) -> None:
        self.asked = 0

    def kept_by(self, mask: torch.Tensor) -> bool:
        self.asked += 1
        first, second, third = mask[0, :3].tolist()
        return first and (second or third)


def test_of_edges_that_stand_in_for_each_other_the_earlier_stays() -> None:
    mask = torch.ones(2, 4, dtype=torch.bool)
    assert edges_of(needed_edges(EitherOr(), mask)) == [(0, 0), (0, 1)]
    assert edges_of(needed_in_order(EitherOr(), mask, seed=0)) in ([(0, 0), (0, 1)], [(0, 0), (0, 2)])


# --- files ------------------------------------------------------------------------------------------------------------


def test_truth_of_another_program_or_another_ablation_is_refused() -> None:
    found, other = truths("reverse"), truths("hist")
    graph = Graph(found.truths[0].graph.shape, "split")
    with pytest.raises(ValueError, match="the truth of another program: 'reverse' with .* edge-pruning tracr tr"):
        found.get(other.fingerprint, "zero", graph)
    with pytest.raises(ValueError, match=r"not known under mean ablation \(tok and pos .*Known: zero \(tok and pos"):
        found.get(found.fingerprint, "mean", graph)


def test_a_broken_truth_file_says_so(tmp_path: Path) -> None:
    path, whole = tmp_path / FILE, compiled_folder("tracr:reverse")
    assert whole
    text = (whole / FILE).read_text()
    path.write_text(text[:200])
    with pytest.raises(ValueError, match=r"truth.json is truncated or not JSON"):
        Truths.load(path)
    path.write_text('{"format": "else"}')
    with pytest.raises(ValueError, match=r"truth.json: expected the format 'edge-pruning/truth', got 'else'"):
        Truths.load(path)
    content = json.loads(text)
    content["truths"][0]["by_ablation"] = ["tok->nothing"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="truth.json: 1 names are not edges"):
        Truths.load(path)


def test_truths_and_card_are_written_anew_the_same(tmp_path: Path) -> None:
    source = compiled_folder("tracr:xproportion")
    assert source
    copy = Path(shutil.copytree(source, tmp_path / "mine"))
    for name in (FILE, "README.md"):
        (copy / name).unlink()
    assert known_truths(str(copy)) is None
    written = write_truths(str(copy), command="edge-pruning tracr compile xproportion")
    assert [t.to_json() for t in written.truths] == [t.to_json() for t in truths("xproportion").truths]
    text = (copy / "README.md").read_text()
    assert text == (source / "README.md").read_text()
    assert "`tok->a1.h0<q>` (zero, split) is true by the weights only: through `one`" in text
    assert known_truths("bundled") is None
