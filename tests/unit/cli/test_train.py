from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path

import pytest
import torch

from assay.data import Data
from assay.models.weights_file import read_safetensors
from tests.support.workplace import Workplace

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
    fit = importlib.import_module("assay.training.fit")
    validate, calls = fit.validate, []

    def stop_in_the_second_epoch(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*given)

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


def test_training_under_noise_names_the_smoothed_classifier_and_goes_on(place: Workplace) -> None:
    command = TRAIN.replace("train standard", "train smoothed") + " --arch mnist-fast --sigma 0.5"
    said = place.assay(command, "--display", "plain")
    assert said.code == 0, said.err
    path = said.out.strip()
    assert Path(path) == Path("runs/train-smoothed-mnist-fast/mnist-fast.safetensors")
    assert "Training mnist-fast under noise of 0.5  100 %  epoch 2 of 2, loss" in said.err
    assert f"Smoothed: --model 'file:{path}|smoothed:sigma=0.5'\n" in said.err
    assert json.loads(read_safetensors(Path(path))[1]["settings"])["loss"] == {"sigma": 0.5, "clip": True}
    again = place.assay(command, "--display", "plain")
    assert (again.code, again.out) == (0, said.out) and "epoch 2 of 2" not in again.err
    other = place.assay(command.replace("0.5", "0.25"))
    assert other.code == 2 and "holds another training" in other.err
    none = place.assay(command.replace("0.5", "0"), "--out", "none")
    assert none.code == 2 and "sigma is 0.0; expected a number above 0" in none.err


def test_training_under_masks(place: Workplace) -> None:
    line = TRAIN.replace("train standard", "train masked") + " --arch mnist-fast --size 6 --fill 0.5"
    said = place.assay(line, "--display", "plain")
    assert said.code == 0, said.err
    assert Path(said.out.strip()) == Path("runs/train-masked-mnist-fast/mnist-fast.safetensors")
    assert "Training mnist-fast under masks  100 %  epoch 2 of 2, loss" in said.err
    assert (
        "Behind the defence: --model 'file:runs/train-masked-mnist-fast/mnist-fast.safetensors|double-mask" in said.err
    )
    loss = json.loads(read_safetensors(Path(said.out.strip()))[1]["settings"])["loss"]
    assert loss == {"size": 6, "count": 2, "fill": 0.5}
    other = place.assay(f"{line} --size 29 --out elsewhere")
    assert other.code == 2 and "size is 29, and the images have 28 x 28 pixels" in other.err


ADVERSARIAL = TRAIN.replace("train standard", "train adversarial") + " --arch mnist-fast --eps 0.1"


@pytest.mark.parametrize(
    ("flags", "passes"),
    [
        ("--method fgsm", 2),
        ("--method pgd --steps 2 --step-size 0.6", 3),
        ("--method trades --steps 2 --beta 2 --norm l2 --eps 1", 5),
        ("--method ensemble --surrogate zoo:mnist-cnn --surrogate zoo:mnist-cnn?dropout=on", 3),
    ],
)
def test_adversarial_training_by_every_method(place: Workplace, flags: str, passes: int) -> None:
    said = place.assay(ADVERSARIAL, *flags.split(), "--warmup", "0.5", "--display", "plain")
    assert said.code == 0, said.err
    path, method = said.out.strip(), flags.split()[1]
    assert Path(path) == Path(f"runs/train-{method}-mnist-fast/mnist-fast.safetensors")
    eps = "l2 1" if "l2" in flags else "linf 0.1"
    assert f"Training mnist-fast against {eps}  100 %  epoch 2 of 2, loss" in said.err
    assert "% of the first validation images right" in said.err
    assert f"Cost: {2 * 180 * passes:,} samples forward and backward" in said.err
    assert "of 200 right, with the weights as stored" in said.err
    assert f"% of the first 200 right under PGD with 50 steps at {eps}" in said.err
    facts = read_safetensors(Path(path))[1]
    assert shlex.split(facts["command"]) == f"assay {ADVERSARIAL} {flags} --warmup 0.5 --display plain".split()
    loss = json.loads(facts["settings"])["loss"]
    assert (loss["eps"], loss["warmup"]) == (1.0 if "l2" in flags else 0.1, 0.5)
    if method == "ensemble":
        assert [one["name"] for one in loss["surrogates"]] == ["zoo:mnist-cnn", "zoo:mnist-cnn?dropout=on"]
        assert len({one["digest"] for one in loss["surrogates"]}) == 2
        assert {tuple(one) for one in loss["surrogates"]} == {("name", "digest")}
    rows = [json.loads(line) for line in Path(path).with_name("log.jsonl").read_text().splitlines()]
    assert [0 <= row["robust_accuracy"] <= row["one_step_accuracy"] <= 1 for row in rows] == [True, True]


