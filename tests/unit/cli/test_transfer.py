"""`assay transfer`: counts that a loop counts, matrices in three forms, and the story of the distilled network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from assay.attacks import build
from assay.core.compose import run
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.threat import Linf
from assay.data import load_data
from assay.models import load_model
from assay.statistics import wilson
from tests.support.workplace import Workplace

OTHERS = '''
import torch
from toy import linear


def skewed():
    """Wrong on some pictures, and broken in other directions than linear."""
    network = linear()
    with torch.no_grad():
        network[1].weight += 4 * torch.randn(3, 192, generator=torch.Generator().manual_seed(0))
    return network
'''

TRANSFER = "transfer --data folder:pictures --eps 0.2 --display none"


@pytest.fixture(autouse=True)
def others(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / "others.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.delitem(__import__("sys").modules, "toy", raising=False)


def test_counted_as_by_hand(place: Workplace) -> None:
    names = ("toy.py:linear", "others.py:skewed")
    flags = " ".join(f"--surrogate {name} --target {name}" for name in names)
    told = json.loads(place.assay(f"{TRANSFER} {flags} --attack bim:steps=3 --attack pgd:steps=2 --json").out)
    models = {name: load_model(name).module for name in names}
    data = load_data("folder:pictures", model=load_model(names[0]))
    samples = data.load(range(len(data)))
    x, y = torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])
    n = len(samples)
    assert (told["images"], told["unreadable"], told["norm"], told["eps"]) == (n, 0, "linf", "0.2")
    right = {name: model(x).argmax(1) == y for name, model in models.items()}
    assert not bool(right[names[1]].all())
    found = {(one["attack"], one["surrogate"], one["target"]): one for one in told["crossings"]}
    assert len(found) == 8
    for attack, steps in (("bim:steps=3", 3), ("pgd:steps=2", 2)):
        for home, surrogate in models.items():
            problem = Problem(TorchOracle(surrogate), x, Untargeted(y), Linf(0.2))
            made = run(build(attack[:3], steps=steps), problem, Draws.of(list(data.ids), 0), keeps=Keeps.LAST)
            for away, target in models.items():
                both = right[home] & right[away]
                broken = both & (target(made.x).argmax(1) != y)
                one = found[attack, home, away]
                assert (one["both"], one["broken"]) == (int(both.sum()), int(broken.sum()))
                assert one["at_home"] == int((both & made.success).sum())
                assert one["target_right"] == int(right[away].sum())
                assert one["success"] == pytest.approx(one["broken"] / one["both"])
                assert (one["low"], one["high"]) == pytest.approx(wilson(one["broken"], one["both"]))
    # made once per attack and surrogate, judged on every target
    assert told["surrogate_forwards"] == 2 * n * (4 + 3) and told["surrogate_backwards"] == 2 * n * (3 + 2)
    assert told["judging_forwards"] == n * (2 + 2 * 2 * 2)


def test_three_forms_of_the_matrix(place: Workplace) -> None:
    flags = "--surrogate toy.py:linear --surrogate toy.py:linear+others.py:skewed --target others.py:skewed"
    table = place.assay(f"{TRANSFER} {flags}")
    assert table.code == 0, table.err
    assert "toy.py:linear+others.py:skewed" in table.out and "mi-fgsm" in table.out and "both get right" in table.out
    lines = place.assay(f"{TRANSFER} {flags} --markdown").out.splitlines()
    assert lines[:2] == ["| attack | made on | others.py:skewed |", "| --- | --- | ---: |"]
    assert len(lines) == 4 and lines[2].startswith("| mi-fgsm | toy.py:linear | ")
    told = json.loads(place.assay(f"{TRANSFER} {flags} --json").out)
    one = told["crossings"][0]
    assert f"{one['broken']}/{one['both']} |" in lines[2]
    # the same seed is the same result
    assert json.loads(place.assay(f"{TRANSFER} {flags} --json").out) == told


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--surrogate zoo:mnist-cnn --target toy.py:linear?size=8", "takes images of 1 x 28 x 28, toy.py:linear"),
        ("--surrogate toy.py:linear --target toy.py:linear --attack bmi", "Did you mean 'bim'"),
        (
            "--surrogate toy.py:linear --target toy.py:linear --attack fgsm --norm l2",
            "fgsm works in linf, ycbcr, not in l2",
        ),
        ("--surrogate nothing --target toy.py:linear", "Unknown model 'nothing'"),
        ("--surrogate toy.py:probabilities --target toy.py:linear", "The model returns probabilities"),
    ],
)
def test_slips_are_told(place: Workplace, flags: str, says: str) -> None:
    told = place.assay(f"{TRANSFER} {flags}")
    assert told.code == 2
    assert says in " ".join(told.err.split())


def test_normalised_budgets_are_of_one_model(place: Workplace) -> None:
    told = place.assay(f"{TRANSFER} --surrogate toy.py:linear --target toy.py:linear", "--eps", "normalized 0.1")
    assert told.code == 2 and "give the budget in pixels" in " ".join(told.err.split())


def test_distilled_networks_only_look_robust(tmp_path: Path, place: Workplace) -> None:
    """FGSM on the distilled network finds little; made on the plain network it breaks it: its gradients are masked."""
    flags = "--surrogate zoo:mnist-cnn --surrogate zoo:mnist-distilled-t100 --target zoo:mnist-distilled-t100"
    line = f"transfer {flags} --target zoo:mnist-teacher-t100 --data mnist/test --limit 40 --eps 0.25 --attack fgsm"
    said = place.assay(f"{line} --attack mi-fgsm:steps=5 --display none --json")
    assert said.code == 0, said.err
    found = {(one["attack"], one["surrogate"], one["target"]): one for one in json.loads(said.out)["crossings"]}
    for attack in ("fgsm", "mi-fgsm:steps=5"):
        by_itself = found[attack, "zoo:mnist-distilled-t100", "zoo:mnist-distilled-t100"]
        from_plain = found[attack, "zoo:mnist-cnn", "zoo:mnist-distilled-t100"]
        assert from_plain["success"] > by_itself["success"] + 0.3
        assert from_plain["both"] >= 35


def test_attacked_images_without_scores_are_in_no_share(place: Workplace) -> None:
    fragile = """

def fragile():
    from toy import Around

    class Fragile(Around):
        def forward(self, x):
            # darker than any of the pictures
            dark = x.flatten(1).amin(1, keepdim=True) < 0.2
            return torch.where(dark, float("nan"), self.inner(x))

    return Fragile(None)
"""
    Path("others.py").write_text(OTHERS + fragile)
    flags = "--surrogate toy.py:linear --target others.py:fragile --target toy.py:linear --attack bim:steps=2"
    plain = json.loads(place.assay(f"{TRANSFER} {flags} --json").out)["crossings"]
    lost, kept = plain
    assert (lost["both"] + lost["unscored"], lost["target_right"]) == (18, 18) and lost["unscored"] > 0
    assert lost["broken"] <= lost["both"] and (kept["both"], kept["unscored"]) == (18, 0)
    said = place.assay(f"{TRANSFER} {flags}")
    assert f"{lost['unscored']} attacked images had NaN or infinite scores" in said.err
