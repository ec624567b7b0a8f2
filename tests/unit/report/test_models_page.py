"""The page of the kinds of models is written from the tables that load them, and says what each gives."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from assay.models import Listed
from assay.models.kinds import KINDS, install
from assay.models.load import SCHEMES
from assay.report.models_page import models_page
from tests.support.workplace import Workplace

ROOT = Path(__file__).parents[3]


def test_the_page_is_that_of_the_tables() -> None:
    assert (ROOT / "docs/models.md").read_text() == models_page() + "\n", (
        "make it: assay models --markdown > docs/models.md"
    )


def test_every_scheme_has_a_line_and_every_extra_exists() -> None:
    assert set(KINDS) == {*SCHEMES, "python"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {kind.extra for kind in KINDS.values() if kind.extra} <= set(extras)
    assert install("onnx") == "pip install 'assay[onnx]'" and install("") == ""
    # whoever gives no gradients says so under what cannot be had
    assert all("gradients" in kind.lacks for kind in KINDS.values() if kind.gives.startswith("scores"))


@pytest.mark.parametrize("name", ["onnx", "litert", "v2", "python"])
def test_the_kinds_are_listed(place: Workplace, name: str) -> None:
    told = json.loads(place.assay("models --kinds --json").out)
    assert told[name]["gives"] == KINDS[name].gives and told[name]["form"]
    said = " ".join(place.assay("models --kinds").out.split())
    assert KINDS[name].extra in said


def test_the_list_of_names_ends_with_files_and_endpoints(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.models.list_models", lambda: [Listed("zoo:mnist-cnn", "digits", 0.99)])
    said = place.assay("models").out
    assert "onnx:FILE" in said and "(extra onnx)" in said and "my.py:factory" in said
    # those are listed one by one
    assert "zoo:NAME" not in said