def test_adversarial_training_goes_on_after_ctrl_c(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"{ADVERSARIAL} --method pgd --steps 2 --epochs 3 --test="
    fit = importlib.import_module("assay.training.fit")
    validate, calls = fit.validate, []

    def stop_in_the_second_epoch(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fit, "validate", stop_in_the_second_epoch)
        assert place.assay(line).code == 130
    undisturbed = place.assay(f"{line} --out other").out.strip()
    resumed = place.assay(line, "--display", "plain")
    assert "epoch 1 of 3" not in resumed.err
    assert "epoch 2 of 3" in resumed.err
    one, other = (read_safetensors(Path(path))[0] for path in (undisturbed, resumed.out.strip()))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_collapse_is_said_and_the_weights_are_those_before(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.training.robustness_probe import Probe, Probed

    readings = [Probed(0.8, 0.9), Probed(0.1, 0.95), Probed(0.5, 0.5)]
    monkeypatch.setattr(Probe, "__call__", lambda *_, **__: readings.pop(0))
    said = place.assay(ADVERSARIAL.replace("--epochs 2", "--epochs 5"), "--method", "fgsm")
    assert said.code == 0
    assert "Catastrophic overfitting in epoch 2" in said.err
    assert "The weights are those of epoch 1" in said.err
    assert "PGD with 10 steps leaves 80.0 % of the first validation images right." in said.err
    assert "after 1 epochs." in said.err
    assert "50.00 % of the first 200 right under PGD with 50 steps" in said.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--method fgsm --steps 7", "steps is 7, and fgsm training has"),
        ("--method pgd --beta 6", "beta is 6.0, and pgd training has"),
        ("--method pgd --surrogate zoo:mnist-cnn", "and pgd training has"),
        ("--method ensemble", "name one or more"),
        ("--method ensemble --surrogate efficientnet", "efficientnet"),
        ("--method ensemble --surrogate rgb.py:factory", "cannot answer images of [1, 28, 28]"),
        ("--eps 8", "Did you mean 8/255?"),
        ("--eps 0", "eps is 0"),
        ("--eps normal", "is not a budget"),
        ("--eps=normalized~0.1", "adversarial training takes pixel units"),
        ("--norm l1", "l1"),
        ("--warmup 2", "warmup is 2"),
        ("--schedule cosine", "cosine"),
        ("--method fastest", "fastest"),
    ],
)
def test_bad_adversarial_settings(place: Workplace, flags: str, words: str) -> None:
    rgb = "nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(2704, 10))"
    Path("rgb.py").write_text(f"from torch import nn\n\ndef factory():\n    return {rgb}\n")
    said = place.assay(ADVERSARIAL, *(flag.replace("~", " ") for flag in flags.split()))
    assert said.code == 2
    assert words in said.err
    assert not Path("runs").exists()


CERTIFIED = TRAIN.replace("train standard", "train certified") + " --arch mnist-fast"


def test_certified_training_says_what_it_proves(place: Workplace) -> None:
    said = place.assay(CERTIFIED, "--eps", "0.05", "--method", "crown-ibp", "--ramp", "0.6", "--display", "plain")
    assert said.code == 0, said.err
    path = Path(said.out.strip())
    assert path == Path("runs/train-crown-ibp-mnist-fast/mnist-fast.safetensors")
    assert "Training mnist-fast to be certified at linf 0.05  100 %  epoch 2 of 2, loss" in said.err
    assert "of the first validation images at linf 0.05" in said.err
    assert "Cost: 1,080 samples forward and backward" in said.err
    loss = json.loads(read_safetensors(path)[1]["settings"])["loss"]
    assert loss == {"eps": pytest.approx(0.065), "method": "crown-ibp", "warmup": 0.05, "ramp": 0.6, "kappa": 0.5}
    rows = [json.loads(line) for line in path.with_name("log.jsonl").read_text().splitlines()]
    proved = [row["certified_accuracy"] for row in rows]
    assert f"Intervals certify {100 * proved[-1]:.1f} %" in said.err
    assert all(0 <= share <= row["validation_accuracy"] for share, row in zip(proved, rows, strict=True))
    assert "of 200 certified by intervals at linf 0.05" in said.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--eps 8", "Did you mean 8/255?"),
        ("--eps=normalized~0.1", "certified training takes pixel units"),
        ("--train-eps 0", "eps is 0"),
        ("--kappa 2", "kappa is 2"),
        ("--warmup 0.8", "warmup is 0.8 and ramp 0.4"),
        ("--method pgd", "pgd"),
        ("--arch mnist-cnn", "(MaxPool2d)"),
    ],
)
def test_bad_settings_of_certified_training(place: Workplace, flags: str, words: str) -> None:
    said = place.assay(CERTIFIED, *(flag.replace("~", " ") for flag in flags.split()))
    assert said.code == 2
    assert words in said.err
