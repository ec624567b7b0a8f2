"""Options: what the table says is what the attacks take, and each kind of value is read, refused and written."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from assay.attacks import ATTACKS, build
from assay.attacks.apgd import APGD
from assay.attacks.fab import FAB
from assay.attacks.generic import GENERIC, wrapped
from assay.attacks.gradient import PGD
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.jsma import JSMA
from assay.attacks.options import Kind, Option, options_of_maker, written_option
from assay.attacks.square import Square
from assay.attacks.transfer import ti_fgsm
from assay.core.errors import BadInput
from assay.core.objective import margin
from assay.evaluation.study.attacks import STUDY_ATTACKS

TYPES = {Kind.SWITCH: bool, Kind.WHOLE: int, Kind.NUMBER: float, Kind.CHOICE: str, Kind.OBJECTIVE: str, Kind.TEXT: str}
PLACED = {"keeps", "image"}


@pytest.mark.parametrize("name", STUDY_ATTACKS)
def test_the_table_and_the_attack_agree(name: str) -> None:
    entry = STUDY_ATTACKS[name]
    arguments = inspect.signature(entry.make).parameters
    assert list(entry.options) == [argument for argument in arguments if argument not in PLACED]
    for option, one in entry.all_options.items():
        assert one.help.endswith(".") and one.help[0].isupper(), option
        if option in arguments:
            assert one.default == written_option(arguments[option].default)
        assert (one.default is None) <= one.optional
        if one.default is not None:
            assert type(one.default) is TYPES[one.kind], option
            assert one.read(option, one.default) in (one.default, getattr(arguments.get(option), "default", None))
        assert (one.kind is Kind.CHOICE) == bool(one.choices)
        assert (one.least is not None) == (one.kind in (Kind.WHOLE, Kind.NUMBER))
        assert one.values and set(one.plain()) == {
            "kind", "default", "values", "least", "most", "choices", "unit", "help",
        }  # fmt: skip


def test_general_options_are_those_that_fit() -> None:
    assert list(ATTACKS["pgd"].general) == list(GENERIC) == list(options_of_maker(wrapped))
    assert list(ATTACKS["square"].general) == ["restarts", "smallest"]
    assert "smallest" not in ATTACKS["ddn"].general and "eot" in ATTACKS["ddn"].general
    elsewhere = ["surrogate", "surrogate_outputs", "pushed", "surrogate_digest"]
    assert list(STUDY_ATTACKS["pgd"].general)[-len(elsewhere) :] == elsewhere
    assert not STUDY_ATTACKS["universal"].general


KERNEL = options_of_maker(ti_fgsm)["kernel"]
SHARE = options_of_maker(Square)["p"]
PROBE = options_of_maker(HopSkipJump)["probe"]
STEPS = options_of_maker(PGD)["steps"]
SIZE = options_of_maker(PGD)["step_size"]
BASIS = ATTACKS["simba"].options["basis"]
PLACE = STUDY_ATTACKS["patch"].options["at"]
SURROGATE = STUDY_ATTACKS["pgd"].general["surrogate"]


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        (STEPS, [1, 40], [0, -1, 1.0, True, "1", None, math.nan]),
        (SIZE, [0, 0.5, 3, None], [-1e-9, math.inf, math.nan, True, "0.1"]),
        (SHARE, [1e-9, 1], [0, 1.0001, None, math.nan]),
        (PROBE, [0.5], [0, 1, 0.0, 1.0]),
        (KERNEL, [1, 7, None], [0, 2, -1, 7.0]),
        (BASIS, ["dct", "pixel"], ["DCT", 3, None, ["dct"]]),
        (SURROGATE, ["a.py:f", "zoo:a + zoo:b", None], ["", " ", "a+", "+a", "a++b", 3]),
        (PLACE, ["1,2", " 10 , 20", None], ["3", "a,b", "1,2,3"]),
    ],
)
def test_values_are_read_or_refused_and_the_schema_agrees(option: Option, good: list[Any], bad: list[Any]) -> None:
    schema = Draft202012Validator(option.schema())
    for value in good:
        option.read("it", value)
        assert value is None or schema.is_valid(value), value
    for value in bad:
        with pytest.raises(BadInput, match=r"^it"):
            option.read("it", value)
        # JSON has no nan, and calls 1.0 a whole number
        odd_number = isinstance(value, float) and (math.isnan(value) or math.isinf(value) or value == round(value))
        assert odd_number or not schema.is_valid(value), value


def test_what_is_read_is_what_an_attack_takes() -> None:
    assert PLACE.read("at", "10,20") == (20, 10)
    assert BASIS.read("basis", "dct").value == "dct"
    assert options_of_maker(PGD)["objective"].read("objective", "margin") is margin
    assert options_of_maker(PGD)["objective"].read("objective", margin) is margin


def test_ranges_in_words() -> None:
    assert STEPS.values == "a whole number of 1 or more"
    assert GENERIC["diversity"].values == "a number of 0 or more, at most 1"
    assert options_of_maker(APGD)["rho"].values == "a share of the steps from 0 to 1"
    assert PROBE.values == "a share of the distance between 0 and 1"
    assert options_of_maker(JSMA)["theta"].values == "a number above 0"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: APGD(rho=2), "^rho is 2, expected a share of the steps from 0 to 1"),
        (lambda: FAB(beta=-0.1), r"^beta is -0\.1, expected a share"),
        (lambda: HopSkipJump(tolerance=1), "^tolerance is 1, expected a share of the distance between 0 and 1"),
        (lambda: JSMA(temperature=0), "^temperature is 0, expected a number above 0"),
        (lambda: build("ti-fgsm", kernel=4), "^Attack 'ti-fgsm': kernel is 4, expected an odd number"),
        (lambda: build("di-fgsm", smallest_share=0), "^Attack 'di-fgsm': smallest_share is 0, expected a share of the"),
        (lambda: build("simba", basis="dcd"), r"basis is 'dcd', expected one of pixel, dct\. Did you mean 'dct'"),
    ],
)
def test_classes_and_names_refuse_by_the_same_table(make: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()


def test_options_without_effect_are_taken() -> None:
    assert build("square", eot=1, averaged_sigma=0.5) == build("square")
    assert build("ddn", smallest=0) == build("ddn")
    with pytest.raises(BadInput, match="averaged_sigma is -1"):
        build("square", averaged_sigma=-1)
