"""`assay run --judge` from end to end, and its slips."""

from __future__ import annotations

import json

import pytest

from tests.support.workplace import Workplace

TOY = "--model toy.py:linear --data folder:pictures --display none --no-doctor --audit off"
SHIPPED = """
import assay
from assay.models.deployed import Deployed
from toy import linear


def _answer(net):
    def answer(x):
        import torch

        with torch.no_grad():
            return (4 * net(torch.from_numpy(x))).round().div(4).numpy()

    return answer


def rounded():
    answer = Deployed(_answer(assay.load_model(linear()).module))
    return assay.Classifier(answer, access=assay.core.oracle.Access.SCORES, identity="rounded to quarters")


def chances():
    net = assay.load_model(linear()).module
    return assay.Classifier(Deployed(lambda x: _softmax(net, x)), identity="chances")


def _softmax(net, x):
    import torch

    with torch.no_grad():
        return net(torch.from_numpy(x)).softmax(1).numpy()
"""


def test_both_numbers_in_one_command_and_in_every_form(place: Workplace) -> None:
    (place.folder / "shipped.py").write_text(SHIPPED)
    asked = f"run {TOY} --judge shipped.py:rounded --attack pgd:steps=5 --eps 0.01,0.1 --out runs/pair"
    said = place.assay(asked)
    assert said.code == 0, said.err
    assert "shipped.py:rounded judges toy.py:linear" in " ".join(said.out.split())
    assert "nothing was left to do" in place.assay(asked).err
    (table,) = json.loads(place.assay("show runs/pair --json").out)["pairs"]
    assert (table["model"], table["judge"]) == ("toy.py:linear", "shipped.py:rounded")
    assert [pair["eps"] for pair in table["pairs"]] == [0.01, 0.1]
    for form in ("md", "latex", "csv"):
        assert "judge" in place.assay(f"show runs/pair --format {form}").out
    assert place.assay("report runs/pair").code == 0
    assert "The model, and its judge" in (place.folder / "runs/pair/report.html").read_text()
    # the judge by itself gives no gradients
    refused = place.assay(f"run {TOY.replace('toy.py:linear', 'shipped.py:rounded')} --attack pgd --eps 0.1")
    assert refused.code == 2 and "needs gradient" in refused.err


def test_a_judge_that_returns_probabilities_is_named_and_can_be_said(place: Workplace) -> None:
    (place.folder / "shipped.py").write_text(SHIPPED)
    asked = f"run {TOY} --judge shipped.py:chances --attack fgsm --eps 0.1 --out runs/chances"
    refused = place.assay(asked)
    assert refused.code != 0 and "--judge-outputs probabilities" in refused.err
    said = place.assay(f"{asked.replace('runs/chances', 'runs/said')} --judge-outputs probabilities")
    assert said.code == 0, said.err
    (table,) = json.loads(place.assay("show runs/said --json").out)["pairs"]
    (pair,) = table["pairs"]
    # the same network, its answers written in another way
    assert pair["difference"] == 0 and pair["carried"] == pair["broke"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--judge toy.py:linear", "is one of the models"),
        ("--judge toy.py:no_such", "no_such"),
        ("--judge missing.onnx", "missing.onnx"),
        ("--judge shipped.py:rounded --labels predicted", "two different questions"),
    ],
)
def test_slips(place: Workplace, more: str, said: str) -> None:
    (place.folder / "shipped.py").write_text(SHIPPED)
    refused = place.assay(f"run {TOY} {more} --attack fgsm --eps 0.1")
    assert refused.code == 2 and said in refused.err, refused.err
