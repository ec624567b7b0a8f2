from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.data import Data, PictureError
from assay.models import Classifier
from assay.preflight.checks import CHECKS, UNUSABLE, examine
from assay.preflight.findings import Finding, Level

N = 30


class Around(nn.Module):
    """Logits of three classes, right where `change` leaves them alone: the brightest channel is the class."""

    def __init__(self, change: Callable[[Tensor], object] = lambda logits: logits) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.change = change

    def forward(self, x: Tensor) -> object:
        return self.change(self.scale * x.mean((2, 3)))


def images() -> Tensor:
    x = 0.2 + 0.1 * torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for i in range(N):
        x[i, i % 3] += 0.3
    return x


def data(x: Tensor, labels: list[int] | None = None, **facts: object) -> Data:
    told = Data(
        source="toy", fingerprint="", ids=tuple(f"toy/{i}" for i in range(len(x))),
        labels=tuple(labels if labels is not None else [i % 3 for i in range(len(x))]),
        classes=None, input_shape=None, read=lambda at: x[at],
    )  # fmt: skip
    return dataclasses.replace(told, **facts)  # type: ignore[arg-type]  # by name


def found(model: nn.Module | Classifier, given: Data | None = None) -> dict[str, Finding]:
    known = Classifier(model.eval(), spec="toy", mean=(0.0,), std=(1.0,)) if isinstance(model, nn.Module) else model
    findings = examine(known, given or data(images())).findings
    levels = [list(Level).index(one.level) for one in findings]
    assert levels == sorted(levels), "the worst come first"
    return {one.check: one for one in reversed(findings)}


def test_a_healthy_model_passes_every_check() -> None:
    told = found(Around())
    assert {one.level for one in told.values()} == {Level.GOOD}
    asked_only = {"access", "digits", "8-bit images", "twin", "latency"}
    assert set(told) == set(CHECKS) - {"model", "labels", "train mode"} - asked_only
    assert told["clean accuracy"].text == "100.0 % on 30 images"


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), Around(lambda logits: logits.flip(1)))
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found(Classifier(model, spec="toy"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.training, model[0].training) == (True, False)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_probabilities() -> None:
    told = found(Around(lambda logits: logits.softmax(1)))["outputs"]
    assert told.level is Level.ERROR
    assert "returns probabilities (each row sums to 1)" in told.text
    assert "--outputs probabilities" in told.text


def test_percentages() -> None:
    shares = Around(lambda logits: 100 * logits.softmax(1))
    told = found(shares)["outputs"]
    assert told.level is Level.ERROR
    assert "returns percentages (each row sums to 100)" in told.text
    assert "--outputs probabilities" in told.text
    # rounded, as an API answers
    assert found(Around(lambda logits: (100 * logits.softmax(1)).round(decimals=1)))["outputs"].level is Level.ERROR
    said = found(
        Classifier(Around(lambda logits: logits.log_softmax(1) + math.log(100)).eval(), outputs="probabilities")
    )
    assert said["outputs"].level is Level.GOOD and "percentages" in said["outputs"].text


def test_probabilities_as_said_and_not() -> None:
    right = Classifier(Around(lambda logits: logits.log_softmax(1)).eval(), outputs="probabilities")
    assert found(right)["outputs"].level is Level.GOOD
    wrong = Classifier(Around(lambda logits: logits.abs().log()).eval(), outputs="probabilities")
    assert found(wrong)["outputs"].level is Level.ERROR
    assert "rows sum to" in found(wrong)["outputs"].text


def test_nan() -> None:
    told = found(Around(lambda logits: logits / 0 * 0))["outputs"]
    assert told.level is Level.ERROR
    assert "NaN or infinite values for 30 of 30 images" in told.text


class NeedsTrainMode(nn.Module):
    """Right in train mode only."""

    def __init__(self, otherwise: float) -> None:
        super().__init__()
        self.inner, self.otherwise = Around(), otherwise

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        assert isinstance(logits, Tensor)
        return logits if self.training else self.otherwise * logits


def test_a_model_that_needs_train_mode() -> None:
    told = found(NeedsTrainMode(-1.0))
    assert told["train mode"].level is Level.WARNING
    assert "right on 30 of 30 images in train mode and on 0 in eval mode" in told["train mode"].text
    assert "It needs train mode" in found(NeedsTrainMode(float("nan")))["outputs"].text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda logits: (logits, logits), "returned a tuple, expected one tensor of logits"),
        (lambda logits: logits[:, :, None], r"returned [30, 3, 1]"),
        (lambda logits: logits.argmax(1), "expected floating-point logits"),
        (lambda logits: logits[:, :2], "Sample 'toy/2' has label 2, but the model has 2 classes, 0 to 1."),
        (lambda logits: logits @ torch.ones(7, 7), "The model failed on images [N, 3, 4, 4] in [0, 1]: RuntimeError"),
    ],
)
def test_what_is_no_classifier_for_these_images(change: Callable[[Tensor], object], words: str) -> None:
    told = found(Around(change))
    assert set(told) == {UNUSABLE}
    assert told[UNUSABLE].level is Level.ERROR
    assert words.replace("30", "1") in told[UNUSABLE].text.replace("30", "1")


