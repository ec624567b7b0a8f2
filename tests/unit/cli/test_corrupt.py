"""`assay corrupt` from end to end, and its slips."""

from __future__ import annotations

import json

import pytest

from tests.support.workplace import Workplace

CORRUPT = "corrupt --model zoo:mnist-cnn --data mnist/test --limit 8 --display none"


def test_measured_shown_and_gone_on_with(place: Workplace) -> None:
    first = place.assay(f"{CORRUPT} --corruptions stripe --out runs/c")
    assert "corruption accuracy, average case · MNIST-C · 8 images" in first.out
    assert "assay corrupt" in first.err
    more = place.assay(f"{CORRUPT} --corruptions stripe,fog --severities 1,5 --out runs/c")
    assert "fog" in more.out
    assert (
        "nothing was left to do" in place.assay(f"{CORRUPT} --corruptions stripe,fog --severities 1,5 --out runs/c").err
    )
    told = json.loads(place.assay("show runs/c --json").out)
    assert told["results"] == []
    (table,) = told["corruptions"]
    assert table["measure"] == "average case"
    assert [(one["corruption"], one["severity"]) for one in table["results"]] == [("stripe", 1), ("fog", 1), ("fog", 5)]
    assert all(one["low"] <= one["accuracy"] <= one["high"] for one in (table["clean"], *table["results"]))
    # a study by hand, and the run itself, are the same study
    assert "nothing was left to do" in place.assay("run runs/c --display none").err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--corruptions strype", "--corruptions: Unknown corruption 'strype'. Did you mean 'stripe'"),
        ("--severities 0", "--corruptions: severity is 0, expected 1 to 5"),
        ("--corruptions snow", "snow is no corruption of MNIST-C"),
        ("--data imagenet-c:nowhere", "There is no directory nowhere"),
    ],
)
def test_slips(flags: str, told: str, place: Workplace) -> None:
    said = place.assay(f"{CORRUPT} {flags}")
    assert told in said.err
    assert said.code == 2


def test_small_pictures_are_refused(place: Workplace) -> None:
    said = place.assay("corrupt --model toy.py:linear --data folder:pictures --corruptions fog --display none")
    assert "8 x 8 pixels; corruptions need 32 x 32" in said.err


def test_assay_run_takes_corruptions_without_an_attack(place: Workplace) -> None:
    told = place.assay("run --model zoo:mnist-cnn --data mnist/test --limit 8 --corruptions shear --display none")
    assert "average case" in told.out
