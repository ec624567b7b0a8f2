"""Models that can only be asked, from the command line: an attack that fits, the words, the audit, the doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.workplace import Workplace

BOXES = """
import assay
from assay.models import Predictions
from assay.core.oracle import Access
from toy import linear


def scores(images):
    import torch

    with torch.no_grad():
        return linear()(torch.from_numpy(images)).numpy()


def named(images):
    return scores(images).argmax(1)


def box():
    return assay.Classifier(Predictions(scores), access=Access.SCORES, input_shape=(3, 8, 8), identity="box")


def labels():
    module = Predictions(named, classes=3)
    return assay.Classifier(module, access=Access.LABELS, input_shape=(3, 8, 8), identity="labels")
"""
DATA = "--data folder:pictures --display none"


@pytest.fixture
def boxes(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    (place.folder / "boxes.py").write_text(BOXES)
    monkeypatch.syspath_prepend(str(place.folder))
    return place


@pytest.mark.parametrize(
    ("model", "norm", "chosen"),
    [
        ("toy.py:linear", "linf", "pgd fits a model that gives gradients"),
        ("boxes.py:box", "linf", "square:queries=1000 fits a model that gives scores alone"),
        ("boxes.py:labels", "linf", "hop-skip-jump:queries=1000 fits a model that gives labels alone"),
        ("boxes.py:box", "l0", "one-pixel fits a model that gives scores alone"),
        ("boxes.py:labels", "l1", "spatial fits a model that gives labels alone"),
        ("toy.py:linear", "l0", "fmn fits a model that gives gradients"),
    ],
)
def test_an_attack_that_fits_is_taken_and_named(boxes: Workplace, model: str, norm: str, chosen: str) -> None:
    eps = "4/255" if norm == "linf" else "4"
    said = boxes.assay(f"plan --model {model} --data folder:pictures --norm {norm} --eps {eps}")
    assert f"No --attack is named: {chosen}." in said.err, said.err
    assert said.code == 0
    assert chosen.split()[0].split(":")[0] in said.out


def test_the_one_that_gives_least_decides_for_all(boxes: Workplace) -> None:
    said = boxes.assay(f"plan --model toy.py:linear --model boxes.py:labels {DATA.split(' --')[0]} --eps 4/255")
    assert "hop-skip-jump:queries=1000 fits a model that gives labels alone" in said.err


@pytest.mark.parametrize(
    ("attack", "model", "said"),
    [
        ("pgd", "box", "pgd needs gradient, and boxes.py:box gives scores alone. Attacks that fit: square"),
        (
            "square",
            "labels",
            "square needs scores, and boxes.py:labels gives labels alone. Attacks that fit: hop-skip-",
        ),
        ("cascade", "box", "cascade needs gradient, and boxes.py:box gives scores alone"),
        ("autoattack", "box", "autoattack needs gradient"),
    ],
)
def test_one_that_needs_more_is_refused_when_planned(boxes: Workplace, attack: str, model: str, said: str) -> None:
    refused = boxes.assay(f"run --model boxes.py:{model} {DATA} --attack {attack} --eps 4/255")
    assert refused.code == 2
    assert said in refused.err
    assert f"or make the images on another model: {attack}:surrogate=MODEL" in refused.err


def test_a_run_an_audit_and_a_second_one_with_a_twin(boxes: Workplace) -> None:
    line = f"run --model boxes.py:box --model toy.py:linear {DATA} --attack square:queries=20 --eps 4/255 --audit off"
    said = boxes.assay(f"{line} --out runs/b")
    assert said.code == 0, said.err
    # both wordings, each at its model
    assert "numbers: not broken within 20 queries" in said.out
    assert "numbers: robust accuracy" in said.out
    told = json.loads(boxes.assay("show runs/b --json").out)["results"]
    assert {(one["model"], one["access"], one["queries_limit"], one["wording"]) for one in told} == {
        ("boxes.py:box", "scores", 20, "not broken within 20 queries"),
        ("toy.py:linear", "gradient", None, "robust accuracy"),
    }
    alone = boxes.assay(f"{line.replace(' --model toy.py:linear', '')} --out runs/c")
    assert alone.code == 0
    audited = boxes.assay("audit runs/c --display none")
    assert audited.out.startswith("SUSPECT   boxes.py:box")
    assert "% not broken within 20 queries" in audited.out
    assert "A black box: no white-box twin was judged on it" in audited.out
    led = boxes.assay("audit runs/c --display none --twin toy.py:linear")
    assert "led by the gradients of toy.py:linear (" in led.out
    verdicts = json.loads(Path("runs/c/audit/verdicts.json").read_text())
    assert [one["twin"].split(" ")[0] for one in verdicts] == ["toy.py:linear"]


def test_a_study_may_name_a_twin_and_the_lock_file_the_attack(boxes: Workplace) -> None:
    said = boxes.assay(f"run --model boxes.py:box {DATA} --eps 4/255 --limit 3 --audit off --out runs/u")
    assert said.code == 0
    assert "square" in Path("runs/u/study.lock.yaml").read_text()
    # going on with the directory needs no choice
    assert "No --attack is named" not in boxes.assay("run runs/u --display none").err


def test_the_doctor_says_what_it_gives(boxes: Workplace) -> None:
    said = " ".join(boxes.assay("doctor --model boxes.py:box --data folder:pictures").out.split())
    assert "the model gives scores alone; in linf square" in said
    assert "scores of all 3 classes, without visible steps" in said
    assert "changes of less than half a grey level reach the model" in said
