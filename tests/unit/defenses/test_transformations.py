from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, optimize
from torch import Tensor, nn

import assay
from assay.attacks import ATTACKS
from assay.core.errors import BadInput
from assay.core.tensors import valued
from assay.data import load_data
from assay.defenses.jpeg import Jpeg, quantisation, smooth_jpeg
from assay.defenses.layers import Transformed
from assay.defenses.total_variation import smoothest
from assay.defenses.transformations import BitDepth, Median, NonLocalMeans
from assay.models import load_model
from tests.support.pillow_jpeg import read_back, tables_of

SHAPES = [(3, 1, 28, 28), (3, 3, 13, 17), (3, 3, 7, 9)]


def pictures(shape: tuple[int, ...]) -> Tensor:
    """Random images: grey levels between those of 8 bits, black and white only, and 8-bit ones."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    x[1] = x[1].round()
    x[2] = (x[2] * 255).round() / 255
    return x


def by_numpy(x: Tensor) -> NDArray[np.uint8]:
    return np.clip(np.rint(x.numpy() * 255), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_bit_depth_is_numpys_rint(bits: int) -> None:
    x = pictures((3, 1, 28, 28))
    x[0, 0, 0] = (torch.arange(28) + 0.5) / (2**bits - 1)  # ties go to even
    steps = 2**bits - 1
    assert np.array_equal(BitDepth(bits)(x).numpy(), np.rint(x.numpy() * steps) / np.float32(steps))


def test_the_slope_of_bit_depth_is_that_of_all_sigmoids() -> None:
    x = torch.linspace(0, 1, 500, requires_grad=True)
    for bits in (1, 3):
        steps = 2**bits - 1
        (mine,) = torch.autograd.grad(BitDepth(bits)(x).sum(), x)
        edges = (torch.arange(steps) + 0.5) / steps
        (whole,) = torch.autograd.grad((torch.sigmoid(10 * steps * (x[:, None] - edges)).sum(1) / steps).sum(), x)
        torch.testing.assert_close(mine, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 8, 2, 3)])
@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_median_is_scipys(shape: tuple[int, ...], size: int) -> None:
    x = pictures(shape)
    there = Median(size)(x)
    assert np.array_equal(there.numpy(), ndimage.median_filter(x.numpy(), size=(1, 1, size, size)))
    assert torch.equal(Median(size)(x.requires_grad_()), there)


def test_the_gradient_of_the_median_is_that_of_the_pixel_that_is_it() -> None:
    x = pictures((3, 1, 6, 6))[:1].double()
    assert torch.autograd.gradcheck(Median(3), x.requires_grad_())
    flat = torch.full((1, 1, 6, 6), 0.5, requires_grad=True)
    Median(2)(flat).sum().backward()
    assert flat.grad is not None and float(flat.grad.sum()) == pytest.approx(36), "equal pixels share it"


@pytest.mark.parametrize("shape", SHAPES)
def test_non_local_means_are_opencvs(shape: tuple[int, ...]) -> None:
    x = pictures(shape)
    there = NonLocalMeans(search=13, patch=3, strength=2)(x)
    for image, mine in zip(x, there, strict=True):
        if shape[1] == 1:
            told = cv2.fastNlMeansDenoising(by_numpy(image[0]), None, 2, 3, 13)[None]
        else:
            pixels = np.ascontiguousarray(by_numpy(image).transpose(1, 2, 0))
            told = cv2.fastNlMeansDenoisingColored(pixels, None, 2, 2, 3, 13).transpose(2, 0, 1)
        assert np.array_equal(mine.numpy(), told.astype(np.float32) / np.float32(255))
    (slope,) = torch.autograd.grad(NonLocalMeans()(x.requires_grad_()).sum(), x)
    assert torch.equal(slope, torch.ones_like(x))


def test_without_opencv_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BadInput, match=r"pip install 'assay\[nlm\]'"):
        assay.defend(nn.Flatten(), "non-local-means")


@pytest.mark.parametrize("name", ["non-local-means", "jpeg", "y-denoiser"])
def test_what_is_for_pictures_refuses_other_channels(name: str) -> None:
    model = assay.load_model(nn.Sequential(nn.Flatten(), nn.Linear(128, 4)), channels=8)
    with pytest.raises(BadInput, match=r"1 or 3 channels, and the model's have 8"):
        assay.defend(model, name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quality", [5, 75, 100])
def test_jpeg_is_pillows(shape: tuple[int, ...], quality: int) -> None:
    x = pictures(shape)
    for image, mine in zip(x, Jpeg(quality)(x), strict=True):
        assert np.array_equal(mine.numpy(), read_back(by_numpy(image), quality).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 96, 100])
def test_the_tables_of_quantisation_are_those_in_pillows_files(quality: int) -> None:
    assert [sorted(table.flatten().int().tolist()) for table in quantisation(quality)] == tables_of(quality)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_smooth_jpeg_is_near_the_real_one(channels: int) -> None:
    row = torch.linspace(0, 3, 32)
    waves = torch.stack([(row[:, None] + (c + 1) * row).sin() / 2 + 0.5 for c in range(channels)])[None]
    for quality, levels in ((50, 3.0), (75, 2.0), (95, 1.0)):
        away = (smooth_jpeg(waves, quality) - Jpeg(quality)(waves)).abs().mean() * 255
        assert float(away) < levels


def test_the_gradient_of_jpeg_goes_through_its_steps() -> None:
    # at quality 100 grey levels are hardly rounded: up to that, the slope of each value is its own
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(smooth_jpeg(x, 100)[0, 0, 3, 4], x)
    assert slope[0, 0, 3, 4] == slope.max() and 0.4 < float(slope.max()) < 2.1
    # colours are at half the resolution: a step of one pixel's red moves its neighbour
    y = torch.rand(1, 3, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(smooth_jpeg(y, 100)[0, 0, 4, 4], y)
    assert float(slope[0, 0, 4, 5]) > 0.02


def test_total_variation_is_at_its_minimum() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    kept = (torch.rand(1, 1, 8, 8, generator=generator) < 0.5).double()
    weight = 0.1

    def height(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = torch.tensor(values.reshape(x.shape), requires_grad=True)
        down = nn.functional.pad(z[:, :, 1:] - z[:, :, :-1], (0, 0, 0, 1))
        right = nn.functional.pad(z[..., 1:] - z[..., :-1], (0, 1))
        total = (kept * (z - x) ** 2).sum() + weight * (down**2 + right**2 + 1e-12).sqrt().sum()
        total.backward()
        assert z.grad is not None
        return total.item(), z.grad.numpy().ravel()

    start = np.full(64, 0.5)
    least = optimize.minimize(height, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000}).fun
    mine = [height(smoothest(x, kept, weight, steps).numpy().ravel())[0] for steps in (100, 1000)]
    assert mine[0] < 1.02 * least and mine[1] < 1.001 * least


class _Identity(nn.Module):
    """A step with the identity for its gradient."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return valued(x, self.step(x.detach())) if x.requires_grad else self.step(x)


@pytest.mark.parametrize(("step", "eps"), [(BitDepth(1), 3.0), (Jpeg(20), 1.8), (Median(2), 1.5)], ids=repr)
def test_pgd_through_the_own_gradient_leaves_no_more_than_through_the_identity(step: nn.Module, eps: float) -> None:
    digits = load_data("mnist/test").load(range(20))
    x, y = torch.stack([one.image for one in digits]), torch.tensor([one.label for one in digits])
    network = load_model("zoo:mnist-cnn").module.eval()
    attack = ATTACKS["pgd"].make(steps=8)
    own, identity = (
        int(assay.attack(attack, model, x, y, threat=assay.L2(eps)).success.sum())
        for model in (Transformed(step, network), Transformed(_Identity(step), network))
    )
    assert own >= identity and own > 0
