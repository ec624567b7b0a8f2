from __future__ import annotations

import json

from tests.support.workplace import Workplace


def test_the_schema_names_the_keys_of_a_study(place: Workplace) -> None:
    said = place.assay("schema")
    assert said.code == 0
    keys = {"study", "models", "data", "threats", "attacks", "grids", "question"}
    assert keys <= set(json.loads(said.out)["properties"])


def test_it_can_be_written_for_an_editor(place: Workplace) -> None:
    said = place.assay("schema --out .")
    assert said.code == 0
    assert said.out == ""
    assert "# yaml-language-server: $schema=study.schema.json" in said.err
    assert "properties" in json.loads((place.folder / "study.schema.json").read_text())
