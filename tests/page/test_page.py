"""The page of a report: one file that fetches nothing, escapes everything, and shows what the report holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from edge_pruning.ablation import Patch
from edge_pruning.circuit import Circuit
from edge_pruning.drawing.dark import DARK
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import Report, Stability, report_on
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models import Adapter
from edge_pruning.numbers import common_numbers
from edge_pruning.page import render
from edge_pruning.provenance import Provenance
from edge_pruning.setup import Setup
from edge_pruning.tasks.encoding import TextPair
from edge_pruning.tasks.task import PairSet

PairFactory = Callable[..., PairSet]
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"
VOID = {"meta", "input", "br", "img", "link"}
ALWAYS_LEGIBLE = {"#7c838c", "#cc79a7"}  # on white and on dark paper alike


class Parsed(HTMLParser):
    """Elements with their attributes, and the text outside of the style; every element must be closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def with_words(pairs: PairSet, words: str) -> PairSet:
    """The same pairs with text, all of it hostile."""
    texts = tuple(TextPair(f"{words} clean {i}", f"{words} corrupted {i}", (words,), (words,), words)
                  for i in range(len(pairs.pairs)))
    return PairSet(words, pairs.split, pairs.metric, pairs.pairs, texts)


def judged(adapter: Adapter, pairs: PairSet, words: str = "ioi", **options: Any) -> tuple[Report, Circuit]:
    engine, edges = FusedPass(adapter), FusedPass(adapter).graph.edge_mask
    scores = torch.rand(edges.shape, generator=torch.Generator().manual_seed(0)).masked_fill(~edges, -torch.inf)
    origin = {
        "task": {"name": words, "settings": {"path": words}}, "model": {"name": words, "revision": words},
        "method": {"name": words, "settings": {"note": words}}, "ablation": words, "seed": 3,
    }
    circuits = [
        Circuit(engine.graph, scores > at, EdgeScores(engine.graph, scores), Provenance(origin)) for at in (0.6, 0.7)
    ]
    size = Stability(tuple(circuits), (0, 1)).to_json()
    numbers = {"kl": 0.5, "faithfulness": 0.9}
    size |= {"evaluation": {"seeds": [{"seed": 0, **numbers}, {"seed": 1, **numbers}], "consensus": numbers,
                            "core": numbers}, "warnings": []}
    stability = {"seeds": [0, 1], "sizes": [size], "examples": 8, "split": "test", "ablation": "patch"}
    given = {"random_circuits": 2, "stability": stability, **options}
    return report_on(circuits[0], Setup(engine, with_words(pairs, words), Patch()), **given), circuits[0]


@pytest.fixture(scope="module")
def page(tiny_gpt2: Adapter, random_pairs: PairFactory) -> Callable[[str], str]:
    @cache
    def of(words: str) -> str:
        report, circuit = judged(tiny_gpt2, random_pairs(), words)
        return render(report.to_json(), circuit)

    return of


def test_the_page_is_well_formed_and_has_every_section(page: Callable[[str], str]) -> None:
    parsed = Parsed(page("ioi"))
    for words in ("Circuit report", "Circuit report ioi", "Read this first", "Every edge", "How good it is",
                  "Quality against size", "Edges needed", "CPR", "CMD", "What each edge is good for", "Pair by pair",
                  "furthest from the model", "Other seeds", "consensus", "How the circuit was found and judged",
                  "What the numbers mean", "95 % confidence intervals"):
        assert words in parsed.text, words
    curves = 2 * len(common_numbers("kl"))  # each number on both axes
    assert parsed.count("svg") == 1 + curves + 1 + 2 + 1  # circuit, curves, losses, spreads, overlaps
    assert parsed.count("h1") == 1


def test_it_says_conditions_counts_and_convention(page: Callable[[str], str], tiny_gpt2: Adapter) -> None:
    text = Parsed(page("ioi")).text
    for words in ("8 test pairs", "patch ablation", "float32", "75 edges in the graph", "without dangling ones",
                  "one embedding writer; q per head, k and v per key-value head",
                  "a removed edge carries the value on the corrupted prompt of the pair"):
        assert words in text, words


