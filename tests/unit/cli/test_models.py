from __future__ import annotations

import json

import pytest

from assay.models import Listed
from assay.models.kinds import KINDS
from tests.support.workplace import Workplace


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [Listed("zoo:mnist-cnn", "digits", 0.99)]
    listed += [Listed(f"torchvision:resnet{i}@V1", f"ImageNet, {i} MB", 0.7) for i in range(40)]
    listed += [Listed("timm:vit_tiny", "hub")]
    monkeypatch.setattr("assay.models.list_models", lambda: listed)


def test_a_few_of_each_family(place: Workplace) -> None:
    said = place.assay("models")
    assert said.code == 0
    assert "zoo:mnist-cnn" in said.out
    assert "timm:vit_tiny" in said.out
    # of many names those that everyone knows
    assert said.out.count("torchvision:resnet") == 1
    assert "torchvision:resnet18@V1" in said.out
    assert "my.py:factory" in said.out
    assert "3 of 42 names" in said.err


def test_all_and_search(place: Workplace) -> None:
    assert place.assay("models --all").out.count("torchvision:resnet") == 40
    said = place.assay("models ResNet3")
    assert said.out.count("torchvision:resnet") == 11
    assert "zoo" not in said.out
    assert said.err == ""


def test_json(place: Workplace) -> None:
    told = json.loads(place.assay("models mnist --json").out)
    assert told == [{"spec": "zoo:mnist-cnn", "summary": "digits", "published_accuracy": 0.99}]


def test_nothing_found(place: Workplace) -> None:
    said = place.assay("models resnt1")
    assert said.code == 2
    assert "No model's name contains 'resnt1'. Did you mean 'resnet1'?" in said.err


@pytest.mark.parametrize("name", ["onnx", "litert", "v2", "python"])
def test_the_kinds_are_listed(place: Workplace, name: str) -> None:
    told = json.loads(place.assay("models --kinds --json").out)
    assert told[name]["gives"] == KINDS[name].gives and told[name]["form"]
    said = " ".join(place.assay("models --kinds").out.split())
    assert KINDS[name].extra in said


def test_the_list_of_names_ends_with_files_and_endpoints(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.models.list_models", lambda: [Listed("zoo:mnist-cnn", "digits", 0.99)])
    said = place.assay("models").out
    assert "onnx:FILE" in said and "(extra onnx)" in said and "my.py:factory" in said
    # those are listed one by one
    assert "zoo:NAME" not in said
