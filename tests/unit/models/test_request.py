from __future__ import annotations

import pytest

from assay.core.errors import BadInput
from assay.models.classifier import Preprocess
from assay.models.spec import Options, take_apart

ALLOWED = frozenset({"mean", "std", "size", "channels", "resize", "crop", "pad", "interpolation", "arch"})


def test_options_are_read_from_the_name_and_from_python() -> None:
    name, options = take_apart("file:a.pt?size=32&mean=0.5,0.4,0.3", {"std": (1, 1, 1)}, ALLOWED)
    assert name == "file:a.pt"
    assert options == Options(mean=(0.5, 0.4, 0.3), std=(1.0, 1.0, 1.0), size=32)
    assert options.input_shape == (3, 32, 32)
    assert options.preprocess == Preprocess((32,), (32, 32))


def test_a_grey_model_resized_before_the_crop() -> None:
    _, options = take_apart("a?size=28&channels=1&resize=32&interpolation=bicubic", {}, ALLOWED)
    assert options.input_shape == (1, 28, 28)
    assert options.preprocess == Preprocess((32,), (28, 28), "bicubic")


def test_without_a_size_nothing_is_resized() -> None:
    _, options = take_apart("a", {"mean": None}, ALLOWED)
    assert options == Options()
    assert options.input_shape is options.preprocess is None


@pytest.mark.parametrize(
    ("options", "shape", "preprocess"),
    [
        ("size=32x128", (3, 32, 128), Preprocess((32, 128))),
        ("size=32x32", (3, 32, 32), Preprocess((32,), (32, 32))),
        ("resize=32x64", (3, 32, 64), Preprocess((32, 64))),
        ("resize=40x50&size=32", (3, 32, 32), Preprocess((40, 50), (32, 32))),
        ("resize=40&crop=32x36", (3, 32, 36), Preprocess((40,), (32, 36))),
        ("resize=40", None, Preprocess((40,))),
        ("crop=32x16", (3, 32, 16), Preprocess(None, (32, 16))),
        ("size=32&pad=black", (3, 32, 32), Preprocess((32, 32), pad=0)),
        ("size=32x64&pad=white", (3, 32, 64), Preprocess((32, 64), pad=255)),
        ("resize=32x64&pad=114&interpolation=bicubic", (3, 32, 64), Preprocess((32, 64), None, "bicubic", pad=114)),
        ("channels=1", None, None),
    ],
)
def test_how_pictures_come_to_their_size(
    options: str, shape: tuple[int, ...] | None, preprocess: Preprocess | None
) -> None:
    found = take_apart(f"a?{options}", {}, ALLOWED)[1]
    assert found.input_shape == shape
    assert found.preprocess == preprocess


def test_sides_from_python() -> None:
    _, options = take_apart("a", {"resize": (32, 64), "size": 32}, ALLOWED)
    assert options.preprocess == Preprocess((32, 64), (32, 32))


def test_padding_alone_changes_the_facts_that_name_a_cell() -> None:
    assert set(Preprocess((8,), (8, 8)).facts()) == {"resize", "crop", "interpolation", "antialias"}
    assert Preprocess((8, 8), pad=0).facts()["pad"] == 0


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("a?sise=32", "Unknown option 'sise'.*Did you mean 'size'"),
        ("a?size", "'size' in 'a\\?size' is no option"),
        ("a?size=big", "size is 'big'; expected a whole number"),
        ("a?size=0", "size is '0'"),
        ("a?mean=0.5", "mean and std belong together"),
        ("a?mean=x&std=1", "mean is 'x'; expected numbers"),
        ("a?mean=127&std=128", "Divide them by 255"),
        ("a?interpolation=bicubi", "Did you mean 'bicubic'"),
        ("a?size=224&resize=200", "resize 200 is below size 224"),
        ("a?size=32x", "size is '32x'; expected a whole number of at least 1, or height and width such as 32x128"),
        ("a?size=32x0", "size is '32x0'"),
        ("a?resize=20x40&size=32", "resize 20x40 is below size 32"),
        ("a?resize=40x20&crop=32x24", "resize 40x20 is below crop 32x24"),
        ("a?size=32&crop=24", "size 32 is what the model takes and crop 24"),
        ("a?pad=black", "pad=0 fills up to a size"),
        ("a?size=32&crop=32&pad=0", "no crop beside it"),
        ("a?size=32&pad=256", "pad is '256'; expected black, white or a grey level"),
        ("a?size=32&pad=grey", "pad is 'grey'"),
        ("a?size=32&resize=40&pad=0", "leave resize=40 out"),
        ("a?channels=0", "channels is '0'"),
        ("a?num_classes=10", "Unknown option 'num_classes'"),
    ],
)
def test_bad_options_say_what_is_wrong(spec: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        take_apart(spec, {}, ALLOWED)
