"""The strange defences: they keep the answers, load by name, say what leads past them, stand in fixed parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.audit.broken.strange import PARTS, STRANGE, TRAINED, part
from assay.audit.broken.strange_answers import ConstantGap, GapSwitch, HashSwitch, Humps, Mean, TakeOver, gap_of
from assay.audit.broken.strange_networks import HalfTurnedSlope, Quantised, Stairs
from assay.data import load_data
from assay.models import load_model


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_data("mnist/test", limit=12)
    return torch.stack([one.image for one in data.load(range(12))]), torch.tensor(data.labels)


@pytest.fixture(scope="module")
def inner() -> nn.Module:
    return load_model(TRAINED).module


def slope(module: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(gap_of(module(x)).sum(), x)[0]


def test_the_parts_are_fixed_by_the_place_and_honest_ones_are_in_both_halves() -> None:
    assert [part(name) for name in list(STRANGE)[:3]] == ["calibration", "held out", "calibration"]
    assert [part(name) for name in list(STRANGE)[27:29]] == ["held out", "fresh"]
    for side in PARTS[:2]:
        own = [one for name, one in STRANGE.items() if part(name) == side]
        assert sum(not one.honest for one in own) == 12 and sum(one.honest for one in own) == 2
        assert {one.norm for one in own} == {"linf", "l2", "l1"} and len({one.around for one in own}) == 2


# the others cost a second each
QUICK = [name for name, one in STRANGE.items() if one.around == TRAINED and name not in ("take_over", "codebook")]


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in STRANGE]
)
def test_it_keeps_the_answers_and_says_what_to_climb(name: str, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    module = STRANGE[name].make(load_model(STRANGE[name].around).module).eval()
    before = x.clone()
    with torch.no_grad():
        out = module(x)
    assert out.shape == (12, 10) and torch.equal(x, before)
    assert (out.argmax(1) == y).float().mean() >= 0.75
    climbed = module.climbed()  # type: ignore[operator]  # a method of every module of the table
    for one in climbed:
        steep = slope(one, x[:4])
        assert steep.flatten(1).any(1).all() and bool(steep.isfinite().all())


def test_one_loads_by_name_with_a_digest_of_its_own() -> None:
    model, plain = assay.load_model("assay.audit.zoo.strange:wave"), load_model(TRAINED)
    assert model.spec == "assay.audit.zoo.strange:wave" and model.digest != plain.digest
    assert model.digest != assay.load_model("assay.audit.zoo.strange:stairs").digest


def test_gaps_are_what_each_says(inner: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, _ = digits
    torch.testing.assert_close(gap_of(ConstantGap(inner, 7.0)(x)), torch.full((12, 1), 7.0))
    own = gap_of(inner(x))
    torch.testing.assert_close(gap_of(Humps(inner, 2.0)(x)), 3 + 2.9 * torch.cos(torch.pi * own), rtol=1e-3, atol=1e-3)


def test_switches_answer_by_the_gap_or_the_hash(inner: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, _ = digits
    other = load_model("zoo:mnist-cnn").module
    logits = inner(x)
    assert torch.equal(TakeOver(inner, other, 0.0)(x), logits)
    said = TakeOver(inner, other, 1e6)(x)
    assert torch.equal(said.argmax(1), other(x).argmax(1)) and ((said == 0).sum(1) == 9).all()
    either = HashSwitch(inner, other)(x)
    first, second = ((either == one).all(1) for one in (logits, other(x)))
    assert (first | second).all()
    torch.testing.assert_close(Mean(inner, inner)(x), logits)
    # sure answers are flat, others lead the wrong way
    assert not slope(GapSwitch(inner, 0.0), x).any()
    torch.testing.assert_close(slope(GapSwitch(inner, 1e6), x), -slope(inner, x))


def test_the_half_turned_slope_has_the_size_of_the_true_one(inner: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    turned, true = slope(HalfTurnedSlope(inner), digits[0]), slope(inner, digits[0])
    torch.testing.assert_close(turned.abs(), true.abs())
    assert torch.equal(turned[..., 0, 0], true[..., 0, 0]) and torch.equal(turned[..., 0, 1], -true[..., 0, 1])


def test_steps_and_stairs_stay_close_to_a_ramp() -> None:
    h = torch.linspace(-1, 3, 401, requires_grad=True)
    for step in (Quantised(0.25), Stairs(0.25)):
        assert (step(h) - h.relu()).abs().max() <= 0.13
    assert not torch.autograd.grad(Quantised(0.25)(h).sum(), h)[0].any()
    assert float(torch.autograd.grad(Stairs(0.25)(h).sum(), h)[0].max()) > 5