def test_wrong_shapes() -> None:
    wanted = Classifier(Around().eval(), spec="toy", input_shape=(1, 28, 28))
    assert "The images are [3, 4, 4], the model takes [1, 28, 28]" in found(wanted)[UNUSABLE].text
    mixed = data(images(), read=lambda at: images()[at][:, : 3 + at % 2])
    assert "The images have different shapes ([3, 3, 4], [3, 4, 4])" in found(Around(), mixed)[UNUSABLE].text


def test_channels_that_are_said_already() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    for said in ("", "my.py:grey?channels=3", "my.py:grey?channels=1"):
        told = found(Classifier(net, spec=said))[UNUSABLE].text
        assert "Its first convolution takes 1 channel and the images have 3." in told
        assert ("channels=1 is said already" in told) is said.endswith("=1")
        assert ("Say how many: " in told) is not said.endswith("=1")


def test_images_outside_the_range() -> None:
    assert "expected [0, 1]. Divide it by 255." in found(Around(), data(255 * images()))[UNUSABLE].text
    assert "NaN" in found(Around(), data(images() * float("nan")))[UNUSABLE].text
    told = found(Around(), data(images() / 255))["images"]
    assert told.level is Level.WARNING
    assert "divided by 255 twice?" in told.text
    told = found(Around(), data(images() * (16 / 255)))["images"]
    assert told.level is Level.WARNING
    assert "In bytes that is 10 of 255" in told.text
    assert "?scale=N" in told.text
    deep = "The brightest value is 1023: they seem to hold 10 bits. Say folder:x?white=1023."
    assert found(Around(), data(images() / 16, about_pictures=(deep,)))["images"].text == deep
    assert found(Around(), data(images() / 5))["images"].level is Level.GOOD


def test_unreadable_images() -> None:
    def read(at: int) -> Tensor:
        if at == 3:
            raise PictureError("truncated")
        return images()[at]

    told = found(Around(), data(images(), read=read))
    assert told["images"].level is Level.WARNING
    assert "toy/3 could not be read and will be an error record: truncated" in told["images"].text
    assert told["clean accuracy"].text == "100.0 % on 29 images"

    def never(at: int) -> Tensor:
        raise PictureError("truncated")

    assert "None of the 30 images looked at could be read" in found(Around(), data(images(), read=never))[UNUSABLE].text


def test_labels_that_do_not_line_up() -> None:
    turned = data(images(), [(i + 1) % 3 for i in range(N)])
    told = found(Around(), turned)["clean accuracy"]
    assert told.level is Level.WARNING
    assert told.text.startswith("Clean accuracy is 0.0 % on 30 images, no better than guessing among 3 classes.")
    assert "images of label 0 are taken for class 2, images of label 1 are taken for class 0" in told.text
    published = Classifier(Around().eval(), spec="toy", published_accuracy=0.774)
    told = found(published, turned)["clean accuracy"]
    assert told.level is Level.ERROR
    assert "but these weights are published at 77.4 %. Labels and classes do not line up" in told.text


