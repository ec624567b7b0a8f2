from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from assay import PGD, Linf, attack
from assay.certification.bounds.methods import IBP
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.problem import Problem
from assay.data.mnist import mnist
from assay.models import load_model
from assay.models.loaders.zoo import ZOO
from assay.models.weights_file import read_safetensors

FILE = Path(str(files("assay.models"))) / "weights" / "mnist-cnn.safetensors"
LOGS = Path(__file__).parents[3] / "src" / "assay" / "paper" / "training"
every_network = pytest.mark.parametrize("name", ZOO)


@pytest.mark.parametrize(
    "name", [name if name == "mnist-cnn" else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]
)
def test_the_stated_accuracy_is_that_of_the_shipped_weights(name: str) -> None:
    classifier = load_model(f"zoo:{name}")
    images, labels = mnist("test")
    classifier.module.to(memory_format=torch.channels_last)
    with torch.no_grad():
        right = sum(
            int((classifier.module(x.float() / 255).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    assert classifier.published_accuracy == ZOO[name].accuracy
    assert abs(right / 10_000 - ZOO[name].accuracy) <= 0.0001  # one image may lie on another machine's rounding


@every_network
def test_the_weights_are_small_and_say_where_they_come_from(name: str) -> None:
    file = FILE.with_name(ZOO[name].file)
    state, facts = read_safetensors(file)
    assert file.stat().st_size < 2_500_000
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert facts.keys() >= {"arch", "command", "seed", "settings", "data", "versions"}
    assert facts["arch"] == ZOO[name].architecture
    assert facts["command"].startswith("assay train ")
    epochs = [json.loads(line) for line in (LOGS / f"zoo-{name}.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, json.loads(facts["settings"])["epochs"] + 1))
    # rounding the weights to float16 and another set of images move an accuracy a little
    assert epochs[-1]["validation_accuracy"] == pytest.approx(ZOO[name].accuracy, abs=0.01)


def test_the_file_alone_gives_the_same_network() -> None:
    ours, theirs = load_model("zoo:mnist-cnn"), load_model(f"file:{FILE}")
    assert theirs.digest == ours.digest
    assert (theirs.input_shape, theirs.mean, theirs.std) == (ours.input_shape, ours.mean, ours.std)
    assert theirs.preprocess == ours.preprocess


def test_it_is_used_in_float32_and_takes_images_as_they_are() -> None:
    classifier = load_model("zoo:mnist-cnn")
    assert {p.dtype for p in classifier.module.parameters()} == {torch.float32}
    assert (classifier.mean, classifier.std) == ((0.0,), (1.0,))
    assert classifier.classes == tuple("0123456789")
    assert not classifier.module.training


def test_the_adversarially_trained_one_withstands_what_breaks_the_plain_one() -> None:
    images, labels = mnist("test")
    x, y = images[:50].float() / 255, labels[:50]
    left = {
        name: attack(PGD(20, objective=margin), load_model(f"zoo:{name}"), x, y, Linf(0.3)).robust_accuracy
        for name in ("mnist-cnn", "mnist-pgd")
    }
    assert left["mnist-cnn"] < 0.1
    assert left["mnist-pgd"] > 0.85


def test_the_certified_one_is_proved_to_be_right() -> None:
    images, labels = mnist("test")
    x, y = images[:1000].float() / 255, labels[:1000]
    model = load_model("zoo:mnist-certified")
    proved = IBP().prove(model, Problem(model.oracle(), x, Untargeted(y), Linf(0.1)), [0.1], Draws(torch.arange(1000)))
    assert float((proved.prediction == y).double().mean()) >= 0.97
    assert float(proved.certified.double().mean()) >= 0.925
