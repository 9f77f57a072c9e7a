"""Every interaction of the page, in Chromium; skipped where there is none."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

import pytest
import torch
from browser import missing
from cutting import cut
from made_up import HOSTILE

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.view import Source, sources_of, view_page, view_paths

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@dataclass(frozen=True, eq=False, kw_only=True)
class KnownTruth(Source):
    """A run whose true circuit is known."""

    known: Circuit

    @property
    def truth(self) -> Circuit:
        return self.known


def test_the_page_opens_without_a_complaint_as_the_circuit_was_found(browser, make_run, written):
    folder = make_run(edges=20)
    browser.open(written(folder))
    n = len(cut(folder, 20))
    assert browser.complaints() == []
    assert browser.text("#shown") == f"{n} of {n} edges shown"
    assert sorted(browser.texts("#table tbody th")) == sorted(cut(folder, 20))
    assert browser.state() == {}


@pytest.mark.parametrize("size", [7, 40, 90])
def test_the_slider_cuts_as_the_library_does(browser, make_run, written, size):
    folder = make_run(edges=20)
    browser.open(written(folder))
    browser.choose("#size-number", size)
    assert browser.state() == {"size": size}
    browser.wait("return document.querySelectorAll('#table tbody tr').length === arguments[0]", len(cut(folder, size)))
    assert sorted(browser.texts("#table tbody th")) == sorted(cut(folder, size))
    assert json.loads(browser.saved("#save-circuit"))["edges"] == sorted(cut(folder, size))


def test_quality_is_measured_or_looks_interpolated(browser, make_run, written):
    browser.open(written(make_run(edges=20)))
    assert browser.text("#measured").startswith("Measured on test pairs: KL 0.500 nats, faithfulness 75.0 %")
    assert browser.run("return getComputedStyle(document.getElementById('measured')).fontStyle") == "normal"
    browser.choose("#size-number", 30)
    assert browser.text("#measured").startswith("≈ Interpolated between 20 and 40 edges: KL 0.354")
    assert browser.run("return getComputedStyle(document.getElementById('measured')).fontStyle") == "italic"
    browser.choose("#size-number", 3)
    assert browser.text("#measured") == "Quality was measured only from 5 to 40 edges."
    browser.click("#as-found")
    assert browser.state() == {}


def test_a_click_on_a_node_mutes_all_but_its_inputs_and_outputs(browser, make_run, written):
    folder = make_run(edges=60)
    browser.open(written(folder))
    browser.click('.node[aria-label^="m0:"]')
    near = [name for name in cut(folder, 60) if name.startswith("m0->") or name.endswith("->m0")]
    assert browser.state() == {"focus": "m0"}
    assert browser.text("#shown").startswith(f"{len(near)} in focus, ")
    assert sorted(browser.texts("#table tbody th")) == sorted(near)
    assert browser.run("return document.querySelector('#picture canvas').classList.contains('muted')")
    assert "edges in" in browser.text("#panel")
    browser.press("\ue00c", "body")  # escape
    assert browser.state() == {}
    assert not browser.run("return document.querySelector('#picture canvas').classList.contains('muted')")


def test_shift_click_shows_the_paths_between_two_nodes(browser, make_run, written):
    browser.open(written(make_run(edges=80)))
    browser.click('.node[aria-label^="m0:"]')
    browser.click('.node[aria-label^="m3:"]', shiftKey=True)
    assert browser.state() == {"focus": "m0~m3"}
    edges = browser.texts("#table tbody th")
    assert any(edge.startswith("m0->") for edge in edges)
    assert any(edge.endswith("->m3") for edge in edges)
    assert not any(edge.startswith("input") or edge.endswith("logits") for edge in edges)


def test_an_edge_of_the_table_shows_its_facts(browser, make_run, written):
    folder = make_run(edges=20)
    browser.open(written(folder))
    name = browser.texts("#table tbody th")[0]
    browser.click("#table tbody th button")
    assert browser.state() == {"focus": name}
    facts = browser.text("#panel")
    assert name in facts
    assert "score" in facts
    assert "rank" in facts


def test_resting_on_a_node_shows_a_note_that_shift_keeps(browser, make_run, written):
    browser.open(written(make_run(edges=30)))
    move = (
        "const n = document.querySelector(arguments[0]); const b = n.getBoundingClientRect();"
        "n.dispatchEvent(new PointerEvent('pointermove', { bubbles: true, clientX: b.x + b.width / 2,"
        "clientY: b.y + b.height / 2, shiftKey: arguments[1] }))"
    )
    browser.run(move, '.node[aria-label^="m0:"]', False)
    assert browser.text("#tooltip b") == "m0"
    browser.run(move, '.node[aria-label^="logits"]', True)
    assert browser.text("#tooltip b") == "m0"
    browser.run(move, '.node[aria-label^="logits"]', False)
    assert browser.text("#tooltip b") == "logits"


def test_edges_can_be_searched_and_kinds_hidden(browser, make_run, written):
    folder = make_run(edges=60)
    browser.open(written(folder))
    browser.choose("#search", "m0->")
    browser.wait("return document.querySelector('#shown').textContent.includes('in focus')")
    assert browser.state() == {"search": "m0->"}
    assert all(name.startswith("m0->") for name in browser.texts("#table tbody th"))
    browser.choose("#search", "")
    browser.wait("return !document.querySelector('#shown').textContent.includes('in focus')")
    browser.click('#legend [data-kind="q"]')
    assert browser.state() == {"hide": ["q"]}
    assert sorted(browser.texts("#table tbody th")) == sorted(n for n in cut(folder, 60) if not n.endswith("<q>"))


def test_the_picture_shows_the_strongest_and_says_of_how_many(browser, make_run, written):
    folder = make_run(edges=60)
    browser.open(written(folder))
    browser.choose("#show", 30)
    assert browser.text("#shown") == f"30 of {len(cut(folder, 60))} edges shown"
    assert len(json.loads(browser.saved("#save-circuit"))["edges"]) == 30


def test_the_table_sorts_by_every_column(browser, make_run, written):
    browser.open(written(make_run(edges=40)))
    for column in ("name", "kind", "score", "rank"):
        browser.click(f'[data-column="{column}"]')
        first = browser.texts("#table tbody th")
        browser.click(f'[data-column="{column}"]')
        assert browser.texts("#table tbody th")[0] != first[0]
        heading = f'th:has([data-column="{column}"])'
        assert browser.find(heading).get_attribute("aria-sort") == "descending"


def test_nodes_can_be_pinned_labelled_and_grouped(browser, make_run, written):
    browser.open(written(make_run(edges=60)))
    for node in ("m0", "m1"):
        browser.click(f'.node[aria-label^="{node}:"]')
        browser.press("p", "body")
    browser.choose("#panel .actions input", "copies names")
    assert browser.state() == {"focus": "m1", "pins": ["m0", "m1"], "labels": {"m1": "copies names"}}
    assert "copies names" in browser.text("#picture svg")
    assert "Pinnedm0, m1" in browser.text("#panel")
    browser.run("document.querySelector('[aria-label=\"Name for a group of the pinned nodes\"]').value = 'early'")
    browser.run("[...document.querySelectorAll('#panel button')].find((b) => b.textContent === 'Group').click()")
    assert browser.state()["groups"] == [{"name": "early", "nodes": ["m0", "m1"]}]
    assert browser.texts(".node.group text") == ["early"]
    assert not browser.texts('.node[aria-label^="m0:"]:not(.off) text')
    assert browser.text("#panel").endswith("Groupsearly")
    browser.click(".node.group")
    assert browser.text("#panel") == "early×m0, m1Ungroup"
    browser.click("#panel .actions button")
    assert browser.state().get("groups") is None


def test_a_group_without_a_name_gets_the_first_free_one(browser, make_run, written):
    taken = [{"name": "group 1", "nodes": ["m0"]}, {"name": "group 3", "nodes": ["m1"]}]
    browser.open(written(make_run(edges=60)), {"groups": taken, "pins": ["a0.h0", "a0.h1"]})
    browser.run("[...document.querySelectorAll('#panel button')].find((b) => b.textContent === 'Group').click()")
    assert browser.state()["groups"][-1] == {"name": "group 2", "nodes": ["a0.h0", "a0.h1"]}


def test_a_view_comes_back_from_its_link_and_from_its_file(browser, make_run, written, tmp_path):
    page = written(make_run(edges=60))
    state = {"size": 50, "hide": ["k"], "focus": "m0", "pins": ["m1"], "labels": {"m0": "one"}, "notes": "two\nthree"}
    browser.open(page, state)
    assert browser.state() == state
    assert browser.run("return document.getElementById('notes').value") == "two\nthree"
    saved = tmp_path / "view.json"
    saved.write_text(browser.saved("#save-state"), encoding="utf-8")
    browser.open(page)
    browser.find("#load-state").send_keys(str(saved))
    browser.wait("return document.getElementById('said').textContent.startsWith('Loaded')")
    assert browser.state() == state
    saved.write_text('{"format": "else"}')
    browser.find("#load-state").send_keys(str(saved))
    browser.wait("return document.getElementById('said').textContent.includes('could not be read')")


def test_exports_are_a_picture_and_a_circuit_that_the_library_reads(browser, make_run, written, tmp_path):
    folder = make_run(edges=20)
    browser.open(written(folder))
    svg = browser.saved("#save-svg")
    assert svg.startswith("<svg xmlns=")
    assert svg.count('fill="none" stroke-linecap="round"') == len(cut(folder, 20))
    (tmp_path / "shown.json").write_text(browser.saved("#save-circuit"), encoding="utf-8")
    circuit = Circuit.load(tmp_path / "shown.json")
    assert sorted(circuit.edges) == sorted(cut(folder, 20))
    assert circuit.provenance["selected"] == "edges shown in the viewer"
    assert files.read_json(tmp_path / "shown.json")["counts"]["edges_without_dangling"] == len(circuit)
    browser.run("window.saved = []")
    browser.click("#save-png")
    browser.wait("return window.saved.some((blob) => blob.type === 'image/png' && blob.size > 2000)")


def test_two_circuits_are_laid_over_each_other(browser, make_run, written):
    a, b = make_run("a", edges=40, seed=0), make_run("b", edges=40, seed=1)
    browser.open(written(a, b))
    browser.choose("#other", 1)
    one, other = set(cut(a, 40)), set(cut(b, 40))
    legend = browser.text("#legend")
    for words, n in (("in both", one & other), ("only in a", one - other), ("only in b", other - one)):
        assert f"{words} {len(n)}" in legend
    assert sorted(browser.texts("#table tbody th")) == sorted(one | other)
    assert browser.state() == {"other": 1}


def test_another_run_is_chosen_with_its_own_report(browser, make_run, written):
    browser.open(written(make_run("a", edges=10), make_run("b", edges=30)))
    assert browser.texts("[data-report]:not([hidden]) h1") == ["a in tiny"]
    browser.choose("#circuit", 1)
    assert browser.texts("[data-report]:not([hidden]) h1") == ["b in tiny"]
    assert browser.state() == {"circuit": 1}


def test_the_truth_shows_hits_misses_and_extras(browser, make_run, tmp_path):
    folder = make_run(edges=40)
    found = cut(folder, 40)
    graph = Circuit.load(folder / "circuit.json").graph
    true = Circuit.from_names(graph, ["input->m0", "m0->logits"])
    page = tmp_path / "page.html"
    page.write_text(view_page([KnownTruth(*vars(sources_of([folder])[0]).values(), known=true)]))
    browser.open(page, {"other": 1})
    hits = len(set(found) & set(true.edges))
    for words in (f"hit: true and found {hits}", f"extra: found, not true {len(found) - hits}",
                  f"missed: true, not found {2 - hits}"):  # fmt: skip
        assert words in browser.text("#legend")


@pytest.mark.parametrize("state", [
    {}, {"search": HOSTILE}, {"labels": {"m0": HOSTILE}, "notes": HOSTILE, "focus": HOSTILE, "pins": [HOSTILE]},
])
def test_hostile_names_labels_and_links_do_nothing(browser, make_run, written, state):
    browser.open(written(make_run(HOSTILE, model=HOSTILE, warnings=[HOSTILE])), state)
    browser.saved("#save-svg")
    assert browser.run("return document.title").startswith("Circuit: </script>")
    assert browser.run("return document.querySelectorAll('main img, script').length") == 2
    assert browser.complaints() == []


def test_a_script_that_got_in_would_not_run(browser, make_run, written):
    page = written(make_run())
    page.write_text(page.read_text().replace("</main>", "<script>document.title = 'taken'</script></main>"))
    browser.open(page)
    assert browser.run("return document.title") != "taken"
    assert any("Content Security Policy" in words for words in browser.complaints())


def test_a_frame_in_a_notebook_works(browser, make_run, tmp_path):
    from edge_pruning.view import Inline

    page = tmp_path / "notebook.html"
    page.write_text("<!doctype html><title>n</title>" + Inline(view_paths([make_run(edges=20)]))._repr_html_())
    browser.driver.get(page.as_uri())
    browser.driver.switch_to.frame(0)
    browser.wait("return document.getElementById('explorer')?.dataset.ready === 'true'")
    browser.choose("#size-number", 40)
    assert browser.text("#shown").endswith("shown")
    browser.driver.switch_to.default_content()


def test_twenty_thousand_edges_are_the_most_that_are_drawn(browser, make_run, written):
    graph = Graph(ModelShape(16, 12))
    browser.open(written(make_run(graph=graph, edges=graph.n_edges)), {"show": 20000})
    assert graph.n_edges > 40_000
    assert f"20,000 of {graph.n_edges:,} edges shown; at most 20,000 can be drawn" in browser.text("#shown")


def test_own_pairs_without_answers_are_judged_by_agreement(browser, make_run, written):
    browser.open(written(make_run(edges=20, predicted=8)))
    assert "agreement 75.0 %" in browser.text("#measured")
    assert "accuracy" not in browser.text("#measured")
    assert browser.texts("#curves figcaption b") == ["KL", "Faithfulness", "Agreement"]
    assert browser.texts(".tiles dt")[3] == "Agreement"


def test_attention_is_drawn_over_the_patches_of_an_image(browser, make_run, written):
    folder = make_run(edges=20)
    files.write_json(folder / "patterns.json", image_patterns())
    browser.open(written(folder))
    assert browser.complaints() == []
    assert browser.find("#panel .example img").get_attribute("src").startswith("data:image/png;base64,")
    assert browser.texts("#heads .run h4") == ["in the model", "on the corrupted image"]
    weights = "return [...document.querySelectorAll('#heads .run .patch')].map((patch) => patch.title)"
    assert browser.run(weights) == ["20 %", "30 %", "25 %", "15 %"]  # from the class token, in both runs
    browser.run("document.querySelectorAll('#heads .run .patch')[1].click()")
    assert browser.run(weights) == ["60 %", "40 %", "5 %", "90 %"]
    said = ["right → left 60 %, right 40 %", "right → right 90 %, class token 5 %, left 5 %"]
    assert browser.texts("#heads .run .note") == said


def image_patterns() -> dict[str, object]:
    """One head on one pair of images with two patches side by side."""
    rows = [
        *[(50, 20, 30), (0, 100, 0), (0, 60, 40)],  # in the model, from the class token and from each patch
        *[(60, 25, 15), (100, 0, 0), (5, 5, 90)],
    ]
    stored = bytes(round(255 * percent / 100) for row in rows for percent in row)
    png = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAC0lEQVR4nGNg+A8AAQIBAEK+vGgAAAAASUVORK5CYII="
    picture = f"data:image/png;base64,{png}"
    positions = ["class token", "left", "right"]
    return {
        "metric": "logit_difference", "definition": "what", "runs": ["model", "corrupted"],
        "pairs": [{
            "clean": positions, "corrupted": positions, "position": 0, "answer": ["3"], "wrong": ["8"],
            "images": {"pictures": [picture, picture], "grid": [1, 2], "queries": 3},
        }],
        "heads": [{"node": "a0.h0", "effect": 0.5, "effect_by_pair": [0.5]}],
        "weights": base64.b64encode(zlib.compress(stored)).decode(),
    }  # fmt: skip


def test_a_node_that_the_circuit_does_not_have_says_so(browser, make_run, written):
    folder = make_run(edges=20)
    used = {name for edge in cut(folder, 5) for name in edge.replace("<", "->").split("->")}
    absent = next(f"a{layer}.h{head}" for layer in range(4) for head in range(4) if f"a{layer}.h{head}" not in used)
    browser.open(written(folder), {"size": 5, "focus": absent})
    assert "At this size, the circuit has no visible edge into or out of this node." in browser.text("#panel")
    assert browser.find(".node.focus").get_attribute("aria-label").endswith(f"{absent}: 0 edges in, 0 out")


def test_a_page_says_what_a_large_circuit_leaves_out(browser, tmp_path):
    graph = Graph(ModelShape(24, 16))
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(0))
    page = tmp_path / "page.html"
    page.write_text(view_page([Source("large", Circuit.from_scores(EdgeScores(graph, values), edges=120_000))]))
    assert page.stat().st_size < 700_000
    browser.open(page)
    assert browser.text("#cut") == (
        f"This page contains only the strongest 100,000 of {graph.n_edges:,} ranked edges, so it shows circuits up to "
        "that size. The circuit as found has 120,000 edges; the page contains 100,000 of them."
    )
    assert browser.complaints() == []