@pytest.mark.parametrize("words", ["ioi", HOSTILE])
def test_nothing_is_fetched_and_nothing_runs(page: Callable[[str], str], words: str) -> None:
    html = page(words)
    parsed = Parsed(html)
    for tag in ("script", "img", "link", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"):
        assert parsed.count(tag) == 0, tag
    for _, attributes in parsed.elements:
        assert not {"src", "href", "xlink:href", "srcset", "action", "data", "poster"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\(|expression\(", html)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address to go to
    policy = next(a["content"] for name, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_hostile_words_are_shown_as_they_are(page: Callable[[str], str]) -> None:
    parsed = Parsed(page(HOSTILE))
    around = ("{} clean", "{} corrupted", "path={}", "note={}", "Circuit report: {}", "revision {}",
              "8 test pairs of {}")
    for words in around:
        assert words.format(HOSTILE) in parsed.text, words
    assert "<script" not in page(HOSTILE)
    assert "<img" not in page(HOSTILE)


def test_the_numbers_are_those_of_the_report(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    report, circuit = judged(tiny_gpt2, random_pairs())
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    text = Parsed(render(content, circuit)).text.replace("\N{MINUS SIGN}", "-")
    for run in ("circuit", "complement", "empty", "random"):
        for name in ("kl", "accuracy", "exact_match", "faithfulness", "logit_difference"):
            assert f"{content['evaluation'][run][name]:.3f}".replace("-0.000", "0.000") in text
    assert f"{content['curve']['log_cpr']:.3f}".replace("-0.000", "0.000") in text
    for level in content["curve"]["levels"]:
        assert level["words"] in text
    for row in content["minimality"]["rows"]:
        assert row["edge"] in text
    for warning in content["warnings"]:
        assert warning[1:] in text
    assert content["pairs"][0]["kl"] == max(pair["kl"] for pair in content["pairs"])


def test_parts_that_there_are_not_are_left_out(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    engine, pairs = FusedPass(tiny_gpt2), random_pairs(wrong=False)
    empty = Circuit(engine.graph, torch.zeros_like(engine.graph.edge_mask))
    report = report_on(empty, Setup(engine, pairs, Patch()), random_circuits=0)
    parts = (report.curve, report.minimality, report.stability, report.pairs)
    assert parts == (None, None, None, ())
    text = Parsed(render(report.to_json(), empty)).text
    for words in ("Quality against size", "What each edge is good for", "Other seeds", "furthest from the model",
                  "Against the truth"):
        assert words not in text
    assert "0 of 75 edges" in text
    assert "–" in text  # what is undefined


def test_undefined_numbers_do_not_break_the_page(
    build_model: Callable[..., Adapter], random_pairs: PairFactory
) -> None:
    adapter = build_model("gpt2")
    adapter.hf.transformer.wpe.weight[4] = torch.nan
    report, circuit = judged(adapter, random_pairs())
    text = Parsed(render(json.loads(json.dumps(report.to_json(), allow_nan=False)), circuit)).text
    assert "logits are infinite or NaN" in text


def test_warnings_of_all_parts_are_said_once(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    warnings = judged(tiny_gpt2, random_pairs())[0].warnings
    assert len(warnings) == len(set(warnings))
    assert sum("only 8 pairs" in warning for warning in warnings) == 1
    assert any("have no effect that 8 pairs can show" in warning for warning in warnings)


def test_every_colour_of_a_picture_can_be_seen_on_dark_paper(page: Callable[[str], str]) -> None:
    html = page("ioi")
    heat_maps = re.compile(r'<div class="card scroll paper">.*?</svg>', re.DOTALL)  # stay on white paper
    colours = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', heat_maps.sub("", html)))
    assert colours <= DARK.keys() | ALWAYS_LEGIBLE
    for light, dark in DARK.items():
        assert f'.picture [fill="{light}"]{{fill:{dark}}}' in html
    assert "@media screen and (prefers-color-scheme: dark)" in html


def test_pairs_of_images_are_shown_with_both_images(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    report, circuit = judged(tiny_gpt2, random_pairs())
    content = report.to_json()
    picture = "data:image/png;base64,iVBORw0="
    content["pairs"][0] |= {"clean": "a.png", "answer": ["cat"], "pictures": [picture, "javascript:alert(1)"]}
    html = render(content, circuit)
    assert html.count("<img") == 1
    assert f'<img class="image" src="{picture}" alt=""><q>a.png</q> → <span class="right">cat</span>' in html
