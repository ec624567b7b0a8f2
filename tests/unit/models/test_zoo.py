from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch

from assay.data.mnist import mnist
from assay.models import load_model
from assay.models.weights_file import read_safetensors
from assay.models.zoo import ZOO

FILE = Path(str(files("assay.models"))) / "weights" / "mnist-cnn.safetensors"


def test_the_stated_accuracy_is_that_of_the_shipped_weights() -> None:
    classifier = load_model("zoo:mnist-cnn")
    images, labels = mnist("test")
    classifier.module.to(memory_format=torch.channels_last)
    with torch.no_grad():
        right = sum(
            int((classifier.module(x.float() / 255).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    assert classifier.published_accuracy == ZOO["mnist-cnn"].accuracy
    assert abs(right / 10_000 - ZOO["mnist-cnn"].accuracy) <= 0.0001  # one image may lie on another machine's rounding


def test_the_weights_are_small_and_say_where_they_come_from() -> None:
    state, facts = read_safetensors(FILE)
    assert FILE.stat().st_size < 2_500_000
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert facts.keys() >= {"arch", "command", "seed", "settings", "data", "versions"}
    assert facts["arch"] == "mnist-cnn"
    assert facts["command"].startswith("assay train standard")


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
