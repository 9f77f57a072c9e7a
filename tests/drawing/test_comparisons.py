"""Pictures of comparisons: every edge once with the hue of its group, every number in its cell, safe and stable."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from test_circuit_svg import GRAPHS, HOSTILE, SVG, of_class, parse, random_circuit, words

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import Matrix, draw_matrices, draw_overlap
from edge_pruning.drawing.stroke import GROUPS


@pytest.fixture(params=GRAPHS, ids=list(GRAPHS))
def pair(request) -> dict[str, Circuit]:
    graph = GRAPHS[request.param]
    return {"A": random_circuit(graph, 30, 1), "B": random_circuit(graph, 20, 2)}


def test_every_edge_of_either_is_drawn_once_in_the_hue_of_its_group(pair):
    a, b = pair.values()
    drawn = {edge.get("data-edge"): edge for edge in of_class(parse(draw_overlap(pair)), "ep-edge")}
    assert drawn.keys() == set(a.edges) | set(b.edges)
    for name, element in drawn.items():
        group = "both" if name in a and name in b else "first" if name in a else "second"
        assert element.findall(f"{SVG}path")[-1].get("stroke") == GROUPS[group]


def test_shared_edges_lie_on_top(pair):
    a, b = pair.values()
    order = [edge.get("data-edge") in set((a & b).edges) for edge in of_class(parse(draw_overlap(pair)), "ep-edge")]
    assert order == sorted(order)


def test_only_what_dangles_in_every_circuit_that_has_it_is_dashed(pair):
    alive = {edge for circuit in pair.values() for edge in circuit.without_dangling().edges}
    for element in of_class(parse(draw_overlap(pair)), "ep-edge"):
        dashed = element.findall(f"{SVG}path")[-1].get("stroke-dasharray") is not None
        assert dashed == (element.get("data-edge") not in alive)


def test_the_legend_counts_the_groups(pair):
    a, b = pair.values()
    shown = words(parse(draw_overlap(pair)))
    for text in (f"in both ({len(a & b)})", f"only in A ({len(a - b)})", f"only in B ({len(b - a)})"):
        assert text in shown


def test_two_circuits_and_no_other_number_are_drawn_over_each_other(pair):
    with pytest.raises(ValueError, match="expected two circuits to draw over each other, got 1"):
        draw_overlap({"A": pair["A"]})
    other = random_circuit(GRAPHS["one head"] if pair["A"].graph != GRAPHS["one head"] else GRAPHS["gpt2"], 4)
    with pytest.raises(ValueError, match="different graphs"):
        draw_overlap({"A": pair["A"], "B": other})


def test_names_can_be_anything(pair):
    hostile = {HOSTILE: pair["A"], "x" * 500: pair["B"]}
    parse(draw_overlap(hostile, title=HOSTILE))
    parse(draw_matrices([Matrix(HOSTILE, [HOSTILE], ["y" * 500], [[0.5]])], title=HOSTILE, notes=[HOSTILE * 20]))


def test_equal_circuits_give_equal_text(pair):
    assert draw_overlap(pair) == draw_overlap(dict(pair))


# --- heat maps --------------------------------------------------------------------------------------------------------


def test_every_number_stands_in_its_cell_and_what_is_unknown_is_a_dash():
    text = draw_matrices([Matrix("IoU", ["A", "B"], ["A", "B"], [[1.0, 0.25], [float("nan"), None]])])
    cells = of_class(parse(text), "ep-cell")
    assert [cell.findtext(f"{SVG}title") for cell in cells] == [
        "IoU: A, A: 1.00", "IoU: A, B: 0.25", "IoU: B, A: –", "IoU: B, B: –"
    ]
    assert Counter(words(parse(text)))["–"] == 2


def test_more_is_darker_from_low_to_high_whichever_is_larger():
    def darkness(low: float, high: float) -> list[int]:
        text = draw_matrices([Matrix("", ["A"], list("ABC"), [[0.0, 0.5, 1.0]], low, high)])
        fills = [cell.get("fill") or "" for cell in of_class(parse(text), "ep-cell")]
        return [-sum(int(part, 16) for part in re.findall("[0-9a-f]{2}", fill)) for fill in fills]

    assert darkness(0, 1) == sorted(darkness(0, 1))
    assert darkness(1, 0) == sorted(darkness(1, 0), reverse=True)
    assert len(set(darkness(0, 1))) == 3


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="expected at least one matrix"):
        draw_matrices([])
