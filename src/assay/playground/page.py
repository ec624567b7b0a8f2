"""The playground's page: one text with style and scripts inside, which asks for nothing but the server's answers."""
# shape: the server answers with it, and tests of the page alone render it without a server

from __future__ import annotations

import functools
import json
import string
from pathlib import Path

_HERE = Path(__file__).parent / "templates"
# by its path, not through assay.report: that room takes torch along, and the first paint must not wait for it
_LOOK = Path(__file__).parents[1] / "report" / "templates" / "look.css"
_SCRIPTS = ("base.js", "pad.js", "patch.js", "result.js", "play.js")


def render(token: str, nonce: str) -> str:
    """Return the page as HTML.

    The token goes into its setup, so that its requests can carry it; the nonce stands at the style and at every script,
    which a policy with `'nonce-…'` then allows. Both are texts of the server's own, safe in attributes.
    """
    template, style, scripts = _parts()
    quoted = json.dumps({"token": token}).replace("<", "\\u003c")
    inside = "\n".join(f'<script nonce="{nonce}">\n{script}</script>' for script in scripts)
    return template.substitute(nonce=nonce, setup=quoted, style=style, scripts=inside)


@functools.cache
def _parts() -> tuple[string.Template, str, tuple[str, ...]]:
    """Return the template, the style and the scripts; they are read once."""
    style = _LOOK.read_text("utf-8") + (_HERE / "play.css").read_text("utf-8")
    scripts = tuple((_HERE / name).read_text("utf-8") for name in _SCRIPTS)
    return string.Template((_HERE / "play.html").read_text("utf-8")), style, scripts
