"""`assay play` in a real browser: its own server, its own models, and the arrays that Python finds."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import chromium
from tests.support.chromium import PHONE, Opened, opened, ran

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("starlette", reason="the extra play is not installed")
pytest.importorskip("uvicorn", reason="the extra play is not installed")

pytestmark = [
    pytest.mark.skipif(chromium.PATH is None, reason="no chromium on this machine: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]

THREE = [
    (0.32, 0.27), (0.42, 0.18), (0.56, 0.18), (0.65, 0.28), (0.6, 0.4), (0.48, 0.46),
    (0.6, 0.52), (0.67, 0.64), (0.6, 0.78), (0.45, 0.82), (0.31, 0.74),
]  # fmt: skip


@contextlib.contextmanager
def playing(*arguments: str, folder: Path) -> Iterator[str]:
    """Run `assay play` in a process of its own until the block ends; the block gets its address."""
    command = [sys.executable, "-m", "assay.cli", "play", "--no-browser", *arguments]
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, env=os.environ
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), (folder / "stderr").read_text()
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            process.stdout.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("play")
    with playing("--model", "zoo:mnist-cnn", "--model", "zoo:mnist-pgd", folder=folder) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.chromium() as one:
        yield one


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Opened]:
    one = opened(browser, url)
    yield one
    one.close()
    origin = url.partition("/?")[0]
    assert one.said == []
    assert all(request.url.startswith((f"{origin}/", "data:", f"blob:{origin}/")) for request in one.asked)


def draw(tab: Any, shares: list[tuple[float, float]]) -> None:
    tab.click("#clear")
    box = tab.locator("#pad").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=5)
    tab.mouse.up()
    tab.wait_for_selector("#note:has-text('Scaled and centred')", timeout=20_000)


def attacked(tab: Any) -> dict[str, Any]:
    """Press Attack; return what the server said of the end of it."""
    tab.click("#go")
    tab.wait_for_selector(".facts", timeout=60_000)
    events = ran(tab)
    assert [event["event"] for event in events][:2] == ["started", "clean"]
    done: dict[str, Any] = events[-1]
    assert done["event"] == "done"
    return done


def pixels(tab: Any, place: int) -> np.ndarray:
    uri = tab.locator(".pictures img").nth(place).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_a_drawn_three_is_turned_by_fgsm_as_python_turns_it(page: Opened) -> None:
    import torch

    import assay

    tab = page.tab
    draw(tab, THREE)
    assert tab.inner_text("#answer strong") == "3"
    tab.select_option("#method", "fgsm")
    assert tab.input_value("#eps") == "0.3"
    done = attacked(tab)

    assert tab.inner_text(".badge") == "broken" and tab.inner_text(".headline").startswith("“3” became “")
    x = torch.from_numpy(pixels(tab, 0).astype(np.float32) / 255)[None, None]
    model = assay.load_model("zoo:mnist-cnn")
    found = assay.attack(assay.FGSM(), model, x, torch.tensor([3]), assay.Linf("0.3"))
    assert bool(found.success)
    expected = found.x_adv[0].numpy()
    assert base64.b64decode(done["array"]) == expected.astype("<f4").tobytes()
    assert pixels(tab, 2).tobytes() == np.round(255 * expected[0]).astype(np.uint8).tobytes()


def test_by_keyboard_alone_from_the_address_to_the_verdict(page: Opened) -> None:
    tab = page.tab
    tab.focus("#pad")
    assert tab.locator("#pad-help").is_visible()
    tab.focus("#method")
    tab.keyboard.type("fgsm")
    tab.focus("#go")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".facts", timeout=60_000)
    assert "fgsm" in tab.inner_text(".rests") and tab.inner_text("#live") != ""


def test_every_attack_of_the_table_is_offered_with_its_options(page: Opened) -> None:
    from assay.attacks import ATTACKS

    tab = page.tab
    names = tab.locator("#method option").evaluate_all("all => all.map(one => one.value)")
    assert {"fgsm", "pgd", "apgd", "square", "carlini-wagner"} <= set(names) <= set(ATTACKS)
    tab.click("#options summary")
    for name in names:
        tab.select_option("#method", name)
        assert tab.locator("[name=norm]:checked").count() == 1
        assert tab.locator("#option-fields [data-option]").count() >= 1
        assert tab.inner_text("#about-eps") != "" or tab.input_value("#eps") != ""


def test_two_models_the_smallest_budget_and_a_certificate(page: Opened) -> None:
    tab = page.tab
    tab.select_option("#second", "zoo:mnist-pgd")
    tab.check("#smallest")
    tab.click("#go")
    tab.locator(".facts").nth(1).wait_for(timeout=120_000)
    assert tab.locator(".panel .badge").all_inner_texts() == ["broken", "not broken"]
    robust = tab.locator(".panel").nth(1).inner_text()
    assert "Smallest budget" in robust and "Certified radius" in robust and "no proof" in robust
    tab.wait_for_selector(".margin .line.under")  # the curve of the one that is broken crosses zero


def test_a_patch_is_asked_about_where_it_lies(page: Opened) -> None:
    tab = page.tab
    # a goal that the page does not show beside a patch is none
    tab.select_option("#goal", tab.inner_text("#answer strong"))
    patch = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), 255, dtype=np.uint8)).save(patch, "PNG")
    tab.check("[name=mode][value=patch]")
    tab.locator("#patch-file").set_input_files(
        {"name": "white.png", "mimeType": "image/png", "buffer": patch.getvalue()}
    )
    tab.wait_for_selector(".facts", timeout=60_000)
    before = pixels(tab, 2)
    assert "asked for" not in tab.inner_text(".rests")
    tab.focus("#patch")
    with tab.expect_response("**/api/run") as coming:
        for _ in range(5):
            tab.keyboard.press("Shift+ArrowLeft")
    assert coming.value.ok
    tab.wait_for_selector("#go:has-text('Ask the model')")
    tab.wait_for_selector(".facts", timeout=60_000)
    after = pixels(tab, 2)
    # 35 % of 28 pixels are white, around the share of the width that the patch was moved to
    assert (before[19] == 255).sum() >= 8 and before[19, 20] == 255
    assert after[19, 6] == 255 and not np.array_equal(before, after)


def test_an_unreadable_file_is_a_sentence(page: Opened) -> None:
    tab = page.tab
    tab.locator("#file").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture at all"}
    )
    tab.wait_for_selector("#image-error:visible", timeout=20_000)
    assert tab.inner_text("#image-error").endswith(".")
    # the picture before is still there
    assert attacked(tab)["success"] and tab.inner_text("#answer strong") != ""
    assert all("400" in line for line in page.said)  # the browser's own line; the page adds none
    page.said.clear()


# what the page shows at the very moment at which another model has been chosen
_WATCHED = """document.getElementById("model").addEventListener("change", () => {
    const all = document.querySelectorAll(".margin .line"), said = document.querySelector(".headline").textContent;
    window.told = [document.getElementById("answer").textContent, said, all.length];
})"""


def test_another_model_in_mid_attack_leaves_nothing_of_the_one_before(page: Opened) -> None:
    tab = page.tab
    tab.select_option("#method", "square")
    tab.fill("#eps", "0.001")
    tab.click("#options summary")
    tab.fill("#option-queries", "15000")
    tab.click("#go")
    tab.wait_for_selector(".margin .line")
    tab.evaluate(_WATCHED)
    tab.select_option("#model", "zoo:mnist-pgd")
    told = tab.evaluate("window.told")
    assert told == ["…", "The model is asked …", 0]
    tab.wait_for_selector("#go:enabled")
    tab.wait_for_timeout(500)
    assert tab.inner_text("#go") == "Attack" and tab.inner_text(".headline") == "Press Attack, and watch."
    tab.select_option("#method", "fgsm")
    tab.fill("#eps", "0.3")
    assert attacked(tab)["model"] == "zoo:mnist-pgd"


def test_the_download_was_checked_again(page: Opened, tmp_path: Path) -> None:
    tab = page.tab
    done = attacked(tab)
    with tab.expect_download() as coming:
        tab.click("text=Download PNG")
    coming.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png"))
    exact = np.frombuffer(base64.b64decode(done["array"]), dtype="<f4").reshape(28, 28)
    assert np.array_equal(saved, np.round(255 * exact).astype(np.uint8))
    tab.wait_for_selector(".download :has-text('asked again: still broken')")


def test_a_phone_shows_an_attack(browser: Any, url: str) -> None:
    phone = opened(browser, url, color_scheme="dark", **PHONE)
    attacked(phone.tab)
    phone.tab.wait_for_timeout(800)
    assert phone.tab.evaluate("document.documentElement.scrollWidth") == 360
    assert phone.tab.evaluate("scrollY") > 300  # the result has come into sight
    assert phone.said == []
    phone.close()
