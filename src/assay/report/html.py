"""What every page is sealed with: one style, two scripts, and a policy that allows these and no connection."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.report import export as drawing

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart in a page: what the script draws, and the still picture that stands there until it does."""

    name: str
    title: str
    spec: str
    still: str


def chart(name: str, title: str, spec: dict[str, Any]) -> Chart:
    """Return a chart for a page; `name` is its id there."""
    return Chart(name, title, inert_json(spec), drawing.still(spec))


def inert_json(value: Any) -> str:
    """Write JSON that no script element can be left by."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def data_uri(kind: str, text: str) -> str:
    """Return text as a data URI."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode('ascii')}"


@functools.cache
def sealed(more_style: str = "") -> dict[str, str]:
    """Return style (with `more_style` after it) and scripts, and the policy that allows exactly these."""
    style = "".join((TEMPLATES / name).read_text("utf-8") for name in ("look.css", "page.css")) + more_style
    scripts = [_inert(drawing.javascript()), _inert((TEMPLATES / "page.js").read_text("utf-8"))]
    allowed = " ".join(_digest(script) for script in scripts)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return {"style": style, "vega": scripts[0], "script": scripts[1], "policy": policy}


def _inert(script: str) -> str:
    """Break what would end a script element early, inside strings, where a backslash changes nothing."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", script, flags=re.IGNORECASE)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def environment(*folders: Path, **names: Any) -> Environment:
    """Return the templates of `folders`, then the pages' common ones; `names` are known in all of them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.globals.update(words=words, **names)
    return made
