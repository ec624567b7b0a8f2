from __future__ import annotations

import pytest

from assay.core.errors import BadInput
from assay.models.classifier import Preprocess
from assay.models.request import Options, take_apart

ALLOWED = frozenset({"mean", "std", "size", "channels", "resize", "interpolation", "arch"})


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
        ("a?num_classes=10", "Unknown option 'num_classes'"),
    ],
)
def test_bad_options_say_what_is_wrong(spec: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        take_apart(spec, {}, ALLOWED)
