"""The page in a real browser: opened from a file, under its own policy, with names that try to break out."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.report import page
from tests.support.fake_run import HOSTILE, HOSTILE_FILE, Rows, fake_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
CHARTS = 6

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]


@dataclasses.dataclass
class Opened:
    """A page in a tab, with everything it said and asked for."""

    tab: Any
    said: list[str] = dataclasses.field(default_factory=list)
    asked: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return page(fake_run(folder, digits=60), folder / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def opened(browser: Any, path: Path, charts: int = CHARTS, **settings: Any) -> Opened:
    context = browser.new_context(**{**DESKTOP, **settings})
    page = Opened(context.new_page())
    page.tab.on("console", lambda message: page.said.append(message.text))
    page.tab.on("pageerror", lambda error: page.said.append(str(error)))
    page.tab.on("dialog", lambda dialog: (page.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.tab.on("request", lambda request: page.asked.append(request.url))
    page.tab.goto(path.as_uri())
    page.tab.wait_for_function(f"document.querySelectorAll('.chart[data-drawn]').length === {charts}", timeout=20_000)
    return page


@pytest.fixture(scope="module")
def desktop(browser: Any, path: Path) -> Iterator[Opened]:
    page = opened(browser, path)
    yield page
    page.tab.context.close()


def test_it_opens_from_a_file_in_silence_and_asks_for_nothing(desktop: Opened, path: Path) -> None:
    assert desktop.said == []
    assert [url for url in desktop.asked if not url.startswith("data:")] == [path.as_uri()]


def test_every_chart_is_drawn_live(desktop: Opened) -> None:
    drawn = desktop.tab.eval_on_selector_all(".chart", "all => all.map(one => one.dataset.drawn)")
    assert drawn == ["yes"] * CHARTS
    marks = desktop.tab.eval_on_selector_all(
        ".chart", "all => all.map(one => one.querySelectorAll('svg path, svg text').length)"
    )
    assert min(marks) > 20
    boxes = desktop.tab.eval_on_selector_all(".chart svg", "all => all.map(one => one.getBoundingClientRect().height)")
    assert len(boxes) == CHARTS and min(boxes) > 100  # the still pictures have left


def test_hostile_names_stay_text(desktop: Opened) -> None:
    tab = desktop.tab
    assert tab.locator("img").evaluate_all("all => all.every(one => one.src.startsWith('data:image/png'))")
    assert tab.evaluate("document.querySelectorAll('[onerror], [onload], iframe, object').length") == 0
    assert HOSTILE in tab.inner_text("#summary")
    assert HOSTILE_FILE in tab.inner_text("#pictures")
    assert HOSTILE[:12] in tab.inner_text("#became-1")


def test_pointing_at_a_mark_shows_its_counts(desktop: Opened) -> None:
    tab = desktop.tab
    point = tab.locator("#curve-1 .mark-symbol path").last
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector("#vg-tooltip-element.visible")
    text = tab.inner_text("#vg-tooltip-element")
    assert "survived" in text and "undefined" not in text
    tab.mouse.move(0, 0)


def test_choosing_a_budget_redraws_the_classes(desktop: Opened) -> None:
    tab = desktop.tab
    shapes = "document.querySelector('#became-0 svg').outerHTML"
    before = tab.evaluate(shapes)
    tab.locator("#classes select").first.select_option("0")
    tab.wait_for_function(f"before => {shapes} !== before", arg=before)


def test_the_legend_dims_the_other_lines(desktop: Opened) -> None:
    button = desktop.tab.locator("#curve .legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    desktop.tab.wait_for_selector("#curve-0 .mark-line path[stroke-opacity], #curve-0 .mark-line path[opacity='0.12']")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"


def test_pictures_open_large_and_arrow_keys_walk_through_them(desktop: Opened) -> None:
    tab = desktop.tab
    count = tab.locator(".card").count()
    tab.locator(".card .open").first.focus()
    tab.keyboard.press("Enter")
    assert tab.inner_text(".viewer-place") == f"1 of {count}"
    first = tab.inner_text(".viewer-body")
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text(".viewer-place") == f"2 of {count}" and tab.inner_text(".viewer-body") != first
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text(".viewer-place") == f"{count} of {count}"
    width = tab.locator(".viewer-body img").first.bounding_box()["width"]
    assert width > tab.locator(".card img").first.bounding_box()["width"]
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer").is_visible()


def test_the_numbers_download_from_the_page(desktop: Opened, tmp_path: Path) -> None:
    with desktop.tab.expect_download() as coming:
        desktop.tab.click("#provenance a[download]")
    coming.value.save_as(tmp_path / "numbers.csv")
    assert coming.value.suggested_filename == "demo-results.csv"
    assert len((tmp_path / "numbers.csv").read_text().splitlines()) == 1 + 3 * 9 + 10


def test_small_pictures_keep_their_pixels(desktop: Opened) -> None:
    rendering = "one => getComputedStyle(one).imageRendering"
    assert desktop.tab.locator(".card.tiny img").first.evaluate(rendering) == "pixelated"
    assert desktop.tab.locator(".card:not(.tiny) img").first.evaluate(rendering) == "auto"


def test_everything_is_reached_by_keyboard(desktop: Opened) -> None:
    tab = desktop.tab
    tab.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(90):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("(document.activeElement.closest('nav, section[id]') || document.body).id"))
    assert {"curve", "table", "pictures", "classes", "provenance"} <= reached


def test_a_phone_scrolls_down_only(browser: Any, path: Path) -> None:
    phone = opened(browser, path, **PHONE)
    assert phone.tab.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.tab.evaluate("document.querySelector('.scroll').scrollWidth > 390")  # the table, in its own box
    assert phone.tab.locator(".chart svg").first.bounding_box()["width"] <= 390
    phone.tab.locator(".card .open").first.click()
    assert phone.tab.locator(".viewer-body img").first.bounding_box()["width"] > 250
    assert phone.tab.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.said == []
    phone.tab.context.close()


def test_dark_is_dark_in_page_and_charts(browser: Any, path: Path, desktop: Opened) -> None:
    dark = opened(browser, path, color_scheme="dark")
    paint = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('#curve-0 .role-axis-label text')).fill]"""
    light_paper, light_ink = desktop.tab.evaluate(paint)
    dark_paper, dark_ink = dark.tab.evaluate(paint)
    assert (light_paper, dark_paper) == ("rgb(255, 255, 255)", "rgb(20, 23, 28)")
    assert light_ink != dark_ink
    dark.tab.context.close()


