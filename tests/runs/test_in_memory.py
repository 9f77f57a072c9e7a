"""A notebook's way: the model, the pairs, the metric and the objective are objects, and results show themselves."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import edge_pruning as ep
from edge_pruning import metrics, numbers, own_functions
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.runs import RunConfig

EAP = {"method": "eap", "edges": 12, "draw": False, "patterns": 0}


@pytest.fixture(autouse=True)
def _no_functions_left() -> Iterator[None]:
    """Functions that a test has handed over are unknown to the next one."""
    yield
    for name in list(own_functions.OWN):
        for table in (own_functions.OWN, metrics.DIFFERENCES, metrics.MARGINS, numbers.METRICS, numbers.NUMBERS):
            del table[name]
    for name in [name for name, one in OBJECTIVES.items() if one.function.__module__ == own_functions.__name__]:
        OBJECTIVES.remove(name)


@pytest.fixture
def hf(model_folder) -> Any:
    return AutoModelForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture
def rows(pairs_file) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pairs_file.read_text().splitlines()]


# --- the model --------------------------------------------------------------------------------------------------------


def test_a_model_in_memory_is_the_one_that_is_judged(hf, rows, model_folder, pairs_file):
    from_file = ep.discover(rows, model=str(model_folder), **EAP)
    same = ep.discover(rows, model=hf, **EAP)
    assert same.circuit == from_file.circuit
    assert same.evaluation.circuit.kl == from_file.evaluation.circuit.kl
    with torch.no_grad():
        hf[0].transformer.h[1].mlp.c_proj.weight.mul_(3)
    altered = ep.discover(rows, model=hf, **EAP)
    assert altered.evaluation.model.logit_difference != from_file.evaluation.model.logit_difference
    assert altered.evaluation.protocol.weights != from_file.evaluation.protocol.weights
    assert altered.circuit.provenance["model"]["name"].endswith(" (in memory)")


def test_a_model_in_half_precision_stays_in_it(hf, rows):
    run = ep.discover(rows, model=(hf[0].to(torch.bfloat16), hf[1]), **EAP)
    assert run.config["dtype"] == "bfloat16"
    assert hf[0].dtype == torch.bfloat16
    for other in ({"dtype": "float32"}, {"device": "cuda"}, {"revision": "main"}):
        with pytest.raises(ValueError, match=rf"in memory is in bfloat16 on cpu.* so leave out {next(iter(other))}"):
            ep.discover(rows, model=hf, **other, **EAP)
        if other != {"dtype": "float32"}:
            with pytest.raises(ValueError, match="a model in memory is not converted, so .* has no effect"):
                ep.load_model(*hf, **other)


def test_a_tokenizer_beside_a_name_is_refused(hf):
    with pytest.raises(ValueError, match="model 'bundled' has its own tokenizer"):
        ep.load_model("bundled", hf[1])


def test_watching_hooks_are_fine_and_changing_ones_are_named(hf):
    model, tokenizer = hf
    watching = model.transformer.h[0].register_forward_hook(lambda module, args, output: None)
    assert ep.load_model(model, tokenizer).name.endswith("(in memory)")
    watching.remove()
    model.transformer.h[0].mlp.register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(ValueError, match=r"not run exactly .* It has forward hooks: remove those that change"):
        ep.load_model(model, tokenizer)


@pytest.mark.parametrize(("made", "message"), [
    (lambda model, tokenizer: (model, None), r"needs its tokenizer: load_model\(model, tokenizer\)"),
    (lambda model, tokenizer: (model.half(), tokenizer), r"got torch.float16. Convert it: model.to\(torch.bfloat16\)"),
    (lambda model, tokenizer: (model, "gpt2"), "expected its tokenizer, got str"),
    (lambda model, tokenizer: 5, "expected a model: its name, a folder .* got int"),
    (lambda model, tokenizer: torch.nn.Linear(2, 2), "got Linear"),
    (lambda model, tokenizer: "x" * 5000, "got a string of 5,000 characters"),
    (lambda model, tokenizer: "gpt2 (in memory)", "this model is not in a file. Pass it again"),
])
def test_models_that_cannot_be_used_are_refused(hf, made, message):
    given = made(*hf)
    with pytest.raises(ValueError, match=message):
        ep.load_model(*given) if isinstance(given, tuple) else ep.load_model(given)


def test_adapters_that_are_not_merged_are_refused(hf):
    layer = type("Linear", (torch.nn.Linear,), {"__module__": "peft.tuners.lora"})(2, 2)
    hf[0].transformer.h[0].extra = layer
    with pytest.raises(ValueError, match=r"merge them into the weights first: model.merge_and_unload\(\)"):
        ep.load_model(*hf)


def test_a_revision_of_what_is_on_this_machine_is_refused(model_folder):
    for name in ("bundled", str(model_folder)):
        with pytest.raises(ValueError, match="is a local model, which has no revision 'main'; leave out --revision"):
            ep.load_model(name, revision="main")


# --- weights ----------------------------------------------------------------------------------------------------------


def test_a_run_is_not_resumed_with_changed_weights(hf, rows, tmp_path):
    short = {"steps": 4, "edges": 12, "draw": False, "patterns": 0}
    ep.discover(rows, model=hf, out=tmp_path / "run", **short)
    (tmp_path / "run" / "evaluation.json").unlink()
    with torch.no_grad():
        hf[0].transformer.h[0].attn.c_attn.weight[3, 3] += 1
    with pytest.raises(ValueError, match=r"model.weights.fingerprint: .* in the run, .* now"):
        ep.discover(rows, model=hf, out=tmp_path / "run", resume=True, **short)


def test_a_circuit_of_changed_weights_is_warned_about(hf, rows, caplog):
    run = ep.discover(rows, model=hf, **EAP)
    with torch.no_grad():
        hf[0].transformer.h[0].attn.c_attn.weight.mul_(1.5)
    with caplog.at_level(logging.WARNING, "edge_pruning"):
        ep.evaluate(run, task=rows, model=ep.load_model(*hf), random_circuits=0)
    assert "have changed since this circuit was found" in caplog.text


def test_the_fingerprint_sees_values_types_and_names():
    from edge_pruning.loading.fingerprint import MOST_VALUES, fingerprint, is_sampled

    small, large = torch.arange(6.0), torch.zeros(MOST_VALUES * 3)
    first = fingerprint([("a", small), ("b", large)])
    assert first == fingerprint([("b", large.clone()), ("a", small.clone())])
    others = [
        [("a", small + 1), ("b", large)], [("a", small.double()), ("b", large)], [("c", small), ("b", large)],
        [("a", small.view(2, 3)), ("b", large)], [("a", small), ("b", large + 1e-3)],
    ]
    assert len({first, *map(fingerprint, others)}) == 6
    assert is_sampled([("b", large)])
    assert not is_sampled([("a", small)])


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_pairs_in_memory_are_kept_in_the_run_folder(model_folder, rows, tmp_path, cli):
    run = ep.discover((row for row in rows), model=str(model_folder), out=tmp_path / "run", **EAP)
    again = ep.evaluate(tmp_path / "run" / "circuit.json", random_circuits=0)
    assert again.circuit.kl == run.evaluation.circuit.kl
    assert again.protocol.data_hash == run.evaluation.protocol.data_hash
    assert cli("evaluate", tmp_path / "run" / "circuit.json").exit_code == 0


def test_a_run_of_pairs_in_memory_is_resumed_with_the_same_ones(model_folder, rows, tmp_path):
    about = {"model": str(model_folder), "out": tmp_path / "run", **EAP}
    run = ep.discover(rows, **about)
    (tmp_path / "run" / "evaluation.json").unlink()
    assert ep.discover(rows, resume=True, **about).circuit == run.circuit
    (tmp_path / "run" / "evaluation.json").unlink()
    with pytest.raises(ValueError, match="is a run with other settings.*data.train.hash"):
        ep.discover(rows[5:], resume=True, **about)


def test_token_pairs_are_kept_too(model_folder, rows, tmp_path):
    task = ep.get_task(rows)
    ready = task.pairs(AutoTokenizer.from_pretrained(model_folder), "train").pairs
    run = ep.discover(list(ready), model=str(model_folder), out=tmp_path / "run", **EAP)
    again = ep.evaluate(run, random_circuits=0)
    assert again.protocol.data_hash == run.evaluation.protocol.data_hash


def test_a_circuit_found_with_pairs_in_memory_asks_for_them(model_folder, rows):
    run = ep.discover(rows, model=str(model_folder), **EAP)
    with pytest.raises(ValueError, match="was found with pairs in memory; pass them again"):
        ep.evaluate(run.circuit)
    assert ep.evaluate(run.circuit, task=rows, random_circuits=0).circuit.kl == run.evaluation.circuit.kl


def test_without_answers_accuracy_is_agreement_and_called_so(model_folder, rows, tmp_path, cli):
    from rich.console import Console

    from edge_pruning.cli.report import print_evaluation

    bare = [(row["clean"], row["corrupted"]) for row in rows]
    about = {**EAP, "metric": "kl", "method": "eap-ig"}
    run = ep.discover(bare, model=str(model_folder), out=tmp_path / "run", **about)
    assert run.evaluation.model.accuracy == 1
    assert run.evaluation.circuit.accuracy == run.evaluation.circuit.exact_match
    assert any("no row has an answer" in warning for warning in run.evaluation.warnings)
    assert "agreement" in ep.Run.load(tmp_path / "run")._repr_html_()
    text = io.StringIO()
    print_evaluation(run.evaluation, Console(width=140, file=text))
    assert "agreement" in text.getvalue()
    assert "accuracy  " not in text.getvalue()
    assert cli("evaluate", tmp_path / "run" / "circuit.json", "--report").exit_code == 0
    assert "<th>agreement</th>" in (tmp_path / "run" / "report.html").read_text()


def test_a_task_that_is_made_already_is_the_task(model_folder, pairs_file, rows):
    made = ep.get_task(str(pairs_file), train=5)
    run = ep.discover(made, model=str(model_folder), **EAP)
    assert run.config["task"] == {"name": str(pairs_file), "settings": {"train": 5}}
    assert ep.discover(pairs_file, train=5, model=model_folder, **EAP).circuit == run.circuit
    with pytest.raises(ValueError, match="is already built, so it takes no settings; got train"):
        ep.get_task(made, train=3)


@pytest.mark.parametrize("bad", [5, None, object(), b"ioi"])
def test_what_is_no_task_is_refused(bad):
    with pytest.raises(ValueError, match="expected the name of a task, a path to a file with pairs, a list of pairs"):
        ep.discover(bad, edges=3)


def test_pairs_with_and_without_answers_stand_side_by_side(model_folder, rows):
    mixed = [{name: row[name] for name in ("clean", "corrupted", "answer", "wrong_answer")[: 2 + i % 3]}
             for i, row in enumerate(rows)]  # fmt: skip
    for method in ("eap", "eap-ig"):
        run = ep.discover(mixed, model=str(model_folder), **{**EAP, "method": method})
        assert any("rows have no answer" in warning for warning in run.evaluation.warnings)


@pytest.mark.parametrize("bad", [5, None, {"a": 1}, "x" * 5000])
def test_what_is_no_circuit_is_refused(bad):
    with pytest.raises(ValueError, match="expected (a circuit, a run, or )?the path of a circuit file[;,] got"):
        ep.evaluate(bad)
    with pytest.raises(ValueError, match="expected a Setup to judge on, got int"):
        ep.evaluate("circuit.json", 3)


# --- metrics and objectives -------------------------------------------------------------------------------------------


def answer_logit(logits, batch):
    """The logit of the answer."""
    return logits.gather(1, batch.answers)[:, 0]


def test_a_metric_of_ones_own_is_measured_everywhere(model_folder, rows):
    run = ep.discover(rows, model=str(model_folder), metric=answer_logit, **EAP)
    assert run.evaluation.protocol.metric == "answer_logit"
    values = run.evaluation.runs["model"].answer_logit
    assert run.evaluation.model.answer_logit == pytest.approx(float(values.mean()))
    assert run.evaluation.definitions["answer_logit"] == "The logit of the answer"
    assert run.evaluation.circuit.faithfulness == pytest.approx(
        (run.evaluation.circuit.answer_logit - run.evaluation.empty.answer_logit)
        / (run.evaluation.model.answer_logit - run.evaluation.empty.answer_logit)
    )
    assert "answer logit" in run._repr_html_()


def test_an_objective_of_ones_own_is_descended_on(model_folder, rows):
    seen = []

    def squared_distance(model, circuit, batch):
        seen.append(batch.size)
        return (model - circuit).square().sum(1)

    steps = []
    run = ep.discover(
        rows, model=str(model_folder), objective=squared_distance, steps=20, edges=12, draw=False, patterns=0,
        callback=steps.append,
    )
    assert seen
    assert [record["step"] for record in steps] == list(range(1, 21))
    assert all("squared_distance" in record and record["total"] == 20 for record in steps)
    assert run.config["settings"]["own_objective"] == "squared_distance"


@pytest.mark.parametrize(("function", "message"), [
    (lambda logits, batch: 3, "expected a metric with a name"),
    (5, r"expected the metric to be a function \(logits, batch\), got 5"),
    (print, r"expected the metric to be a function \(logits, batch\)"),
])
def test_what_is_no_metric_is_refused(model_folder, rows, function, message):
    with pytest.raises(ValueError, match=message):
        ep.evaluate(ep.discover(rows, model=str(model_folder), **EAP), task=rows, metric=function)


def gives(value: Any) -> Any:
    def mine(logits, batch):
        return value(logits, batch)

    return mine


@pytest.mark.parametrize(("value", "message"), [
    (lambda logits, batch: 3.0, "the metric 'mine' returned a float; expected a tensor"),
    (lambda logits, batch: logits, r"'mine' returned torch.float32 \(\d+, 23\); expected one float per example"),
    (lambda logits, batch: logits.argmax(1), r"'mine' returned torch.int64"),
    (lambda logits, batch: logits[:, 0] * torch.nan, r"'mine' is NaN or infinite on 8 of 8 pairs \(first: pair 1\)"),
])
def test_a_metric_that_returns_something_else_is_refused(model_folder, rows, value, message):
    with pytest.raises(ValueError, match=message):
        ep.discover(rows, model=str(model_folder), metric=gives(value), **{**EAP, "method": "random"})


@pytest.mark.parametrize(("value", "message"), [
    (lambda logits, batch: logits, "the objective 'mine' returned"),
    (lambda logits, batch: logits.detach()[:, 0], "the objective 'mine' has no gradient"),
])
def test_an_objective_that_cannot_be_descended_on_is_refused(model_folder, rows, value, message):
    with pytest.raises(ValueError, match=message):
        ep.discover(rows, model=str(model_folder), objective=gives(value), steps=5, edges=12)


def test_names_of_built_in_functions_are_kept():
    def kl(logits, batch):
        return logits[:, 0]

    def logit_difference(logits, batch):
        return logits[:, 0]

    with pytest.raises(ValueError, match="there is a built-in objective 'kl'"):
        ep.discover("ioi", objective=kl)
    with pytest.raises(ValueError, match="there is a built-in metric 'logit_difference'"):
        ep.discover("ioi", metric=logit_difference)
    with pytest.raises(ValueError, match="the metric 'gone' was a function; pass it again"):
        RunConfig(task="ioi", own_metric="gone")
    with pytest.raises(ValueError, match="the objective 'gone' was a function; pass it again"):
        RunConfig(task="ioi", own_objective="gone")


def test_a_callback_is_a_function(rows):
    with pytest.raises(ValueError, match="expected callback to be a function of one step's record, got int"):
        ep.discover("ioi", callback=3)


# --- settings that contradict each other, or do nothing ---------------------------------------------------------------


@pytest.mark.parametrize(("settings", "message"), [
    ({"steps": 5, "settings": {"steps": 7}}, "set twice, with different values: steps=5 and steps=7"),
    ({"train": 20, "data": {"train": 50}}, "train=20 and train=50"),
    ({"seed": 2**64}, r"expected a seed from 0 to 2\*\*63 - 1"),
    ({"seed": -1}, "expected a seed from 0"),
    ({"seed": 0.5}, "expected a seed from 0"),
    ({"learning_rate": 1e30}, "learning_rate: expected at most 1000, got 1e.30"),
])
def test_settings_that_cannot_be_meant_are_refused_before_the_work(settings, message):
    with pytest.raises(ValueError, match=message):
        ep.discover("ioi", **settings)


def test_the_same_value_twice_is_no_contradiction():
    assert RunConfig.of({"task": "ioi", "steps": 5, "settings": {"steps": 5}}).method_value.steps == 5


def test_a_seed_without_effect_and_nothing_to_resume_are_said(discover, tmp_path):
    result = discover("--method", "eap", "--edges", 12, "--seed", 3, "--resume", "--no-draw")
    assert result.exit_code == 0
    assert "method eap is deterministic: the seed changes baselines and intervals only" in result.stderr
    assert "there is no run to resume in" in result.stderr
    assert "draws nothing" not in discover("--steps", 4, "--edges", 12, "--seed", 3, "--overwrite").stderr


# --- what shows itself ------------------------------------------------------------------------------------------------


def test_results_show_themselves(model_folder, rows):
    run = ep.discover(rows, model=str(model_folder), **EAP)
    assert run.circuit._repr_svg_().startswith("<svg")
    assert "<table>" in run.evaluation._repr_html_()
    assert "<svg" in run._repr_html_()
    for value in (run, run.circuit, run.evaluation, run.evaluation.circuit, ep.load_model(str(model_folder))):
        assert "\n" not in repr(value)
        assert len(repr(value)) < 600
    assert dict(run.evaluation)["circuit"].kl == run.evaluation["circuit"]["kl"]
    assert set(run.evaluation.keys()) == set(run.evaluation.to_json())
    assert dict(run.evaluation.circuit) == run.evaluation.circuit.to_json()
    assert run.evaluation.circuit.get("nothing") is None


def test_text_of_users_is_escaped(model_folder, rows, tmp_path):
    path = tmp_path / "<b>x</b>.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = ep.discover(path, model=str(model_folder), **EAP)
    assert "<b>x" not in run.evaluation._repr_html_()
