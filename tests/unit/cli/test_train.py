from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from assay.data import Data
from tests.unit.cli.workplace import Workplace

TRAIN = "train standard --data digits --validation 20 --test digits --epochs 2 --batch 50 --learning-rate 0.01"


@pytest.fixture(autouse=True)
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred noisy images in place of MNIST: a bright row tells the class."""
    x = 0.2 * torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = tuple(i % 10 for i in range(200))
    for i, label in enumerate(labels):
        x[i, 0, 2 * label + 3] = 1.0
    ids = tuple(f"digits/{i}" for i in range(200))

    def load(source: str, **_: object) -> Data:
        return Data(source, "fingerprint", ids, labels, None, (1, 28, 28), lambda at: x[at])

    monkeypatch.setattr("assay.data.load_data", load)


def test_training_ends_with_weights_that_can_be_used(place: Workplace) -> None:
    said = place.assay(TRAIN, "--display", "plain")
    assert said.code == 0, said.err
    path = said.out.strip()
    assert Path(path) == Path("runs/train-mnist-cnn/mnist-cnn.safetensors")
    assert "Training mnist-cnn  100 %  epoch 2 of 2, loss" in said.err
    assert "digits: 100.00 % of 200 right, with the weights as stored." in said.err
    assert f"Use it with: --model file:{path}" in said.err


def test_training_again_does_nothing_and_more_epochs_are_another_training(place: Workplace) -> None:
    first = place.assay(TRAIN, "--display", "plain")
    again = place.assay(TRAIN, "--display", "plain")
    assert (again.code, again.out) == (0, first.out)
    assert "epoch 2 of 2" not in again.err
    other = place.assay(TRAIN.replace("--epochs 2", "--epochs 3"))
    assert other.code == 2
    assert "holds another training" in other.err


def test_ctrl_c_keeps_the_finished_epochs(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = importlib.import_module("assay.defenses.fit")
    validate, calls = fit.validate, []

    def stop_in_the_second_epoch(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fit, "validate", stop_in_the_second_epoch)
        said = place.assay(TRAIN, "--test", "")
    assert said.code == 130
    assert f"the same command continues:\n  assay {TRAIN} --test ''" in said.err
    undisturbed = place.assay(TRAIN, "--out", "other").out.strip()
    resumed = place.assay(TRAIN)
    assert resumed.code == 0
    assert "epoch 1 of 2" not in resumed.err
    assert Path(resumed.out.strip()).read_bytes()[-5000:] == Path(undisturbed).read_bytes()[-5000:]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--arch mnist", "Did you mean 'mnist-cnn'?"),
        ("--epochs 0", "epochs is 0"),
        ("--validation 200", "validation is 200 of 200"),
        ("--learning-rate -1", "learning_rate is -1"),
        ("--classes 7", "classes is 7, and 'mnist-cnn' has the number of outputs that it is built with"),
    ],
)
def test_bad_settings(place: Workplace, flags: str, words: str) -> None:
    said = place.assay(f"{TRAIN} {flags}")
    assert said.code == 2
    assert words in said.err


DISTILL = TRAIN.replace("train standard", "train distill")


def test_distilling_ends_with_a_teacher_and_a_student(place: Workplace) -> None:
    said = place.assay(DISTILL, "--temperature", "20", "--display", "plain")
    assert said.code == 0, said.err
    assert [Path(line) for line in said.out.split()] == [
        Path("runs/distill-mnist-cnn") / stage / "mnist-cnn.safetensors" for stage in ("teacher", "student")
    ]
    assert "Distilling mnist-cnn  100 %  student epoch 2 of 2, loss" in said.err
    assert "The student:" in said.err
    assert said.err.count("Cost: 360 samples forward and backward, ") == 2


def test_distilling_as_published(place: Workplace) -> None:
    said = place.assay(DISTILL, "--as-published")
    assert said.code == 0, said.err
    assert Path(said.out.strip()) == Path("runs/distill-as-published-mnist-cnn/student/mnist-cnn-half.safetensors")
    other = place.assay(f"{DISTILL} --as-published --arch torchvision:resnet18 --out elsewhere")
    assert other.code == 2
    assert "'torchvision:resnet18' has none; expected mnist-cnn" in other.err
