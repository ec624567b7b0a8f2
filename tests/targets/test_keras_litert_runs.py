"""Keras and TFLite files through the command line: run, judge, doctor, plan, patch, transfer, studies, two workers."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import torch

import assay
from tests.support.small_net import FOLDER, digits, small_net
from tests.support.workplace import Workplace

pytestmark = pytest.mark.targets

KERAS, LITE = f"keras:{FOLDER / 'small.keras'}", f"litert:{FOLDER / 'int8.tflite'}"
BOTH = f"{LITE}?twin={KERAS}"
DATA = "--data npz:digits.npz"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    x, y = digits()
    np.savez("digits.npz", x=(x * 255).round().byte().numpy(), y=y.numpy())
    return Workplace(tmp_path, capsys)


def records(directory: str) -> list[dict[str, object]]:
    columns = ["sample_id", "model", "attack", "eps", "status", "prediction", "size_linf", "forwards", "backwards"]
    table = ds.dataset(f"{directory}/results").to_table(columns)
    return table.sort_by([(name, "ascending") for name in columns[:4]]).to_pylist()


def test_the_same_records_from_the_file_as_from_the_network_and_by_two_workers(place: Workplace) -> None:
    torch.save(small_net(), "net.pt")
    run = f"{DATA} --attack fgsm --attack pgd:steps=4 --eps 0.05,0.1 --set chunk=20 --audit off"
    said = place.assay(f"run --model {KERAS} --model {BOTH} {run} --out one")
    assert said.code == 0, said.err
    assert place.assay(f"run --model {KERAS} --model {BOTH} {run} --out two --workers 2").code == 0
    assert records("one") == records("two")
    # the network itself, from its weights in torch
    assert place.assay(f"run --model file:net.pt --allow-pickle {run} --out net").code == 0
    of_net = [(one["sample_id"], one["attack"], one["eps"], one["status"]) for one in records("net")]
    of_file = [
        (one["sample_id"], one["attack"], one["eps"], one["status"])
        for one in records("one")
        if str(one["model"]).startswith("keras")
    ]
    assert of_file == of_net
    # a gradient look of the pair asks file and twin
    paid = {str(one["model"])[:6]: one for one in records("one") if one["attack"] == "fgsm"}
    assert paid["litert"]["backwards"] == paid["keras:"]["backwards"]


def test_made_on_the_keras_network_and_judged_on_the_file_that_ships(place: Workplace) -> None:
    said = place.assay(
        f"run --model {KERAS} --judge {LITE} {DATA} --attack pgd:steps=10 --eps 0.1 --audit off --out runs"
    )
    assert said.code == 0, said.err
    results = json.loads(place.assay("show runs --json").out)["results"]
    numbers = {str(one["model"]).partition(":")[0]: one["robust_accuracy"] for one in results}
    assert set(numbers) == {"keras", "litert"}
    assert all(0 < one < 0.6 for one in numbers.values())


def test_the_doctor_knows_the_steps_and_compares_probabilities(place: Workplace) -> None:
    said = place.assay(f"doctor --model {BOTH} {DATA}")
    assert said.code == 0, said.err
    text = " ".join(said.out.split())
    assert "Scores come in steps of 0.00391" in text
    assert "near the deployed model and not the same, as a float network of a quantised file is" in text
    assert "no Keras" not in place.assay(f"doctor --model {KERAS} {DATA}").out


def test_a_study_and_a_plan_and_an_audit(place: Workplace) -> None:
    Path("study.yaml").write_text(
        "study: files\n"
        f"models: ['{KERAS}', '{LITE}']\n"
        "data: [{source: 'npz:digits.npz', limit: 20}]\n"
        "attacks: [{attack: square, queries: 50}]\n"
        "threats: [{norm: linf, eps: [0.1]}]\n"
    )
    said = place.assay("plan study.yaml")
    assert said.code == 0, said.err
    said = place.assay("run study.yaml --out runs")
    assert said.code == 0, said.err
    results = json.loads(place.assay("show runs --json").out)["results"]
    assert {one["verdict"] for one in results} <= {"suspect", "refuted"}


def test_patches_and_transfer(place: Workplace) -> None:
    said = place.assay(f"patch train --model {KERAS} {DATA} --epochs 2 --size 10 --target 3 --out patch.safetensors")
    assert said.code == 0, said.err
    said = place.assay(f"patch evaluate patch.safetensors --model {LITE} {DATA} --placements 3")
    assert said.code == 0, said.err
    said = place.assay(f"patch train --model {LITE} {DATA} --epochs 2 --size 10 --target 3 --out other.safetensors")
    assert said.code == 2
    assert "gives scores" in said.err and "Traceback" not in said.err
    said = place.assay(f"transfer --surrogate {KERAS} --target {LITE} {DATA} --attack pgd:steps=5 --eps 0.1 --json")
    assert said.code == 0, said.err


def test_python_evaluates_them() -> None:
    (found,) = assay.evaluate(KERAS, digits(), attacks=["fgsm"], threat=assay.Linf(0.1)).results()
    (of_net,) = assay.evaluate(small_net(), digits(), attacks=["fgsm"], threat=assay.Linf(0.1)).results()
    assert found.robust_accuracy == of_net.robust_accuracy


def test_gradients_that_a_file_does_not_give_are_answered_in_words(place: Workplace) -> None:
    said = place.assay(f"run --model {LITE} {DATA} --attack pgd --eps 0.1 --out runs")
    assert said.code == 2
    assert "gives scores alone" in said.err and "square" in said.err
