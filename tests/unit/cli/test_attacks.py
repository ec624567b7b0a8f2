from __future__ import annotations

import json

from assay.attacks import ATTACKS
from tests.unit.cli.workplace import Workplace


def test_every_attack_is_listed(place: Workplace) -> None:
    said = place.assay("attacks")
    assert said.code == 0
    assert all(name in said.out for name in ATTACKS)


def test_options_of_one_can_be_typed_back(place: Workplace) -> None:
    said = place.assay("attacks pgd")
    assert "steps = 40" in said.out
    assert "restarts = 1" in said.out
    assert "keeps" not in said.out
    example = said.out.rsplit("Example: ", 1)[1].strip()
    checked = place.assay(f"validate --model a.py:f --data samples --eps 0.1 {example}")
    assert checked.code == 0, checked.err


def test_the_patch_of_a_file_needs_the_file(place: Workplace) -> None:
    said = place.assay("attacks patch")
    assert "norms: l0" in said.out
    assert said.out.rsplit("Example: ", 1)[1] == "--attack patch:file=PATCH.safetensors\n"


def test_json(place: Workplace) -> None:
    told = json.loads(place.assay("attacks --json").out)
    assert list(told) == [*ATTACKS, "patch", "universal"]
    assert told["patch"]["norms"] == ["l0"] and told["patch"]["options"]["offsets"] == "all"
    assert told["fgsm"]["norms"] == ["linf"]
    assert told["fgsm"]["needs"] == "gradient"
    assert list(json.loads(place.assay("attacks bim --json").out)) == ["bim"]


def test_an_unknown_attack(place: Workplace) -> None:
    said = place.assay("attacks pgdd")
    assert said.code == 2
    assert "Did you mean 'pgd'?" in said.err
