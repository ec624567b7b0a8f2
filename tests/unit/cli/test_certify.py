"""`assay certify` and `assay run --certify` from end to end, and their slips."""

from __future__ import annotations

import json

import pytest

from tests.support.workplace import Workplace

TOY = "--model toy.py:linear --data folder:pictures --display none"


def test_certified_shown_and_gone_on_with(place: Workplace) -> None:
    first = place.assay(f"certify {TOY} --eps 0.01,0.3 --out runs/c")
    assert first.code == 0
    assert "certified by crown, not attacked" in " ".join(first.out.split())
    assert "runs/c/certificates" in first.err and "assay certify" in first.err
    assert "nothing was left to do" in place.assay(f"certify {TOY} --eps 0.01,0.3 --out runs/c").err
    told = json.loads(place.assay("show runs/c --json").out)
    assert told["results"] == []
    (table,) = told["brackets"]
    small, large = table["brackets"]
    assert small["certified"] >= large["certified"] and small["survived"] is None
    assert (table["certificates"], table["alpha"]) == (["crown"], 0.0)
    # a study by hand, and the run itself, are the same study
    assert "nothing was left to do" in place.assay("run runs/c --display none").err
    for form in ("md", "latex", "csv"):
        assert "certified" in place.assay(f"show runs/c --format {form}").out
    assert place.assay("report runs/c").code == 0
    assert "What is proved" in (place.folder / "runs/c/report.html").read_text()


def test_a_bracket_beside_the_numbers_of_an_attack(place: Workplace) -> None:
    said = place.assay(f"run {TOY} --attack pgd:steps=5 --eps 0.01,0.3 --certify first --audit off --out runs/b")
    assert said.code == 0
    assert "certified ≤ truth ≤ robust" in said.out
    told = json.loads(place.assay("show runs/b --json").out)
    (table,) = told["brackets"]
    for one, result in zip(table["brackets"], told["results"], strict=True):
        assert one["certified"] == result["certified"]
        assert one["certified_low"] <= one["certified_accuracy"] <= one["robust_accuracy"] <= one["robust_high"]
        assert one["open"] == one["survived"] - one["certified"]
    planned = place.assay(f"plan {TOY.removesuffix(' --display none')} --eps 0.01 --certify crown --attack pgd:steps=5")
    assert "crown" in planned.out


def test_the_methods_are_listed(place: Workplace) -> None:
    every = json.loads(place.assay("certificates --json").out)
    assert {"ibp", "crown"} <= set(every) and not every["crown"]["statistical"]
    assert "grade" in place.assay("certificates crown").out
    said = place.assay("certificates crow")
    assert said.code == 2 and "Did you mean 'crown'" in said.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"certify {TOY} --eps 0.1 --method crow", "--method: Unknown certificate 'crow'. Did you mean 'crown'"),
        (f"certify {TOY} --eps 0.1 --method crown:grade=best",
         "--method: Certificate 'crown': grade is 'best', expected one of deployed"),
        (f"certify {TOY} --eps 3 --norm l0 --method crown", "The certificate crown speaks of linf, l2, l1, not of l0"),
        ("certify --model zoo:mnist-cnn --data mnist/test --eps 0.1 --limit 2 --method smoothing --norm l2",
         "is not smoothed"),
        (f"run {TOY} --attack pgd --eps 0.1 --certify second", "--certify: Unknown certificate 'second'"),
        ("certify --model toy.py:two_classes --data folder:pictures --eps 0.1 --display none", ""),
    ],
)  # fmt: skip
def test_slips(line: str, told: str, place: Workplace) -> None:
    said = place.assay(line)
    assert told in " ".join(said.err.split())
    assert said.code == 2
