from __future__ import annotations

import json

from assay.defenses import DEFENSES
from assay.report.defense_page import defense_page
from tests.support.workplace import Workplace


def test_every_defence_is_listed(place: Workplace) -> None:
    said = place.assay("defenses")
    assert said.code == 0
    assert all(name in said.out for name in DEFENSES)
    assert list(json.loads(place.assay("defenses --json").out)) == list(DEFENSES)
    assert place.assay("defenses --markdown").out == defense_page()


def test_options_of_one_are_told(place: Workplace) -> None:
    said = place.assay("defenses crop-ensemble")
    assert "crops = 30" in said.out and "share = 0.9" in said.out
    assert said.out.rsplit("Example: ", 1)[1] == "--model 'zoo:mnist-cnn|crop-ensemble:crops=30'\n"
    told = json.loads(place.assay("defenses crop-ensemble --json").out)["crop-ensemble"]
    assert told["passes"] == {"forwards": 30, "backwards": 30, "always": 0} and told["random"]
    assert told["details"]["crops"]["kind"] == "whole number"
    assert "backwards: a differentiable JPEG" in place.assay("defenses jpeg").out


def test_a_slip_in_the_name_is_answered(place: Workplace) -> None:
    said = place.assay("defenses medain")
    assert said.code == 2 and "Did you mean 'median'?" in said.err
