from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.data import load_data
from assay.data.dataset import is_channels_last, range_advice

UNIT = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ((UNIT * 16).round(), "Divide it by 16."),
        ((UNIT * 255).round(), "Divide it by 255."),
        (UNIT * 255, "Divide it by 255."),
        ((UNIT * 1023).round(), "Divide it by 1023."),
        ((UNIT * 4095).round(), "Divide it by 4095."),
        ((UNIT * 65535).round(), "Divide it by 65535."),
        ((UNIT * 100).round(), "the value that stands for white"),
        ((UNIT * 1500).round(), "the value that stands for white"),
        (UNIT * 1e6, "the value that stands for white"),
        ((UNIT * 3000 - 1000).round(), r"(image - LOW) / (HIGH - LOW)"),
        (UNIT * 2 - 1, "(image + 1) / 2"),
        (UNIT * 4 - 2, "image * std + mean"),
        (UNIT * 1.1, "image.clamp(0, 1)"),
        (UNIT * 1.9, "Leave normalisation to the model"),
    ],
)
def test_the_advice_follows_from_the_values(image: Tensor, says: str) -> None:
    told = range_advice([image])
    assert says in told
    assert ("255" in told) == ("255" in says)


def test_a_dark_image_is_judged_by_the_others() -> None:
    with pytest.raises(BadInput, match=r"pixels from 0 to 6; expected \[0, 1\]. Divide it by 4095\."):
        load_data([((UNIT * 6).round(), 0), ((UNIT * 4000).round(), 1)]).load([0])


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((32, 32, 3), True),
        ((28, 28, 1), True),
        ((4, 4, 3), True),
        ((6, 9, 4), True),
        ((3, 32, 32), False),
        ((1, 28, 28), False),
        ((3, 3, 3), False),
        ((4, 4, 4), False),
        ((1, 5, 4), False),
        ((13, 4, 4), False),
        ((3, 8, 1), False),
        ((64, 7, 7), False),
    ],
)
def test_channels_last_is_seen_by_the_shape(shape: tuple[int, int, int], last: bool) -> None:
    assert is_channels_last(shape) is last


def test_channels_last_is_refused_even_where_a_flat_network_would_take_it() -> None:
    with pytest.raises(BadInput, match=r"looks like \[H, W, C\]; expected \[C, H, W\].*permute\(2, 0, 1\)"):
        load_data((torch.rand(4, 6, 6, 3), [0, 1, 0, 1]))
