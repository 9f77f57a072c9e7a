"""The page serves keyboards, screen readers, small screens and readers who want no motion; in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
AXE = Path(__file__).parents[2] / "viewer" / "node_modules" / "axe-core" / "axe.min.js"


def test_the_size_moves_with_the_keyboard(browser, make_run, written):
    browser.open(written(make_run(edges=20)))
    browser.press("]", "#size")
    assert browser.state()["size"] == 22
    browser.press("[", "#size")
    assert browser.state()["size"] == 20
    browser.press("\ue014", "#size")  # arrow to the right
    assert browser.state()["size"] == 21


def test_all_of_it_can_be_reached_with_the_keyboard(browser, make_run, written):
    browser.open(written(make_run(edges=60)))
    browser.run("document.querySelector('.node[tabindex=\"0\"]').focus()")
    first = browser.run("return document.activeElement.getAttribute('aria-label')")
    browser.press("\ue015")  # arrow down
    second = browser.run("return document.activeElement.getAttribute('aria-label')")
    assert second
    assert second != first
    browser.press("\ue007")  # enter
    assert browser.state()["focus"] == second.partition(":")[0].split(", ")[-1]
    assert browser.run("return document.activeElement.getAttribute('aria-label')") == second
    browser.press("/")
    assert browser.run("return document.activeElement.id") == "search"
    browser.press("m1")
    assert browser.state()["search"] == "m1"
    browser.press("?", "body")
    assert browser.run("return document.getElementById('help').open")


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_scrolls_sideways(browser, make_run, written, width):
    browser.open(written(make_run(edges=60)), width=width, height=800)
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_reduced_motion_stops_transitions(browser, make_run, written):
    page = written(make_run())
    look = "return getComputedStyle(document.querySelector('#picture canvas')).transitionDuration"
    browser.open(page, prefers_reduced_motion="reduce")
    assert browser.run(look) == "0s"
    browser.open(page, prefers_reduced_motion="no-preference")
    assert browser.run(look) != "0s"


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (cd viewer && npm ci)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_wrong(browser, make_run, written, scheme, width):
    browser.open(written(make_run("a", edges=60), make_run("b", edges=30)), {"focus": "m0", "pins": ["m0", "m1"]},
                 width=width, prefers_color_scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.run(AXE.read_text(encoding="utf-8"))
    found = browser.driver.execute_async_script(
        "const done = arguments[0]; axe.run(document, { resultTypes: ['violations'] }).then((r) => done(r.violations))"
    )
    assert [(v["id"], [n["target"] for n in v["nodes"]][:4]) for v in found] == []


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (844, 390)])
def test_how_many_edges_are_shown_stays_in_sight(browser, make_run, written, width, height):
    browser.open(written(make_run(edges=60)), width=width, height=height)
    shown = "const box = document.querySelector(arguments[0]).getBoundingClientRect(); return [box.top, box.bottom]"
    for place in ("#picture", "#table", "#notes"):
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        browser.run("document.querySelector(arguments[0]).scrollIntoView({ block: 'end' })", place)
        browser.settle()
        top, bottom = browser.run(shown, "#shown")
        assert 0 <= top < bottom <= height
        assert browser.run(shown, "#strip")[1] <= 0.28 * height  # it leaves room for the picture


def test_what_the_keyboard_reaches_is_not_behind_the_strip(browser, make_run, written):
    browser.open(written(make_run(edges=60)), width=390, height=844)
    browser.run("scrollTo(0, document.body.scrollHeight); document.querySelector('#legend button').focus()")
    browser.settle()
    edges = "return ['#strip', '#legend button'].map((s) => document.querySelector(s).getBoundingClientRect())"
    strip, button = browser.run(edges)
    assert button["top"] >= strip["bottom"]
