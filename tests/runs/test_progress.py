"""The progress bar keeps one promise: how far the whole run is."""

from __future__ import annotations

import io
from itertools import pairwise

from rich.console import Console

import edge_pruning as ep
from edge_pruning.cli import progress
from edge_pruning.cli.progress import ProgressBar
from edge_pruning.runs import RunObserver


def bar() -> ProgressBar:
    return ProgressBar(Console(file=io.StringIO(), force_terminal=True))


def test_the_bar_is_that_of_the_whole_run_and_never_goes_back():
    shown = bar()
    shown.stage("loading the model")
    shown.stages({"finding the circuit": 300, "choosing the size": 100, "evaluating the circuit": 600})
    seen = []
    for words, done in [("finding the circuit", 0), ("finding the circuit", 5), ("choosing the size", 0),
                        ("choosing the size", 5), ("choosing the size", 1), ("drawing", 0),
                        ("evaluating the circuit", 5), ("evaluating the circuit", 10)]:
        shown.stage(words, done, 10)
        seen.append(shown.bar.tasks[0].completed)
    assert seen == [0, 150, 300, 350, 350, 350, 700, 1000]
    assert shown.bar.tasks[0].total == 1000
    shown.progress([{"step": 3, "kl": 0.5, "edges": 70.0}], 10)
    assert shown.bar.tasks[0].fields["state"] == "step 3 of 10, KL 0.500, 70 edges"
    shown.progress([{"step": step, "kl": 0.5, "edges": size} for step, size in ((4, 90.0), (5, 1200.0), (6, 30.0))], 10)
    assert shown.bar.tasks[0].fields["state"] == "step 6 of 10, KL 0.500, 30 to 1,200 edges"


def test_without_a_plan_it_is_that_of_the_current_stage():
    shown = bar()
    shown.stage("evaluating", 3, 10)
    assert (shown.bar.tasks[0].completed, shown.bar.tasks[0].total) == (3, 10)
    shown.stage("measuring all sizes")
    assert (shown.bar.tasks[0].completed, shown.bar.tasks[0].total) == (0, None)


def test_where_there_is_no_terminal_a_line_a_minute_says_the_same(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    shown = ProgressBar(Console(file=file))
    shown.stages({"searching": 100, "judging": 100})
    shown.stage("searching")
    for step in range(10):
        clock[0] += 25
        shown.progress([{"step": step, "kl": 0.5}], 10)
    lines = file.getvalue().splitlines()
    assert [line[:7] for line in lines] == ["0:01:15", "0:02:30", "0:03:45"]
    assert "  searching  step 2 of 10, KL 0.500" in lines[0]


class Planned(RunObserver):
    def __init__(self):
        self.work, self.seen = {}, []

    def stages(self, work):
        assert not self.work, "planned twice"
        self.work = dict(work)

    def stage(self, words, done=0, total=0):
        if words not in self.seen:
            self.seen.append(words)


def test_a_run_does_what_it_has_planned_in_that_order(model_folder, pairs_file):
    for settings in ({}, {"edges": [9, 12]}, {"edges": 9, "seeds": 2}, {"edges": 9, "method": "eap"}):
        watch = Planned()
        find = ep.discover_seeds if "seeds" in settings else ep.discover
        find(str(pairs_file), **{"model": str(model_folder), "observer": watch, "steps": 5, **settings}
             if "method" not in settings else {"model": str(model_folder), "observer": watch, **settings})
        places = [watch.seen.index(words) for words in watch.work]
        assert all(a < b for a, b in pairwise(places)), (watch.work, watch.seen)
        assert all(units > 0 for units in watch.work.values())
