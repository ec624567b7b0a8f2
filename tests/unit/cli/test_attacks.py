from __future__ import annotations

import json

from assay.attacks import ATTACKS
from tests.support.workplace import Workplace


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
    assert list(told) == [*ATTACKS, "adaptive", "patch", "universal"]
    assert told["patch"]["norms"] == ["l0"] and told["patch"]["options"]["offsets"] == "all"
    assert told["fgsm"]["norms"] == ["linf", "ycbcr"]
    assert told["fgsm"]["needs"] == "gradient"
    assert list(json.loads(place.assay("attacks bim --json").out)) == ["bim"]


def test_options_are_listed_with_range_default_unit_and_help(place: Workplace) -> None:
    said = place.assay("attacks r-fgsm").out
    assert "start_share = 0.5" in said and "a share of" in said and "Length of" in said
    assert "arXiv:1705.07204" in said
    assert "eot" not in place.assay("attacks square").out, "it asks for no gradients"
    told = json.loads(place.assay("attacks r-fgsm --json").out)["r-fgsm"]
    assert told["details"]["start_share"] == {
        "kind": "number", "default": 0.5, "values": "a share of the budget from 0 to 1", "least": 0, "most": 1,
        "choices": [], "unit": "share of the budget", "help": "Length of the random step.",
    }  # fmt: skip
    assert told["options"]["start_share"] == 0.5
    assert json.loads(place.assay("attacks simba --json").out)["simba"]["details"]["basis"]["choices"] == [
        "pixel", "dct",
    ]  # fmt: skip


def test_an_unknown_attack(place: Workplace) -> None:
    said = place.assay("attacks pgdd")
    assert said.code == 2
    assert "Did you mean 'pgd'?" in said.err
    assert "Did you mean 'patch'?" in place.assay("attacks pach").err
