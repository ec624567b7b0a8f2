"""The page of the kinds of models is written from the tables that load them, and says what each gives."""

from __future__ import annotations

import tomllib
from pathlib import Path

from assay.models.kinds import KINDS, install
from assay.models.load import SCHEMES
from assay.report.models_page import models_page

ROOT = Path(__file__).parents[3]


def test_the_page_is_that_of_the_tables() -> None:
    assert (ROOT / "docs/models.md").read_text() == models_page(), "make it: assay models --markdown > docs/models.md"


def test_every_scheme_has_a_line_and_every_extra_exists() -> None:
    assert set(KINDS) == {*SCHEMES, "python"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {kind.extra for kind in KINDS.values() if kind.extra} <= set(extras)
    assert install("onnx") == "pip install 'assay[onnx]'" and install("") == ""
    # whoever gives no gradients says so under what cannot be had
    assert all("gradients" in kind.lacks for kind in KINDS.values() if kind.gives.startswith("scores"))