def test_it_prints_on_a4(browser: Any, path: Path) -> None:
    paper = opened(browser, path, color_scheme="dark")
    pdf = paper.tab.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF") and b"/MediaBox [0 0 594.95996 841.91998]" in pdf
    paper.tab.emulate_media(media="print", color_scheme="dark")
    assert paper.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    paper.tab.context.close()


def test_many_classes_are_a_list_that_follows_the_choice(browser: Any, tmp_path: Path) -> None:
    def spread(rows: Rows) -> Rows:
        return [{**row, "label": at % 40, "prediction": (at + 1) % 40} for at, row in enumerate(rows)]

    many = page(fake_run(tmp_path, scenes=False, digits=60, change=spread), tmp_path / "report.html")
    tab = opened(browser, many, charts=2).tab
    rows = tab.locator(".mistakes tbody tr:visible")
    before = rows.all_inner_texts()
    tab.locator("#classes select").select_option("0")
    assert 0 < len(before) <= 12 and rows.all_inner_texts() != before
    assert rows.evaluate_all("all => all.every(row => row.dataset.choice === '0')")
    tab.context.close()


def test_without_scripts_the_charts_are_still_there(browser: Any, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False, **DESKTOP)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.locator(".chart svg.marks").count() == CHARTS
    assert tab.locator(".chart svg.marks").first.bounding_box()["width"] > 300
    context.close()
