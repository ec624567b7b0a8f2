"""The playground's page in a real browser, before a stand-in for its server: what is shown, sent and reached."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import chromium, play_double
from tests.support.chromium import PHONE, Opened, opened
from tests.support.play_double import HOSTILE, Double, playing

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
AXE = os.environ.get("ASSAY_AXE")

pytestmark = [
    pytest.mark.skipif(chromium.PATH is None, reason="no chromium on this machine: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.chromium() as one:
        yield one


@pytest.fixture
def double() -> Iterator[Double]:
    with playing() as one:
        yield one


@pytest.fixture
def page(browser: Any, double: Double) -> Iterator[Opened]:
    one = opened(browser, double.link)
    yield one
    one.close()
    assert one.said == []
    assert {urllib.parse.urlsplit(request.url).scheme for request in one.asked} <= {"http", "data", "blob"}
    assert all(request.url.startswith((double.url, "data:", f"blob:{double.url}")) for request in one.asked)


def attack(tab: Any) -> None:
    tab.click("#go")
    tab.wait_for_selector(".facts", timeout=20_000)


def drag(tab: Any, *points: tuple[float, float]) -> None:
    first, *rest = points
    tab.mouse.move(*first)
    tab.mouse.down()
    for point in rest:
        tab.mouse.move(*point, steps=6)
    tab.mouse.up()


def on_pad(tab: Any, *shares: tuple[float, float]) -> list[tuple[float, float]]:
    box = tab.locator("#pad").bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares]


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=float)


def shown(tab: Any, place: int) -> bytes:
    uri = tab.locator(".pictures img").nth(place).get_attribute("src")
    assert uri.startswith("data:image/png;base64,")
    return base64.b64decode(uri.partition(",")[2])


def wide(tab: Any) -> int:
    found: int = tab.evaluate("document.documentElement.scrollWidth")
    return found


def test_one_click_shows_an_attack(page: Opened, double: Double) -> None:
    tab = page.tab
    assert tab.locator("[name=sample]:checked").count() == 1 and tab.input_value("#method") == "pgd"
    attack(tab)
    asked = double.last("/api/run")
    expected = {
        "model": "mnist-cnn", "second": None, "attack": "pgd", "norm": "linf", "eps": "0.3", "goal": "untargeted",
        "defence": None, "options": {}, "seed": 0, "smallest": False, "patch": None,
    }  # fmt: skip
    assert {name: value for name, value in asked.items() if name != "image"} == expected
    assert tab.inner_text(".badge") == "broken" and tab.inner_text(".headline") == "“seven” became “three”"
    assert "rests on one answer of the model" in tab.inner_text(".rests")
    assert tab.locator(".pictures figcaption").all_inner_texts() == ["original", "change, × 2", "result"]
    assert shown(tab, 2) == base64.b64decode(next(iter(double.results.values())).partition(",")[2])
    facts = tab.inner_text(".facts")
    assert all(text in facts for text in ("41 forward, 40 backward", "L∞ 0.3", "76.5 of 255 grey levels", "none"))
    assert tab.inner_text("#live").startswith("MNIST network: broken.")


def test_only_requests_with_the_token_are_made(page: Opened, double: Double) -> None:
    attack(page.tab)
    calls = [request for request in page.asked if "/api/" in request.url]
    assert len(calls) >= 3 and all(request.headers["x-assay-token"] == double.token for request in calls)


def test_the_margin_is_a_line_with_a_named_zero(page: Opened) -> None:
    tab = page.tab
    assert tab.locator(".margin .line").count() == 0 and tab.locator(".margin .zero").count() == 1
    attack(tab)
    tab.wait_for_selector(".margin .line.under")
    points = tab.locator(".margin .line.over").get_attribute("d").count("L")
    assert points == 41  # the clean answer, 40 passes, and the answer to the result
    assert tab.locator(".margin .named").inner_html() == "below: the model is wrong"
    label = tab.locator(".margin svg").get_attribute("aria-label")
    assert label.startswith("The margin, pass by pass: from 9.4 to −5.1 after 41 passes")


def test_the_bars_move_to_the_shares_after(page: Opened) -> None:
    tab = page.tab
    attack(tab)
    tab.wait_for_timeout(700)
    rows = tab.locator(".classes tbody tr")
    assert [row.split() for row in rows.all_inner_texts()][:2] == [["seven", "83.0", "20.0"], ["three", "11.0", "72.0"]]
    bars = rows.nth(1).locator("i")
    was, now = (bars.nth(at).bounding_box()["width"] for at in (0, 1))
    assert now / was == pytest.approx(72 / 11, rel=0.02)
    assert rows.nth(5).inner_text().split() == ["one", "·", "0.4"]


def test_hostile_names_stay_text(browser: Any) -> None:
    with playing(hostile=True) as double:
        page = opened(browser, double.link)
        attack(page.tab)
        assert HOSTILE in page.tab.inner_text(".headline") and HOSTILE in page.tab.inner_text("#answer")
        assert HOSTILE in page.tab.locator("#goal option").nth(4).inner_text()
        page.tab.select_option("#method", "sigma-zero")
        page.tab.click("#go")
        page.tab.wait_for_selector("#run-error:visible")
        assert HOSTILE in page.tab.inner_text("#run-error")
        assert page.tab.title() == "Assay playground" and page.said == []
        assert page.tab.evaluate("document.querySelectorAll('[onerror], [onload], iframe, object').length") == 0
        page.close()


def test_a_drawing_is_made_as_digits_of_mnist_are(page: Opened, double: Double) -> None:
    tab = page.tab
    tab.click("#clear")
    drag(tab, *on_pad(tab, (0.1, 0.1), (0.3, 0.1), (0.3, 0.35), (0.15, 0.35)))
    tab.wait_for_selector("#note:has-text('Scaled and centred')")
    made = picture(double.last("/api/image")["bytes"])
    assert made.shape == (28, 28) and made.max() == 255 and made[0].max() == 0
    assert len(np.unique(made)) > 8  # soft edges
    rows, columns = np.nonzero(made > 0)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (20, 21)
    y, x = np.indices(made.shape)
    assert [float((made * axis).sum() / made.sum()) for axis in (y, x)] == pytest.approx([13.5, 13.5], abs=0.2)
    tab.click("#undo")
    tab.wait_for_timeout(600)
    assert picture(double.last("/api/image")["bytes"]).max() == 0


def test_the_rubber_takes_ink_off_and_a_sample_keeps_its_pixels(page: Opened, double: Double) -> None:
    tab = page.tab
    tab.locator("[name=sample]").nth(4).check()
    tab.wait_for_timeout(300)
    whole = picture(double.last("/api/image")["bytes"])
    tab.locator("[name=tool][value=rubber]").check()
    drag(tab, *on_pad(tab, (0.2, 0.7), (0.9, 0.7)))
    tab.wait_for_timeout(700)
    less = picture(double.last("/api/image")["bytes"])
    assert less.sum() < whole.sum() and np.array_equal(less[:16], whole[:16])


def test_everything_works_by_keyboard_alone(page: Opened, double: Double) -> None:
    tab = page.tab
    reached, outlined = [], []
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.tagName")
        )
        outlined.append(tab.evaluate(_OUTLINED))
    wanted = {"model", "second", "pad", "tool", "clear", "file", "sample", "mode", "method", "norm", "eps", "slider"}
    assert wanted | {"goal", "defence", "smallest", "go", "SUMMARY"} <= set(reached)
    inside = [seen for name, seen in zip(reached, outlined, strict=True) if name not in ("BODY", "")]
    assert all(inside)

    tab.focus("#clear")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "pad"
    tab.keyboard.press("Space")
    for key in ["ArrowUp"] * 8 + ["Shift+ArrowRight"] * 2 + ["ArrowDown"] * 9:
        tab.keyboard.press(key)
    tab.keyboard.press("Space")
    tab.wait_for_selector("#note:has-text('Scaled and centred')")
    assert (picture(double.last("/api/image")["bytes"]) > 0).sum() > 50
    tab.focus("#slider")
    tab.keyboard.press("ArrowLeft")
    eps = tab.input_value("#eps")
    assert eps != "0.3" and "grey levels" in tab.get_attribute("#slider", "aria-valuetext")
    tab.focus("#eps")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".facts")
    assert double.last("/api/run")["eps"] == eps


_OUTLINED = """() => {
    const one = document.activeElement;
    const near = [one, one.nextElementSibling, one.parentElement].filter(Boolean).map((part) => getComputedStyle(part));
    return near.some((style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0);
}"""


def test_the_budget_follows_slider_text_and_norm(page: Opened) -> None:
    tab = page.tab
    assert [mark for mark in tab.locator("#marks span").all_inner_texts() if mark in ("1", "8", "64")] == [
        "1",
        "8",
        "64",
    ]
    tab.fill("#eps", "8/255")
    assert "8 of 255 grey levels" in tab.inner_text("#about-eps")
    tab.fill("#eps", "a third")
    assert "is expected" in tab.inner_text("#about-eps")
    tab.click("#go")
    assert "“a third”" in tab.inner_text("#run-error")
    tab.check("[name=norm][value=l2]")
    assert tab.input_value("#eps") == "2.0" and "grey levels a value" in tab.inner_text("#about-eps")
    tab.check("[name=norm][value=linf]")
    assert tab.input_value("#eps") == "a third"  # what was written stays


def test_only_changed_options_are_sent(page: Opened, double: Double) -> None:
    tab = page.tab
    tab.click("#options summary")
    tab.fill("#option-steps", "7")
    tab.uncheck("#option-random_start")
    tab.fill("#option-seed", "3")
    tab.select_option("#goal", "3")
    tab.select_option("#defence", "bits:3")
    tab.check("#smallest")
    attack(tab)
    asked = double.last("/api/run")
    assert asked["options"] == {"steps": 7, "random_start": False} and asked["seed"] == 3
    assert asked["goal"] == {"class": 3} and asked["defence"] == "bits:3" and asked["smallest"] is True
    assert "0.11" in tab.inner_text(".facts")


def test_stop_ends_the_attack_and_says_where(browser: Any) -> None:
    with playing(pace=0.2) as double:
        page = opened(browser, double.link)
        page.tab.click("#go")
        page.tab.wait_for_selector(".margin .line")
        assert page.tab.inner_text("#go") == "Stop"
        page.tab.click("#go")
        page.tab.wait_for_selector(".headline:has-text('Stopped after')")
        assert len(double.stopped) == 1 and page.tab.inner_text("#go") == "Attack"
        assert page.tab.locator(".facts").count() == 0 and page.said == []
        page.close()


def test_who_leaves_closes_the_stream(browser: Any) -> None:
    with playing(pace=0.1) as double:
        page = opened(browser, double.link)
        page.tab.click("#go")
        page.tab.wait_for_selector(".margin .line")
        page.close()
        assert double.left.wait(5)


def test_without_samples_the_page_draws_a_digit_itself(browser: Any) -> None:
    with playing(samples=False) as double:
        page = opened(browser, double.link)
        assert (picture(double.last("/api/image")["bytes"]) > 0).sum() > 80
        assert "Scaled and centred" in page.tab.inner_text("#note")
        attack(page.tab)
        assert page.tab.inner_text(".badge") == "broken" and page.said == []
        page.close()


def test_another_model_ends_the_attack_on_the_first(browser: Any) -> None:
    with playing(pace=0.1) as double:
        page = opened(browser, double.link)
        page.tab.click("#go")
        page.tab.wait_for_selector(".margin .line")
        page.tab.select_option("#model", "lite0")
        assert double.left.wait(5)
        page.tab.wait_for_selector("#go:has-text('Attack')")
        page.tab.wait_for_selector(".headline:has-text('Press Attack')")
        assert page.tab.locator(".panel").get_attribute("aria-label") == "EfficientNet-Lite0" and page.said == []
        page.close()


def test_towards_a_class_zero_means_that_it_is_reached(page: Opened) -> None:
    page.tab.select_option("#goal", "3")
    attack(page.tab)
    page.tab.wait_for_selector(".margin .named:has-text('the goal is reached')")
    assert "below zero the goal is reached" in page.tab.locator(".margin svg").get_attribute("aria-label")


def test_errors_stand_where_they_belong(page: Opened, double: Double) -> None:
    tab = page.tab
    assert tab.inner_text("#model-error") == "A model that failed: The file gone.onnx does not exist."
    files = tab.locator("#file")
    page.said.clear()
    files.set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    tab.wait_for_selector("#image-error:visible")
    assert tab.inner_text("#image-error") == play_double.UNREADABLE
    # the browser itself writes a line for an answer of 400; the page adds none
    assert all("400" in line for line in page.said)
    page.said.clear()
    files.set_input_files({"name": "large.png", "mimeType": "image/png", "buffer": bytes(9 * 2**20)})
    tab.wait_for_selector("#image-error:has-text('MiB; at most 8')")
    assert double.last("/api/image")["bytes"] == b"no picture"
    tab.locator("[name=sample]").nth(2).check()
    tab.wait_for_selector("#image-error", state="hidden")


def test_a_server_that_is_gone_is_a_sentence(browser: Any) -> None:
    with playing() as double:
        page = opened(browser, double.link)
    page.tab.click("#go")
    page.tab.wait_for_selector("#run-error:visible")
    assert "Is “assay play” still running?" in page.tab.inner_text("#run-error")
    assert page.tab.inner_text("#go") == "Attack"
    page.close()


def test_models_may_still_load(browser: Any) -> None:
    with playing(loading=3) as double:
        tab = browser.new_context().new_page()
        tab.goto(double.link)
        tab.wait_for_selector(".headline:has-text('loading')")
        assert tab.locator("#go").is_disabled()
        tab.wait_for_selector("#go:enabled")
        attack(tab)
        tab.context.close()


def test_pictures_are_uploaded_dropped_and_pasted(page: Opened, double: Double) -> None:
    tab = page.tab
    tab.select_option("#model", "lite0")
    tab.wait_for_selector("#seen-large:visible")
    assert tab.input_value("#eps") == "4/255" and not tab.locator("#pad").is_visible()
    scenes = []
    for at in range(3):
        file = io.BytesIO()
        play_double.scene(20 + at).resize((300, 200)).save(file, "PNG")
        scenes.append(file.getvalue())
    tab.locator("#file").set_input_files({"name": "one.png", "mimeType": "image/png", "buffer": scenes[0]})
    tab.wait_for_selector("#note:has-text('Resized from 300')")
    assert double.last("/api/image")["bytes"] == scenes[0]
    for at, event in ((1, "drop"), (2, "paste")):
        tab.evaluate(_GIVE, [event, base64.b64encode(scenes[at]).decode()])
        tab.wait_for_timeout(300)
        assert double.last("/api/image")["bytes"] == scenes[at]
    rendering = "one => getComputedStyle(one).imageRendering"
    attack(tab)
    assert tab.locator(".pictures img").first.evaluate(rendering) == "auto"
    tab.select_option("#model", "mnist-cnn")
    tab.wait_for_selector(".panel.tiny")
    attack(tab)
    assert tab.locator(".pictures img").first.evaluate(rendering) == "pixelated"


_GIVE = """([name, text]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "given.png", { type: "image/png" }));
    const event = name === "drop" ? new DragEvent("drop", { bubbles: true, dataTransfer: data })
        : new ClipboardEvent("paste", { bubbles: true, clipboardData: data });
    document.body.dispatchEvent(event);
}"""


def test_a_patch_is_moved_turned_and_scaled(page: Opened, double: Double) -> None:
    tab = page.tab
    tab.select_option("#model", "lite0")
    tab.wait_for_selector("#seen-large:visible")
    tab.check("[name=mode][value=patch]")
    tab.wait_for_selector(".facts")  # it is asked at once, and after each move
    assert double.last("/api/run")["patch"] == {"id": "stripes", "x": 0.7, "y": 0.7, "size": 0.35, "turn": 0}
    stage, patch = tab.locator("#stage").bounding_box(), tab.locator("#patch").bounding_box()
    centre = (patch["x"] + patch["width"] / 2, patch["y"] + patch["height"] / 2)
    drag(tab, centre, (centre[0] - 0.2 * stage["width"], centre[1] - 0.3 * stage["height"]))
    tab.wait_for_timeout(900)
    moved = double.last("/api/run")["patch"]
    assert (moved["x"], moved["y"], moved["size"]) == pytest.approx((0.5, 0.4, 0.35), abs=0.01)

    corner = tab.locator("#patch-size").bounding_box()
    middle = (stage["x"] + 0.5 * stage["width"], stage["y"] + 0.4 * stage["height"])
    start = (corner["x"] + corner["width"] / 2, corner["y"] + corner["height"] / 2)
    drag(tab, start, tuple(m + 1.5 * (s - m) for m, s in zip(middle, start, strict=True)))
    dot = tab.locator("#patch-turn").bounding_box()
    start = (dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    drag(tab, start, (middle[0] + 60, middle[1] - 60), (middle[0] + 90, middle[1]))
    tab.wait_for_timeout(900)
    turned = double.last("/api/run")["patch"]
    assert turned["size"] == pytest.approx(0.525, abs=0.02) and turned["turn"] == pytest.approx(90, abs=2)

    tab.focus("#patch")
    for key in ("ArrowRight", "ArrowDown", "+", "["):
        tab.keyboard.press(key)
    tab.wait_for_timeout(900)
    by_key = double.last("/api/run")["patch"]
    expected = {
        "x": turned["x"] + 0.02,
        "y": turned["y"] + 0.02,
        "size": turned["size"] + 0.02,
        "turn": turned["turn"] - 5,
    }
    assert {name: by_key[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert [tab.input_value(f"#patch-{name}") for name in "xy"] == ["52", "42"]

    file = io.BytesIO()
    play_double.scene(3).resize((20, 40)).save(file, "PNG")
    tab.locator("#patch-file").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()})
    tab.wait_for_timeout(900)
    assert double.last("/api/run")["patch"]["id"] == "uploaded"


def test_two_fingers_turn_and_scale_a_patch(browser: Any, double: Double) -> None:
    phone = opened(browser, double.link, **PHONE)
    tab = phone.tab
    tab.check("[name=mode][value=patch]")
    tab.locator("#patch").scroll_into_view_if_needed()
    box = tab.locator("#patch").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = tab.context.new_cdp_session(tab)
    for kind, points in (
        ("touchStart", [(x - 20, y), (x + 20, y)]), ("touchMove", [(x, y - 40), (x, y + 40)]), ("touchEnd", []),
    ):  # fmt: skip
        places = [{"x": a, "y": b, "id": at} for at, (a, b) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
    tab.wait_for_timeout(900)
    placed = double.last("/api/run")["patch"]
    assert placed["size"] == pytest.approx(0.7, abs=0.03) and abs(placed["turn"]) == pytest.approx(90, abs=3)
    phone.close()


def test_two_models_stand_side_by_side(page: Opened, double: Double) -> None:
    tab = page.tab
    tab.select_option("#second", "mnist-pgd")
    tab.click("#go")
    tab.locator(".facts").nth(1).wait_for()
    assert double.last("/api/run")["second"] == "mnist-pgd"
    assert tab.locator(".panel h3").all_inner_texts() == ["MNIST network", "MNIST network, adversarially trained"]
    assert tab.locator(".panel .badge").all_inner_texts() == ["broken", "not broken"]
    left, right = (tab.locator(".panel .pictures").nth(at).bounding_box() for at in (0, 1))
    assert left["y"] == right["y"] and left["width"] == right["width"] and left["x"] < right["x"]
    assert wide(tab) == 1360


def test_what_is_downloaded_is_what_is_shown(page: Opened, tmp_path: Path) -> None:
    tab = page.tab
    attack(tab)
    with tab.expect_download() as coming:
        tab.click("text=Download PNG")
    coming.value.save_as(tmp_path / "saved.png")
    assert (tmp_path / "saved.png").read_bytes() == shown(tab, 2)
    assert coming.value.suggested_filename == "assay-mnist-cnn.png"
    tab.wait_for_selector(".download :has-text('asked again: still broken')")


def test_the_same_in_shell_and_python_is_copied(browser: Any, double: Double) -> None:
    page = opened(browser, double.link, permissions=["clipboard-read", "clipboard-write"])
    attack(page.tab)
    for at, begin in ((0, "assay run --model mnist-cnn"), (1, "import assay\n\nmodel = ")):
        page.tab.locator(".same button").nth(at).click()
        page.tab.wait_for_timeout(100)
        assert page.tab.evaluate("navigator.clipboard.readText()").startswith(begin)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_only(browser: Any, double: Double, scheme: str) -> None:
    phone = opened(browser, double.link, color_scheme=scheme, **PHONE)
    tab = phone.tab
    assert wide(tab) == 360
    tab.click("#options summary")
    attack(tab)
    assert wide(tab) == 360
    assert tab.locator("#go").bounding_box()["height"] >= 44
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    tab.select_option("#second", "mnist-pgd")
    tab.check("[name=mode][value=patch]")
    tab.locator(".facts").nth(1).wait_for()
    assert wide(tab) == 360 and phone.said == []
    phone.close()


def test_who_wants_no_motion_gets_none(browser: Any, double: Double) -> None:
    page = opened(browser, double.link, reduced_motion="reduce")
    moving = "document.getAnimations().length"
    page.tab.click("#go")
    page.tab.wait_for_selector(".facts")
    assert page.tab.evaluate(moving) == 0
    assert page.tab.locator(".bars i").first.evaluate("one => getComputedStyle(one).transitionDuration") == "0s"
    page.close()


@pytest.mark.skipif(not AXE, reason="ASSAY_AXE names no axe.min.js (npm pack axe-core)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, double: Double, scheme: str) -> None:
    assert AXE
    page = opened(browser, double.link, color_scheme=scheme)
    tab = page.tab
    states = []

    def look(name: str) -> None:
        tab.wait_for_timeout(600)
        found = json.loads(tab.evaluate("axe.run().then((found) => JSON.stringify(found.violations))"))
        states.extend(f"{name}: {one['id']} ({one['impact']}) {[node['html'][:90] for node in one['nodes']][:3]}"
                      for one in found)  # fmt: skip

    tab.evaluate(Path(AXE).read_text())
    look("opened")
    tab.click("#options summary")
    tab.select_option("#second", "mnist-pgd")
    tab.click("#go")
    tab.locator(".facts").nth(1).wait_for()
    look("two models")
    tab.select_option("#model", "lite0")
    tab.wait_for_selector("#seen-large:visible")
    tab.check("[name=mode][value=patch]")
    tab.wait_for_selector(".facts")
    look("patch")
    assert states == []
    page.close()
