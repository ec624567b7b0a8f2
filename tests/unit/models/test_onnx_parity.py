"""A conversion gives the gradients of a file only where the file itself says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.models.deployed import Deployed
from assay.models.onnx import twin as converters
from assay.models.onnx.parity import Precision, compared, probes
from assay.models.onnx.twin import Converter
from tests.support.onnx_files import Build

BUILD = Build(side=16, classes=5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BUILD.save(tmp_path_factory.mktemp("onnx") / "small.onnx")


class Changed(nn.Module):
    """The right network, and something that a converter may do wrong."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = BUILD.network()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.network, x)


def half_the_weights(network: nn.Module, x: Tensor) -> Tensor:
    return network(x) / 2


def other_order(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).flip(1)


def no_gradient(network: nn.Module, x: Tensor) -> Tensor:
    return network(x.detach())


def gradient_of_one_half(network: nn.Module, x: Tensor) -> Tensor:
    # the left of the image goes through an operation without a backward
    return network(torch.cat([x[..., :8].detach(), x[..., 8:]], -1))


def gradient_of_one_channel(network: nn.Module, x: Tensor) -> Tensor:
    return network(torch.cat([x[:, :1], x[:, 1:].detach()], 1))


def gradient_of_a_branch(network: nn.Module, x: Tensor) -> Tensor:
    # the sum is right, and only a part of it is differentiated
    return 0.6 * network(x) + 0.4 * network(x).detach()


def straight_through(network: nn.Module, x: Tensor) -> Tensor:
    # as a converter that leaves an activation out of the backward
    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, y: Tensor) -> Tensor:
            return y.clamp(0, 6)

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]  # torch's stub takes any number
            return grad

    layers = list(network.children())  # type: ignore[union-attr]  # it is no text here
    y = layers[2](torch.relu(layers[0](x)))
    return nn.Sequential(*layers[4:])(Through.apply(y))


WRONG = [
    half_the_weights,
    other_order,
    no_gradient,
    gradient_of_one_half,
    gradient_of_one_channel,
    gradient_of_a_branch,
    straight_through,
]


def test_the_right_network_passes(path: Path) -> None:
    answer = assay.load_model(f"onnx:{path}?converter=none").module.answer
    found = compared(answer, BUILD.network(), probes((3, 16, 16)), Precision())
    assert found.passed
    assert found.logits < 1e-6
    assert max(found.slope, found.across) < 0.05
    assert "central differences of the file within" in found.written


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_conversion_is_refused(path: Path, wrong: Callable[[nn.Module, Tensor], Tensor]) -> None:
    answer = assay.load_model(f"onnx:{path}?converter=none").module.answer
    assert not compared(answer, Changed(wrong), probes((3, 16, 16)), Precision()).passed


@pytest.mark.parametrize("wrong", [half_the_weights, gradient_of_one_half])
def test_the_next_converter_is_taken_and_named(
    path: Path, wrong: Callable[[nn.Module, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = Build(side=16, classes=5, seed=7).save(tmp_path / "own.onnx")
    table = dict(converters.CONVERTERS)
    monkeypatch.setattr(converters, "CONVERTERS", table)
    monkeypatch.setattr("assay.models.onnx.conversion.CONVERTERS", table)
    table["onnx2pytorch"] = Converter(lambda proto: Changed(wrong), ("onnx2pytorch",))
    model = assay.load_model(f"onnx:{own}")
    assert model.access is Access.GRADIENT
    assert any("onnx2torch 1" in note for note in model.notes)
    with pytest.raises(BadInput, match=r"could not be converted by onnx2pytorch: it is another network \(logits"):
        assay.load_model(f"onnx:{own}?converter=onnx2pytorch")


def test_where_none_is_right_scores_are_left_and_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = Build(side=16, classes=5, seed=8).save(tmp_path / "own.onnx")
    only = {"onnx2pytorch": Converter(lambda proto: Changed(no_gradient), ("onnx2pytorch",))}
    monkeypatch.setattr(converters, "CONVERTERS", only)
    monkeypatch.setattr("assay.models.onnx.conversion.CONVERTERS", only)
    model = assay.load_model(f"onnx:{own}")
    assert model.access is Access.SCORES
    (note,) = (one for one in model.notes if "no gradients" in one)
    assert "onnx2pytorch: it is another network" in note
    assert "twin=onnx:float.onnx" in note
    assert "square" in note
    assert "assay transfer" in note


def test_half_precision_is_compared_more_loosely_and_still_refused(tmp_path: Path) -> None:
    own = Build(side=16, classes=5, dtype="float16").save(tmp_path / "half.onnx")
    assert assay.load_model(f"onnx:{own}").access is Access.GRADIENT
    answer = assay.load_model(f"onnx:{own}?converter=none").module.answer
    from assay.models.onnx.conversion import precision_of

    right = compared(answer, BUILD.network(), probes((3, 16, 16)), precision_of(answer))
    assert right.passed
    for wrong in (half_the_weights, other_order, no_gradient, gradient_of_one_half):
        assert not compared(answer, Changed(wrong), probes((3, 16, 16)), precision_of(answer)).passed


@pytest.mark.parametrize("wrong", [half_the_weights, no_gradient, gradient_of_one_half, gradient_of_a_branch])
def test_whole_grey_levels_are_compared_by_whole_steps(
    tmp_path: Path, wrong: Callable[[nn.Module, Tensor], Tensor]
) -> None:
    own = Build(side=16, classes=5, dtype="uint8").save(tmp_path / "levels.onnx")
    answer = assay.load_model(f"onnx:{own}?converter=none").module.answer
    images = (255 * probes((3, 16, 16))).round() / 255
    assert compared(answer, BUILD.network(), images, Precision(levels=True)).passed
    assert not compared(answer, Changed(wrong), images, Precision(levels=True)).passed


def test_a_file_that_does_not_move_is_told_so() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 2.0])

    found = compared(lambda x: Constant()(torch.from_numpy(x)).numpy(), Constant(), probes((1, 8, 8)), Precision())
    assert found.passed
    assert math.isnan(found.slope)
    assert "hardly moves" in found.written
    moving = Deployed(lambda x: x.reshape(len(x), -1)[:, :2]).answer
    assert not compared(moving, Constant(), probes((1, 8, 8)), Precision()).passed
