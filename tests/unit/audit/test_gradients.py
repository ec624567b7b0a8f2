"""Gaps of known size: what float32 hides and float64 shows."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.audit import GradientProbe, Histogram, probe_gradients
from assay.core.errors import BadInput
from assay.data.dataset import Data, PictureError
from assay.models import load_model


class Gaps(nn.Module):
    """Two classes; an image of brightness b has the logits plus and minus b * scale / 2."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        b = x.flatten(1).mean(1) * self.scale
        return torch.stack([b / 2, -b / 2], 1)


class OnlySingle(Gaps):
    """Refuses float64."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            raise RuntimeError("expected scalar type Float but found Double")
        return super().forward(x)


def data(brightness: list[float], labels: list[int], broken: int | None = None) -> Data:
    def read(at: int) -> Tensor:
        if at == broken:
            raise PictureError("truncated")
        return torch.full((1, 2, 2), brightness[at])

    ids = tuple(str(i) for i in range(len(labels)))
    return Data("gaps", "fingerprint", ids, tuple(labels), None, (1, 2, 2), read)


def test_a_gap_of_200_hides_the_gradient_and_one_of_20_does_not() -> None:
    images = data([0.1, 0.2, 1.0, 1.0], [0, 0, 0, 1])
    probe = probe_gradients(load_model(Gaps(200.0)), images, chunk=3)
    assert probe.n == 4
    assert probe.accuracy == 0.75
    # the third has gap 200 and the label on top; the fourth has it below, where cross-entropy cannot saturate
    assert probe.zero == 0.25
    assert probe.zero_in_double == 0.0
    assert probe.gaps[0.5] == pytest.approx(120)
    assert list(probe.saturated.values()) == [1.0, 0.5, 0.5]
    assert [round(bound, 1) for bound in probe.saturated] == [16.6, 87.3, 104.0]


class Broken(Gaps):
    """Returns NaN for white images, and for black ones a gradient of NaN behind finite logits."""

    def forward(self, x: Tensor) -> Tensor:
        b = x.flatten(1).mean(1) * self.scale
        b = torch.where(b >= self.scale, torch.nan, b)
        # the root has an infinite slope at 0, and 0 times infinity is NaN
        return torch.stack([b / 2 + 0 * b.sqrt(), -b / 2], 1)


def test_gradients_that_are_no_numbers_are_not_called_vanished() -> None:
    images = data([0.0, 0.2, 1.0, 0.9, 0.5], [0] * 5)
    probe = probe_gradients(load_model(Broken(200.0)), images)
    assert probe.not_finite == pytest.approx(2 / 5)
    # the gap of 180 hides its gradient; 40 and 100 do not
    assert probe.zero == pytest.approx(1 / 5)
    assert probe.accuracy == pytest.approx(4 / 5)
    assert probe.gaps[0.5] == pytest.approx((40 + 100) / 2)
    assert sum(probe.histogram.counts) == 4
    assert probe_gradients(load_model(Gaps(5.0)), images).not_finite == 0


def test_where_nothing_is_a_number() -> None:
    probe = probe_gradients(load_model(Broken(200.0)), data([1.0, 1.0], [0, 0]))
    assert (probe.not_finite, probe.zero, probe.histogram.counts) == (1.0, 0.0, (0,))
    assert all(math.isnan(gap) for gap in probe.gaps.values())
    back = GradientProbe.from_dict(json.loads(json.dumps(probe.to_dict(), allow_nan=False)))
    assert repr(back) == repr(probe)


def test_the_histogram_of_the_gaps() -> None:
    images = data([0.05, 0.1, 0.2, 1.0], [0] * 4)
    probe = probe_gradients(load_model(Gaps(200.0)), images, bin_width=50.0)
    assert probe.histogram == Histogram((0.0, 50.0, 100.0, 150.0, 200.0), (3, 0, 0, 1))
    with pytest.raises(BadInput, match=r"bin width is -1.*such as 5"):
        probe_gradients(load_model(Gaps(200.0)), images, bin_width=-1.0)


@pytest.mark.parametrize("module", [Gaps(200.0), OnlySingle(5.0)])
def test_a_probe_comes_back_from_json(module: nn.Module) -> None:
    probe = probe_gradients(load_model(module), data([0.1, 0.37, 1.0], [0, 1, 0]))
    assert GradientProbe.from_dict(json.loads(json.dumps(probe.to_dict(), allow_nan=False))) == probe


@pytest.mark.parametrize("change", [{"gaps": 3}, {"histogram": {}}, {"what": 1}, {"gaps": {"half": 1.0}}])
def test_what_is_no_probe_is_refused(change: dict[str, Any]) -> None:
    plain = probe_gradients(load_model(Gaps(5.0)), data([0.5], [0])).to_dict()
    with pytest.raises(BadInput, match=r"no stored probe of gradients .* expected n, accuracy, zero"):
        GradientProbe.from_dict({**plain, **change})
    with pytest.raises(BadInput, match="no stored probe"):
        GradientProbe.from_dict({})


def test_a_plain_model_hides_nothing() -> None:
    probe = probe_gradients(load_model(Gaps(5.0)), data([0.5, 1.0], [0, 0]))
    assert (probe.zero, probe.zero_in_double, set(probe.saturated.values())) == (0.0, 0.0, {0.0})


def test_a_model_that_cannot_compute_in_float64() -> None:
    probe = probe_gradients(load_model(OnlySingle(200.0)), data([1.0], [0]))
    assert (probe.zero, probe.zero_in_double) == (1.0, None)


def test_the_model_is_left_as_it_was() -> None:
    module = nn.Sequential(Gaps(5.0), nn.Dropout(0.5)).train()
    probe_gradients(load_model(module), data([0.5], [0]))
    assert module.training
    assert module[0].scale.dtype == torch.float32
    assert module[0].scale.requires_grad


def test_unreadable_images_are_left_out_and_none_is_an_error() -> None:
    assert probe_gradients(load_model(Gaps(5.0)), data([0.5, 0.5], [0, 0], broken=1)).n == 1
    with pytest.raises(BadInput, match="gaps has no readable images"):
        probe_gradients(load_model(Gaps(5.0)), data([0.5], [0], broken=0))
