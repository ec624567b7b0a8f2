"""The table of attacks: names, options, and what is said about values that cannot be."""

from __future__ import annotations

import dataclasses
import math

import pytest

from assay.attacks import ATTACKS, FAMILIES, GOALS, build, options_of
from assay.attacks.gradient import BIM, FGSM, MIFGSM, PGD, RFGSM
from assay.core.compose import Restarts, for_norm, is_attack
from assay.core.errors import BadInput
from assay.core.norms import THREAT_NORMS
from assay.core.objective import OBJECTIVES, Tempered, dlr, margin
from assay.core.oracle import Access
from assay.core.search import Keeps
from assay.vocabulary import Norm

PROMISED = ["fgsm", "fgm", "r-fgsm", "ffgsm", "bim", "pgd", "mi-fgsm", "ni-fgsm", "uniform-noise", "gaussian-noise"]


def test_what_is_promised_is_there() -> None:
    assert set(PROMISED) <= set(ATTACKS)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_line_says_what_it_is(name: str) -> None:
    entry = ATTACKS[name]
    assert entry.summary
    assert entry.paper
    assert entry.version >= 1
    assert entry.norms
    assert set(entry.norms) <= set(THREAT_NORMS)
    assert entry.access in Access
    assert entry.family in FAMILIES
    assert entry.goals
    assert set(entry.goals) <= set(GOALS)
    attack = build(name)
    assert dataclasses.is_dataclass(attack)
    assert attack.__dataclass_params__.frozen
    assert isinstance(attack.keeps, Keeps)
    assert all(for_norm(attack, norm).keeps is attack.keeps for norm in entry.norms)
    assert not is_attack(attack) or attack.steps >= 0
    assert attack == build(name), "two of the same are equal"
    assert hash(attack) == hash(build(name))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_options_said_are_the_options_taken(name: str) -> None:
    options = {key: option.default for key, option in ATTACKS[name].options.items()}
    assert build(name, **options) == build(name)
    for value in options.values():
        assert value is None or isinstance(value, (int, float, str, bool)), "an option has a written form"


def test_options_arrive() -> None:
    assert build("pgd", steps=7, step_size=0.1, random_start=False, objective="margin") == PGD(
        7, 0.1, False, objective=margin
    )
    assert build("bim", steps=3) == BIM(3)
    assert build("fgsm", objective="dlr") == FGSM(dlr)
    assert build("r-fgsm", start_share=0.25) == RFGSM(0.25)
    assert build("ni-fgsm", decay=0.5) == MIFGSM(decay=0.5, lookahead=True)
    assert build("mi-fgsm", lookahead=True) == MIFGSM(lookahead=True)
    assert build("pgd", restarts=3) == Restarts(PGD(), 3)
    assert build("pgd", restarts=1) == PGD()
    assert build("pgd", step_size=0) == PGD(step_size=0)
    assert build("pgd", objective=margin) == PGD(objective=margin)


def test_options_are_written_as_they_are_read() -> None:
    assert options_of(PGD(objective=margin))["objective"] == "margin"
    assert options_of(PGD())["keeps"] == "first"

    def mine(logits, goal):
        return logits

    assert options_of(FGSM(mine))["objective"] == "mine"
    tempered = build("fgsm", objective="cross_entropy/1e2")
    assert tempered == FGSM(Tempered(100))
    assert options_of(tempered)["objective"] == "cross_entropy/100"
    assert {build("fgsm", objective=name).objective for name in OBJECTIVES} == set(OBJECTIVES.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pgb", {}, r"Unknown attack 'pgb'\. Did you mean 'pgd'\?"),
        ("PGD", {}, r"Unknown attack 'PGD'\. Did you mean 'pgd'\?"),
        ("zzz", {}, r"Unknown attack 'zzz'\.  \(assay attacks lists them\)"),
        ("", {}, "Unknown attack ''"),
        (
            "pgd",
            {"step": 3},
            r"has no option 'step'\. Did you mean 'steps'\? Its options: steps, .*, restarts, smallest\.",
        ),
        ("fgsm", {"steps": 3}, "'fgsm' has no option 'steps'"),
        ("uniform-noise", {"objective": "margin"}, "has no option 'objective'"),
        ("pgd", {"steps": 0}, "steps is 0, expected a whole number of 1 or more"),
        ("pgd", {"steps": -3}, "steps is -3"),
        ("pgd", {"steps": 2.5}, r"steps is 2\.5"),
        ("pgd", {"steps": "40"}, "steps is '40'"),
        ("pgd", {"steps": True}, "steps is True"),
        ("pgd", {"steps": None}, "steps is None"),
        ("pgd", {"step_size": -0.1}, r"step_size is -0\.1, expected a number of 0 or more"),
        ("pgd", {"step_size": math.nan}, "step_size is nan"),
        ("pgd", {"step_size": math.inf}, "step_size is inf"),
        ("pgd", {"step_size": "2/255"}, "step_size is '2/255'"),
        ("ffgsm", {"step_size": None}, "step_size is None"),
        ("pgd", {"random_start": 1}, "random_start is 1, expected true or false"),
        ("pgd", {"random_start": "no"}, "random_start is 'no'"),
        ("fgsm", {"objective": "cross_entropy/0"}, "The temperature is 0.0, expected a positive number"),
        ("fgsm", {"objective": "cross_entropy/x"}, "'cross_entropy/x' is no objective"),
        ("fgsm", {"objective": "cross_entropy/nan"}, "The temperature is nan"),
        ("pgd", {"objective": "crossentropy"}, r"expected one of cross_entropy, .* Did you mean 'cross_entropy'\?"),
        ("pgd", {"objective": 3}, "'3' is no objective"),
        ("pgd", {"keeps": "first"}, "what is kept follows from the study's question"),
        ("pgd", {"restarts": 0}, "restarts is 0, expected a whole number of 1 or more"),
        ("pgd", {"restarts": 1.5}, r"restarts is 1\.5"),
        ("pgd", {"restarts": True}, "restarts is True"),
        ("r-fgsm", {"start_share": 2.0}, r"start_share is 2\.0, expected a share of the budget from 0 to 1"),
    ],
)
def test_bad_names_and_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build(name, **options)


def test_readers_know_the_norms_that_threats_have() -> None:
    # records have a size per norm, in this order; their readers take the names from the vocabulary
    assert [one.value for one in Norm] == list(THREAT_NORMS)
