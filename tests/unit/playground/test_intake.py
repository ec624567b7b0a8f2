from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from assay.core.errors import BadInput
from assay.models import Classifier, load_model
from assay.playground import intake
from tests.support import awkward
from tests.support.playing import as_bytes, drawn_three


def network(shape: tuple[int, int, int] | None = None) -> Classifier:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * (shape[0] if shape else 3), 3))
    return dataclasses.replace(load_model(module), input_shape=shape)


def test_a_picture_of_the_models_size_is_taken_as_it_is() -> None:
    values = np.random.default_rng(0).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    taken = intake.take(as_bytes(Image.fromarray(values)), network((3, 12, 10)))
    assert torch.equal(taken.image, torch.from_numpy(values).permute(2, 0, 1).float() / 255)
    assert taken.note == ""


def test_a_drawing_becomes_a_digit_and_the_note_says_how() -> None:
    taken = intake.take(drawn_three(), load_model("zoo:mnist-cnn"))
    assert taken.image.shape == (1, 28, 28)
    assert "from 280 × 280 to 28 × 28" in taken.note


def test_pictures_for_models_of_any_size_keep_their_form() -> None:
    taken = intake.take(as_bytes(Image.new("RGB", (1200, 600))), network())
    assert taken.image.shape == (3, 256, 512)
    assert intake.take(as_bytes(Image.new("RGB", (40, 20))), network()).image.shape == (3, 20, 40)


_BLACK = Image.new("L", (8, 8))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (as_bytes(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), "Transparency dropped"),
        (as_bytes(Image.new("CMYK", (8, 8)), "JPEG"), "CMYK"),
        (as_bytes(Image.fromarray(np.full((8, 8), 40_000, np.uint16))), "ore than 8 bits"),
        (as_bytes(_BLACK, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), 200)]), "he first of several"),
    ],
    ids=["alpha", "cmyk", "16 bits", "animation"],
)  # fmt: skip
def test_what_was_done_to_a_picture_is_said(content: bytes, note: str) -> None:
    taken = intake.take(content, network((3, 8, 8)))
    assert taken.image.shape == (3, 8, 8)
    assert note in taken.note


def test_sixteen_bits_become_what_they_mean() -> None:
    taken = intake.take(as_bytes(Image.fromarray(np.full((8, 8), 65535 // 2, np.uint16))), network((1, 8, 8)))
    assert taken.image.max().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_what_is_said_of_turned_pictures_is_what_was_done(kind: str) -> None:
    for value in range(10):
        exif = Image.Exif()
        exif[0x0112] = value
        content = as_bytes(Image.new("RGB", (8, 6)), kind, exif=exif)
        taken = intake.take(content, network(None))
        lies = value in range(5, 9)
        assert taken.image.shape == ((3, 8, 6) if lies else (3, 6, 8))
        assert taken.note == ("Turned upright as its EXIF says." if value in range(2, 9) else "")


def test_photos_stand_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = Image.new("RGB", (20, 10))
    whole.paste((255, 255, 255), (0, 0, 10, 10))
    taken = intake.take(as_bytes(whole, "JPEG", exif=exif, quality=95), network((3, 20, 10)))
    assert "upright" in taken.note
    # what was left is on top
    assert taken.image[:, :8].mean() > 0.9
    assert taken.image[:, 12:].mean() < 0.1


@pytest.mark.parametrize(
    "content",
    [
        awkward.declared(6000, 6000),
        awkward.declared(intake.MOST_SIDE + 1, 1),
        awkward.declared(3000, 3000, depth=16, colour=0),
        awkward.declared(2**31 - 1, 2**31 - 1),
    ],
    ids=["many", "long", "deep", "endless"],
)
def test_what_declares_too_many_pixels_is_not_decoded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoding(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(Image.Image, "load", decoding)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoding)
    with pytest.raises(BadInput, match="at most"):
        intake.take(content, network())


def test_pictures_just_below_the_limit_are_taken() -> None:
    assert intake.take(as_bytes(Image.new("L", (5000, 4000))), network((1, 8, 8))).image.shape == (1, 8, 8)


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 30],
    ids=["empty", "gif", "eps", "png"],
)
def test_what_is_no_picture_is_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(BadInput, match=r"Give a PNG|cannot be read|damaged"):
        intake.take(content, network())


def test_two_hundred_awkward_files_are_images_or_sentences() -> None:
    model, taken, refused = network((3, 16, 16)), set(), set()
    for kind, content in awkward.files(200, seed=7):
        try:
            image = intake.take(content, model).image
        except BadInput as error:
            assert str(error).endswith(".")
            refused.add(kind)
            continue
        assert image.shape == (3, 16, 16)
        assert 0 <= image.min() <= image.max() <= 1
        taken.add(kind)
    assert {"modes", "animated", "turned"} <= taken
    assert {"truncated", "text", "noise", "oversized", "wide"} <= refused
    assert not refused & {"animated", "turned"}
    assert not taken & {"text", "noise", "oversized", "wide"}
