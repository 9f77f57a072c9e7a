"""`edge-pruning inspect`: rows as tokens, what the model makes of them, what is left out and why."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import edge_pruning as ep
from edge_pruning.evaluation import evaluate
from edge_pruning.setup import Setup

GOOD = {
    "clean": "the dog sees the red", "corrupted": "the cat sees the red", "answer": " house", "wrong_answer": " tree",
}


@pytest.fixture
def inspected(cli, model_folder, tmp_path):
    """`inspected(rows, *flags)`: the command's result on a file with these rows, with the tiny model."""

    def run(rows, *flags):
        path = tmp_path / "own.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return cli("inspect", path, "--model", model_folder, *flags)

    return run


def test_tokens_stand_side_by_side_and_differences_are_marked(inspected):
    result = inspected([{**GOOD, "split": split} for split in ("train", "validation", "test")])
    assert result.exit_code == 1, "the same prompt is in three splits"
    lines = result.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  clean"))
    assert lines[at].index(" dog") == lines[at + 1].index(" cat") == lines[at + 2].index("^^^^")
    assert "answer ' house'   wrong ' tree'" in lines[at + 3]
    assert lines[at + 4].strip().startswith("model '")
    assert "right" in lines[at + 4] or "wrong" in lines[at + 4]


def test_the_accuracy_is_that_of_an_evaluation(pairs_file, model_folder):
    found = ep.inspect(pairs_file, model=str(model_folder))
    assert (found.usable, found.refused, dict(found.splits)) == (40, (), {"train": 24, "validation": 8, "test": 8})
    model, task = ep.load_model(str(model_folder)), ep.get_task(pairs_file)
    setup = Setup.of(model, task, ep.Setup.of(model, task, _patch()).ablation)
    circuit = ep.Circuit(setup.graph, setup.graph.edge_mask)
    expected = evaluate(circuit, setup, random_circuits=0).model.accuracy
    test = [row.right for row in found.rows if row.split == "test"]
    assert sum(test) / len(test) == pytest.approx(expected)
    assert all(sum(p for _, p in row.top) <= 1 for row in found.rows)


def test_answers_that_differ_before_their_last_token_are_judged_by_their_total_probability(model_folder):
    nouns, folder = ("dog", "cat", "tree", "house", "red", "big"), str(model_folder)
    rows = [
        {"clean": f"the {noun} sees the", "corrupted": "the man sees the", "answer": [" red dog", " big"],
         "wrong_answer": " dog"} for noun in nouns
    ]  # fmt: skip
    model, inspection = ep.load_model(folder), ep.inspect(rows, model=folder)
    assert any("6 of 6 rows have answers of several tokens" in notice for notice in inspection.notices)
    first = inspection.rows[0]

    def probability(words, token):
        ids = model.tokenizer(words, return_tensors="pt").input_ids
        vocabulary = model.tokenizer.get_vocab()
        return float(model.adapter.hf(ids).logits[0, -1].softmax(-1)[vocabulary[token]])

    start = "the dog sees the"
    right = probability(start, "big") + probability(start, "red") * probability(f"{start} red", "dog")
    assert first.totals == pytest.approx((right, probability(start, "dog")), rel=1e-4)
    run = ep.discover(rows, model=folder, method="eap", edges=20, data={"metric": "probability_difference"})
    (tested,) = [row for row in inspection.rows if row.split == "test"]
    assert run.evaluation.model.probability_difference == pytest.approx(tested.totals[0] - tested.totals[1], abs=1e-6)
    assert run.evaluation.model.accuracy == tested.right
    assert 0 < run.evaluation.circuit.kl < 20


def _patch():
    from edge_pruning.ablation import Patch

    return Patch()