def test_an_accuracy_below_the_published_one() -> None:
    half = data(images(), [i % 3 if i < 18 else (i + 1 + i % 2) % 3 for i in range(N)])
    published = Classifier(Around().eval(), spec="toy", published_accuracy=0.95)
    told = found(published, half)["clean accuracy"]
    assert told.level is Level.WARNING
    assert "60.0 % on 30 images, but these weights are published at 95.0 %" in told.text
    assert "may not be prepared as these weights want" in told.text


def test_notes_and_single_labels() -> None:
    told = found(Around(), data(images(), notes=("Folders were numbered in alphabetical order.",)))["labels"]
    assert (told.level, told.text) == (Level.WARNING, "Folders were numbered in alphabetical order.")
    assert "All 30 samples have the label 0" in found(Around(), data(images(), [0] * N))["labels"].text


def test_a_model_that_is_random_in_eval_mode() -> None:
    told = found(Around(lambda logits: logits + torch.rand_like(logits)))["eval mode"]
    assert told.level is Level.WARNING
    assert "different answers in eval mode" in told.text


def test_a_model_that_uses_batch_statistics() -> None:
    told = found(Around(lambda logits: logits - logits.mean(0)))["eval mode"]
    assert told.level is Level.WARNING
    assert "An image alone gets another answer than in a batch" in told.text


def test_gradients_that_are_zero() -> None:
    every = found(Around(lambda logits: logits + logits.round() - logits))["gradients"]
    assert every.level is Level.WARNING
    assert "exactly zero for 8 of 8 images, expected none. The softmax is saturated, or the model rounds" in every.text
    some = found(Around(lambda logits: logits * torch.arange(len(logits))[:, None].clamp(max=1)))["gradients"]
    assert "exactly zero for 1 of 8 images" in some.text


def test_no_gradients_at_all() -> None:
    told = found(Around(lambda logits: logits.detach()))["gradients"]
    assert told.level is Level.WARNING
    assert "has no gradient: its forward detaches it" in told.text


def test_an_unknown_normalisation_is_a_note() -> None:
    told = found(Classifier(Around().eval(), spec="toy"))["normalisation"]
    assert told.level is Level.NOTE
    assert "mean=0.485,0.456,0.406" in told.text


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("toy", "say it: my.py:factory?mean=0.485,0.456,0.406&std=0.229,0.224,0.225."),
        ("onnx:a.onnx", "say it: onnx:a.onnx?mean=0.485,0.456,0.406&std=0.229,0.224,0.225."),
        (
            "onnx:a.onnx?size=4&twin=my.py:f|jpeg",
            "onnx:a.onnx?mean=0.485,0.456,0.406&std=0.229,0.224,0.225&size=4&twin",
        ),
        ("remote:endpoint.yaml", "left to the endpoint"),
    ],
)
def test_an_unknown_normalisation_is_said_in_the_name_that_was_given(spec: str, said: str) -> None:
    told = found(Classifier(Around().eval(), spec=spec))["normalisation"]
    assert told.level is Level.NOTE and said in told.text


def test_one_answer_to_nearly_all_images_is_no_matter_of_labels_first() -> None:
    always = Around(lambda logits: logits * 1e-3 + torch.tensor([0.0, 1.0, 0.0]))
    unknown = found(Classifier(always.eval(), spec="onnx:a.onnx"))["clean accuracy"].text
    assert "taken for one class, and the model's normalisation is unknown" in unknown and "onnx:a.onnx?mean=" in unknown
    assert unknown.index("normalisation") < unknown.index("Labels and classes do not line up")
    assert "normalisation is unknown" not in found(always)["clean accuracy"].text
