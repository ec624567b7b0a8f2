"""Debian's Chromium, as the tests of pages start it: where it is, and the flags that keep it quiet."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from typing import Any

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP: dict[str, Any] = {"viewport": {"width": 1360, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 780}, "is_mobile": True, "has_touch": True}


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=PATH, args=FLAGS)
        yield opened
        opened.close()


@dataclasses.dataclass
class Opened:
    """A page in a tab, with everything it said and asked for."""

    tab: Any
    said: list[str] = dataclasses.field(default_factory=list)
    asked: list[Any] = dataclasses.field(default_factory=list)

    def close(self) -> None:
        self.tab.context.close()


# the browser keeps no body of a stream: the page's own reading is split in two
_KEEP = """const ask = window.fetch;
window.fetch = async (...given) => {
    const answer = await ask(...given);
    if (!String(given[0]).includes("/api/run") || !answer.ok) return answer;
    const [one, other] = answer.body.tee();
    window.ran = new Response(other).text().catch(() => "");
    return new Response(one, answer);
};"""


def ran(tab: Any) -> list[dict[str, Any]]:
    """Return the events of the latest run, once it has ended."""
    return [json.loads(line) for line in tab.evaluate("window.ran").splitlines()]


def opened(browser: Any, url: str, **settings: Any) -> Opened:
    """Open a playground, and wait until an attack can be started."""
    page = Opened(browser.new_context(**{**DESKTOP, **settings}).new_page())
    page.tab.add_init_script(_KEEP)
    page.tab.on("console", lambda message: page.said.append(message.text))
    page.tab.on("pageerror", lambda error: page.said.append(str(error)))
    page.tab.on("dialog", lambda dialog: (page.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.tab.on("request", lambda request: page.asked.append(request))
    page.tab.goto(url)
    page.tab.wait_for_selector("#go:enabled", timeout=30_000)
    page.tab.wait_for_selector("#answer strong", timeout=30_000)
    return page
