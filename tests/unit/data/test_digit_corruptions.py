"""MNIST-C's corruptions: against scikit-image where it is the published code's, and known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator

from assay.data import digit_corruptions as digits
from assay.data import load_data
from assay.data.corruption import DIGITS, Corruption, corrupted_image

DRAWS = np.random.default_rng(0)


class Positive:
    """A generator whose every choice is the last, +1."""

    def choice(self, values: tuple[int, ...], size: int | None = None) -> Any:
        return values[-1] if size is None else np.full(size, values[-1])


POSITIVE: Generator = Positive()  # type: ignore[assignment]  # it stands in for another


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    data = load_data("mnist/test", limit=12)
    return np.stack([data.read(at)[0].double().numpy() for at in range(12)])


def test_edges_are_scikit_images(images: np.ndarray) -> None:
    from skimage.feature import canny

    for image in images:
        assert ((digits.canny_edges(image, None, DRAWS) > 0) == canny(image)).all()


@pytest.mark.parametrize("name", ["rotation", "scale", "shear", "translation"])
def test_moves_are_scikit_images_about_the_middle(name: str, images: np.ndarray) -> None:
    from skimage.transform import AffineTransform, warp

    # a shear by an angle, as scikit-image had it when MNIST-C was made
    sheared = np.array([[1, -math.sin(0.4), 0], [0, math.cos(0.4), 0], [0, 0, 1]])
    matrix, move = {
        "rotation": (AffineTransform(rotation=0.4).params, lambda x: digits.rotate(x, 0.4, POSITIVE)),
        "scale": (AffineTransform(scale=1 / 0.7).params, lambda x: digits.scale(x, 1 / 0.7, POSITIVE)),
        "shear": (sheared, lambda x: digits.shear(x, 0.4, POSITIVE)),
        "translation": (np.eye(3), lambda x: digits.translate(x, 3, POSITIVE)),
    }[name]
    matrix = matrix.copy()
    matrix[:2, 2] = 3 if name == "translation" else 13.5 - matrix[:2, :2] @ (13.5, 13.5)
    for image in images:
        np.testing.assert_allclose(move(image), warp(image, AffineTransform(matrix=matrix)), atol=1e-9)


def test_motion_blur_is_the_packages(images: np.ndarray) -> None:
    from imagecorruptions.corruptions import _motion_blur

    for angle in (-45.0, -10.0, 0.0, 33.0):
        np.testing.assert_allclose(
            digits.moved(images[0], 21, 3, angle), _motion_blur(images[0], 10, 3, angle), atol=1e-6
        )


def test_stripe_and_brightness_are_known() -> None:
    image = np.full((28, 28), 0.25)
    striped = digits.stripe(image, None, DRAWS)
    assert (striped[:, :7] == 0.75).all()
    assert (striped[:, 7:21] == 0.25).all()
    assert (striped[:, 21:] == 0.75).all()
    seen = corrupted_image(torch.full((1, 28, 28), 51 / 255), "a", Corruption("brightness", 5))
    assert (seen * 255).unique().tolist() == pytest.approx([178])  # .2 + .5 of 255, rounded down


def test_shot_noise_has_the_mean_and_variance_of_theory() -> None:
    draws = digits.shot_noise(np.full((400, 400), 0.2), 5.0, np.random.default_rng(3))
    n, variance = draws.size, 0.2 / 5
    fourth = float(((draws - 0.2) ** 4).mean())
    assert abs(draws.mean() - 0.2) < 4 * (variance / n) ** 0.5
    assert abs(draws.var() - variance) < 4 * ((fourth - variance**2) / n) ** 0.5


def test_a_cloud_repeats_at_its_edges() -> None:
    cloud = digits.cloud(64, 2.0, np.random.default_rng(0))
    assert (cloud.min(), cloud.max()) == (0, 1)
    # across the edge neighbours differ as much as they do inside
    inside, across = np.abs(np.diff(cloud, axis=0)), np.abs(cloud[-1] - cloud[0])
    assert across.mean() < 2 * inside.mean()


def test_glass_blur_moves_pixels_and_loses_none() -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28)) / 255
    seen = digits.glass_blur(image, (1e-9, 1, 2), np.random.default_rng(1))
    assert not np.array_equal(seen, image)
    np.testing.assert_allclose(np.sort(seen, None), np.sort(image, None), atol=1 / 255)


@pytest.mark.parametrize("kind", DIGITS.kinds)
def test_the_name_decides_and_every_severity_is_an_image(kind: str, images: np.ndarray) -> None:
    image = torch.from_numpy(images[3:4]).float()
    for severity in DIGITS.allowed[kind]:
        corruption = Corruption(kind, severity)
        seen = corrupted_image(image, "a", corruption)
        assert seen.shape == image.shape
        assert torch.equal(seen, corrupted_image(image, "a", corruption))
        assert not torch.equal(seen, image)
    assert DIGITS.usual[kind][0] in DIGITS.allowed[kind]


def test_the_set_is_the_published_one() -> None:
    assert {kind: DIGITS.usual[kind][0] for kind in DIGITS.standard} == {
        "shot-noise": 5, "impulse-noise": 4, "glass-blur": 1, "motion-blur": 1, "shear": 2, "scale": 3, "rotate": 2,
        "brightness": 5, "translate": 3, "stripe": 1, "fog": 5, "spatter": 4, "dotted-line": 1, "zigzag": 1,
        "canny-edges": 1,
    }  # fmt: skip
