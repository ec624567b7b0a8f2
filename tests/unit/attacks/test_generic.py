"""Options of every attack: restarts, and gradients that are means."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assay.attacks import ATTACKS, build
from assay.attacks.generic import GENERIC, unwrapped
from assay.attacks.gradient import BIM, MIFGSM, PGD
from assay.core.compose import Restarts, Through
from assay.core.errors import BadInput
from assay.core.lenses import Averaged, Expectation, InputDiversity, TranslationInvariance
from assay.core.oracle import Access
from assay.evaluation.study.attacks import describe
from tests.support.bench import case


def test_options_are_lenses() -> None:
    assert build("pgd", steps=3, eot=10) == Through(Expectation(10), PGD(3))
    assert build("bim", averaged=5) == Through(Averaged(5, 0.03), BIM())
    assert build("bim", averaged=5, averaged_sigma=0.1) == Through(Averaged(5, 0.1), BIM())
    assert build("mi-fgsm", diversity=0.5) == Through(InputDiversity(0.5), MIFGSM())
    assert build("ti-fgsm", diversity=1) == Through(InputDiversity(1.0), Through(TranslationInvariance(), MIFGSM()))
    # starts are taken afresh, each behind its lenses; the model's own randomness is averaged next to the model
    whole = build("pgd", eot=2, averaged=3, restarts=4)
    assert whole == Restarts(Through(Expectation(2), Through(Averaged(3), PGD())), 4)


@pytest.mark.parametrize("name", ATTACKS)
def test_what_changes_nothing_is_the_attack_itself(name: str) -> None:
    assert build(name, **{key: option.default for key, option in GENERIC.items()}) == build(name)
    assert build(name, averaged_sigma=0.5) == build(name)


@pytest.mark.parametrize("name", [name for name, entry in ATTACKS.items() if entry.access is Access.GRADIENT])
def test_every_gradient_attack_takes_them(name: str) -> None:
    assert build(name, eot=2) == Through(Expectation(2), build(name))


def test_cost_is_that_of_all_looks() -> None:
    here = case("linf")
    found = here.run(build("bim", steps=3, eot=4))
    assert torch.equal(found.backwards, torch.full_like(found.backwards, 12))
    assert torch.equal(found.forwards, torch.full_like(found.forwards, 13))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("square", {"eot": 3}, "'square' asks for no gradients, eot is for attacks that do"),
        ("uniform-noise", {"diversity": 0.5}, "asks for no gradients, diversity"),
        ("pgd", {"eot": 0}, "eot is 0, expected a whole number of 1 or more"),
        ("pgd", {"eot": 2.5}, r"eot is 2\.5"),
        ("pgd", {"averaged": True}, "averaged is True"),
        ("pgd", {"averaged_sigma": -1}, "averaged_sigma is -1, expected a number of 0 or more"),
        ("pgd", {"diversity": 1.5}, r"diversity is 1\.5, expected a number of 0 or more, at most 1"),
        ("pgd", {"diversity": "half"}, "diversity is 'half'"),
    ],
)
def test_values_that_cannot_be(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        build(name, **options)


@pytest.mark.parametrize(
    "options", [{"eot": 3}, {"averaged": 4, "averaged_sigma": 0.2}, {"diversity": 0.5, "restarts": 2}, {"restarts": 3}]
)
@pytest.mark.parametrize("name", ["pgd", "apgd-t", "ti-fgsm"])
def test_attacks_built_in_python_are_written_as_options(name: str, options: dict[str, Any]) -> None:
    method = build(name, **options)
    assert describe(method) == {"attack": name, **options}
    assert any(attack == build(name) and given == {**options, **given} for attack, given in unwrapped(method))


def test_what_no_option_writes_is_told() -> None:
    with pytest.raises(BadInput, match="is no attack of the table"):
        describe(Through(Averaged(3, uniform=True), PGD()))