def test_what_is_left_out_is_shown_first_with_its_reason(inspected):
    rows = [{**GOOD, "clean": f"the {word} sees the red"} for word in ("dog", "bird", "fox")]
    bad = [{**GOOD, "corrupted": "the cat"}, "{", {**GOOD, "answer": " zyx"}]
    result = inspected([*rows, *bad], "--rows", 3)
    assert result.exit_code == 1
    for words in (
        "the prompts differ in length: the prompts have 5 and 2 tokens", "left out: not valid JSON",
        "left out: the answer ' zyx' is not in the vocabulary", "3 of 6 lines are shown",
        "3 of 6 lines can be used: 1 train, 1 validation, 1 test; 5 to 5 tokens", "Refused: line 5: not valid JSON",
        "Refused: 1 of 5 pairs differ in length (first: line 4, 5 and 2 tokens)",
    ):
        assert words in result.stdout
    assert inspected([*rows, bad[0]], "--data", "skip_unequal=true").exit_code == 0


def test_rows_without_an_answer_say_what_the_target_is(inspected):
    rows = [{"clean": f"the {word} sees", "corrupted": "the cat sees"} for word in ("dog", "bird", "fox")]
    result = inspected(rows)
    assert result.exit_code == 0
    assert "answer: the model's own prediction" in result.stdout
    assert "right on" not in result.stdout


def test_without_a_model_the_tokens_are_those_of_the_bundled_one(cli, tmp_path):
    (tmp_path / "a.csv").write_text("clean,corrupted\nThen Mary,Then John\n")
    result = cli("inspect", tmp_path / "a.csv")
    assert result.exit_code == 0
    assert "as the bundled model's tokenizer reads it" in result.stdout
    assert "|Then| Mary|" in result.stdout
    assert "Add --model to see the tokens and predictions" in result.stdout


def test_it_is_there_as_json_and_for_built_in_tasks(cli, tmp_path):
    result = cli("inspect", "ioi", "--data", "train=2", "--data", "validation=2", "--data", "test=2", "--json")
    content = json.loads(result.stdout)
    assert (content["usable"], content["splits"]) == (6, {"train": 2, "validation": 2, "test": 2})
    assert content["rows"][0]["differs"]


def test_long_rows_are_broken_and_markup_is_text(inspected):
    words = "the dog sees the red house near the old tree over the blue river under the small cat".split()
    clean = " ".join(words * 3)
    result = inspected([{**GOOD, "clean": clean, "corrupted": clean.replace("dog", "fox"), "split": "train"}])
    assert max(len(line) for line in result.stdout.splitlines() if line.startswith("  c")) < 120
    assert "[bold" not in result.stdout
    bad = inspected([{**GOOD, "answer": "[red]x[/red]"}])
    assert "[red]x[/red]" in bad.stdout


def test_bad_input_is_refused(cli, tmp_path):
    for task, words in (("iio", "there is no task 'iio'"), (tmp_path / "no.jsonl", "does not exist")):
        result = cli("inspect", task)
        assert result.exit_code == 2
        assert words in result.stderr


def test_images_are_drawn_in_shades_and_what_is_wrong_stands_beside_them(cli, tmp_path):
    for i in range(4):
        Image.new("L", (8, 8), 250 if i else 0).save(tmp_path / f"{i}.png")
    Image.new("L", (8, 8), 100).save(tmp_path / "1.png")
    rows = [("0.png", "1.png", "3"), ("1.png", "2.png", "8"), ("2.png", "1.png", "8"), ("none.png", "0.png", "zebra")]
    path = tmp_path / "images.csv"
    path.write_text("clean,corrupted,class\n" + "".join(",".join(row) + "\n" for row in rows))
    result = cli("inspect", path, "--model", "digits")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].endswith("as the image processor of digits reads it")
    assert "  clean     0.png" in lines
    assert f"  {'':10}{16 * ' '}   {16 * '░'}" in lines
    assert f"  {'':10}{16 * '░'}   {16 * '█'}" in lines
    assert "there is no image" in result.stdout
    assert "the model has no class 'zebra'" in result.stdout
    alone = cli("inspect", "digits", "--rows", 1).stdout
    assert "digits, as the bundled model's image processor reads it" in alone
    assert "800 of 800 pairs can be used: 200 train, 200 validation, 400 test\n" in alone
