"""The paper's page in a real browser: opened from a file, under its own policy, with names that try to break out."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.paper.figures import TITLES, figure
from assay.paper.page import page
from tests.acceptance.test_page import CHROMIUM, DESKTOP, FLAGS, PHONE, Opened, opened
from tests.support.fake_paper import HOSTILE, full

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]


@functools.cache
def charts() -> int:
    """Return how many charts the page holds: not at the top of this file, where every process would draw them."""
    return sum(len(figure(full(), number).drawings) for number in TITLES) + 3


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page(full(), tmp_path_factory.mktemp("paper") / "paper.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


@pytest.fixture(scope="module")
def desktop(browser: Any, path: Path) -> Iterator[Opened]:
    one = opened(browser, path, charts())
    yield one
    one.tab.context.close()


def test_it_opens_from_a_file_in_silence_and_every_chart_is_drawn(desktop: Opened, path: Path) -> None:
    assert desktop.said == []
    assert [url for url in desktop.asked if not url.startswith("data:")] == [path.as_uri()]
    assert desktop.tab.eval_on_selector_all(".chart", "all => all.map(one => one.dataset.drawn)") == ["yes"] * charts()


def test_pictures_are_drawn_live_from_png(desktop: Opened) -> None:
    links = "all => all.map(one => one.getAttribute('href') || one.getAttribute('xlink:href'))"
    found = desktop.tab.eval_on_selector_all(".live image", links)
    assert len(found) == 2 + 3 + 1 + 4 + 10
    assert all(link.startswith("data:image/png;base64,") for link in found)
    box = desktop.tab.locator("#figure-1-0 .live image").first.bounding_box()
    assert box["width"] > 100 and box["height"] > 100


def test_hostile_names_stay_text(desktop: Opened) -> None:
    tab = desktop.tab
    assert tab.evaluate("document.querySelectorAll('[onerror], [onload], iframe, object, img').length") == 0
    assert HOSTILE in tab.inner_text("#table-I") and HOSTILE in tab.inner_text("#provenance")


def test_pointing_at_a_mark_shows_its_counts(desktop: Opened) -> None:
    tab = desktop.tab
    point = tab.locator("#figure-11 .mark-symbol path").last
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector("#vg-tooltip-element.visible")
    text = tab.inner_text("#vg-tooltip-element")
    assert "of 1,000" in text and "grey levels" in text and "undefined" not in text
    tab.mouse.move(0, 0)


def test_the_legend_dims_the_other_lines(desktop: Opened) -> None:
    button = desktop.tab.locator("#table-XIV .legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    desktop.tab.wait_for_selector(
        "#figure-11 .mark-line path[stroke-opacity], #figure-11 .mark-line path[opacity='0.12']"
    )
    button.click()


def test_a_table_is_reached_by_its_number_and_the_keyboard(desktop: Opened) -> None:
    tab = desktop.tab
    tab.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.getAttribute('href')") == "#table-XIV":
            break
    tab.keyboard.press("Enter")
    tab.wait_for_function("window.scrollY > 1000")
    assert 0 <= tab.locator("#table-XIV h2").bounding_box()["y"] < 300


def test_a_phone_scrolls_down_only(browser: Any, path: Path) -> None:
    phone = opened(browser, path, charts(), **PHONE)
    assert phone.tab.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.said == []
    phone.tab.context.close()


def test_dark_is_dark_and_print_is_light(browser: Any, path: Path) -> None:
    dark = opened(browser, path, charts(), color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert dark.tab.evaluate(paper) == "rgb(20, 23, 28)"
    pdf = dark.tab.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF") and b"/MediaBox [0 0 594.95996 841.91998]" in pdf
    dark.tab.emulate_media(media="print", color_scheme="dark")
    assert dark.tab.evaluate(paper) == "rgb(255, 255, 255)"
    dark.tab.context.close()


def test_without_scripts_the_charts_are_still_there(browser: Any, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False, **DESKTOP)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.locator(".chart svg.marks").count() == charts()
    assert tab.locator("#figure-1-0 svg image").first.bounding_box()["width"] > 100
    context.close()
