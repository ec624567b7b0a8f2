"""ImageNet-C's corruptions: what is our own against the package, its draws against theory, and none left to chance."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.data import Unavailable
from assay.data.corruption import PHOTOS, SEVERITIES, Corruption, corrupted_image
from assay.data.photo_corruptions import Pixels, render, version

GREY = 64
HEIGHT, WIDTH = 48, 61


def picture() -> Pixels:
    """Return a picture with ramps, edges, saturated colours, black and white."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    colours = np.stack([rows * 255 // HEIGHT, columns * 255 // WIDTH, (rows + columns) * 3 % 256], 2)
    colours[8:20, 10:30] = (255, 20, 0)
    colours[30:40, 5:15], colours[30:40, 40:55] = 0, 255
    return colours.astype(np.uint8)


def as_image(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255


def flat(level: int) -> Tensor:
    return torch.full((3, 128, 128), level / 255)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("kind", ["brightness", "zoom-blur"])
def test_within_a_grey_level_of_the_package(kind: str, severity: int) -> None:
    import imagecorruptions

    for pixels in (picture(), np.random.default_rng(severity).integers(0, 256, (33, 70, 3), dtype=np.uint8)):
        theirs = imagecorruptions.corrupt(pixels, severity, kind.replace("-", "_"))
        assert np.abs(render(kind, pixels, severity, 0).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_is_the_packages_for_the_same_draws(severity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from imagecorruptions import corruptions
    from PIL import Image

    # uncompiled it draws from numpy's generator, so that the draws are the same
    monkeypatch.setattr(
        corruptions, "_shuffle_pixels_njit_glass_blur", corruptions._shuffle_pixels_njit_glass_blur.py_func
    )
    state = np.random.get_state()
    theirs = np.uint8(corruptions.glass_blur(Image.fromarray(picture()), severity, seed=severity))
    np.random.set_state(state)
    assert np.abs(render("glass-blur", picture(), severity, severity).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize(
    "kind", ["contrast", "saturate", "pixelate", "jpeg-compression", "defocus-blur", "gaussian-blur"]
)
def test_what_the_package_draws_is_handed_on(kind: str) -> None:
    import imagecorruptions

    for severity in (1, 5):
        theirs = imagecorruptions.corrupt(picture(), severity, kind.replace("-", "_"))
        ours = corrupted_image(as_image(picture()), "any name", Corruption(kind, severity))
        assert torch.equal(ours, as_image(theirs))


def clipped_normal(mean: float, deviation: float) -> tuple[float, float]:
    """Return mean and variance of a normal variable cut off at 0 and 1 and rounded down to 8 bits, by integration."""
    levels = np.arange(256)
    ends = torch.distributions.Normal(mean, deviation).cdf(torch.from_numpy(np.arange(1, 256) / 255)).double().numpy()
    shares = np.diff(np.concatenate([[0.0], ends, [1.0]]))
    first = float((shares * levels).sum())
    return first, float((shares * (levels - first) ** 2).sum())


@pytest.mark.parametrize(("level", "severity"), [(GREY, 1), (GREY, 5), (230, 3)])
def test_gaussian_noise_has_the_mean_and_variance_of_theory(level: int, severity: int) -> None:
    seen = corrupted_image(flat(level), "noise", Corruption("gaussian-noise", severity)).double() * 255
    mean, variance = clipped_normal(level / 255, (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1])
    n = seen.numel()
    fourth = float(((seen - mean) ** 4).mean())
    assert abs(float(seen.mean()) - mean) < 4 * (variance / n) ** 0.5
    assert abs(float(seen.var()) - variance) < 4 * ((fourth - variance**2) / n) ** 0.5


@pytest.mark.parametrize(("severity", "share"), [(1, 0.03), (5, 0.27)])
def test_impulse_noise_hits_its_share_and_half_of_it_is_white(severity: int, share: float) -> None:
    seen = corrupted_image(flat(GREY), "noise", Corruption("impulse-noise", severity))
    n = seen.numel()
    hit = float((seen != GREY / 255).double().mean())
    assert abs(hit - share) < 4 * (share * (1 - share) / n) ** 0.5
    white = float((seen == 1).double().sum()) / (hit * n)
    assert abs(white - 0.5) < 4 * (0.25 / (hit * n)) ** 0.5


@pytest.mark.parametrize("kind", PHOTOS.kinds)
def test_the_name_decides_and_nothing_else(kind: str) -> None:
    image, corruption = as_image(picture()), Corruption(kind, 3)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # numpy types it as a mapping or None
    first = corrupted_image(image, "a", corruption)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # numpy types it as a mapping
    np.random.seed(2)
    corrupted_image(image, "b", corruption)
    assert torch.equal(corrupted_image(image, "a", corruption), first)
    assert first.shape == image.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


@pytest.mark.parametrize(
    "kind",
    [
        "gaussian-noise",
        "shot-noise",
        "impulse-noise",
        "snow",
        "frost",
        "fog",
        "elastic-transform",
        "glass-blur",
        "motion-blur",
    ],
)
def test_another_name_is_another_draw(kind: str) -> None:
    image, corruption = as_image(picture()), Corruption(kind, 3)
    assert not torch.equal(corrupted_image(image, "a", corruption), corrupted_image(image, "b", corruption))


@pytest.mark.parametrize(
    "kind",
    [
        "gaussian-noise",
        "shot-noise",
        "impulse-noise",
        "speckle-noise",
        "defocus-blur",
        "gaussian-blur",
        "jpeg-compression",
    ],
)
def test_the_more_severe_the_further_from_the_image(kind: str) -> None:
    image = as_image(picture())
    # of two pictures: one may be spared by chance
    psnr = [
        np.mean(
            [
                -10 * float((corrupted_image(image, name, Corruption(kind, s)) - image).square().mean().log10())
                for name in "ab"
            ]
        )
        for s in SEVERITIES
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise(psnr))


def test_severity_0_is_the_image() -> None:
    image = torch.rand(3, 8, 8)  # of any size, and not rounded to 8 bits
    assert corrupted_image(image, "a", Corruption("fog", 0)) is image


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((3, 31, 40), "31 x 40 pixels; corruptions need 32 x 32"),
        ((1, 64, 64), "1 channels"),
        ((4, 64, 64), "4 channels"),
    ],
)
def test_images_that_have_no_corruptions(shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        corrupted_image(torch.zeros(shape), "the sample", Corruption("fog", 1))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.data import photo_corruptions

    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    monkeypatch.setattr(photo_corruptions, "_package", photo_corruptions._package.__wrapped__)
    monkeypatch.setattr(photo_corruptions, "version", version.__wrapped__)
    with pytest.raises(Unavailable, match=r"pip install 'assay\[corruptions\]'"):
        photo_corruptions.version()
