"""The playground's page as a text: what stands in it, and what it needs to be made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

from assay.playground.page import render


class _Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_style_and_every_script_carry_the_nonce() -> None:
    tags = _Seen(render("the-token", "the-nonce")).tags
    sealed = [given for tag, given in tags if tag in ("style", "script")]
    assert len(sealed) == 7 and {given["nonce"] for given in sealed} == {"the-nonce"}


def test_the_token_is_in_the_setup_and_cannot_leave_it() -> None:
    text = render("</script><b>", "n")
    setup = re.search(r'<script nonce="n" type="application/json" id="setup">(.*?)</script>', text)
    assert setup is not None and json.loads(setup[1]) == {"token": "</script><b>"}


def test_nothing_is_loaded_and_nothing_is_inline() -> None:
    text = render("t", "n")
    for tag, given in _Seen(text).tags:
        assert not any(name.startswith("on") or name == "style" for name in given), tag
        assert all(str(given[name]).startswith(("data:", "#")) for name in ("src", "href") if name in given), tag
    assert "http:" not in text.replace("http://www.w3.org", "") and "https:" not in text
    assert not re.search(r"\beval\(|innerHTML|insertAdjacentHTML|document\.write", text)


def test_every_label_names_a_field_and_ids_are_unique() -> None:
    tags = _Seen(render("t", "n")).tags
    ids = [given["id"] for _, given in tags if "id" in given]
    assert len(ids) == len(set(ids))
    named = [
        given[name] for _, given in tags for name in ("for", "aria-labelledby", "aria-describedby") if name in given
    ]
    assert len(named) > 15 and set(named) <= set(ids)


def test_scripts_find_every_element_they_ask_for() -> None:
    text = render("t", "n")
    ids = {given["id"] for _, given in _Seen(text).tags if "id" in given}
    asked = set(re.findall(r'\$\("([\w-]+)"\)', text))
    assert len(asked) > 30 and asked - {"option-steps"} <= ids  # that one is made with the attack's options


def test_the_page_needs_no_torch() -> None:
    code = "import sys; from assay.playground.page import render; render('t', 'n'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
