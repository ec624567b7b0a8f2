from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.transforms import Normalize

from assay.core.errors import BadInput
from assay.models.normalized import LogProbabilities, Normalized, normalisation_of


def test_it_normalises_per_channel() -> None:
    x = torch.rand(2, 3, 4, 4)
    out = Normalized(nn.Identity(), (0.1, 0.2, 0.3), (0.5, 0.25, 1.0))(x)
    torch.testing.assert_close(out, Normalize((0.1, 0.2, 0.3), (0.5, 0.25, 1.0))(x))


def test_the_numbers_are_no_weights() -> None:
    inner = nn.Linear(2, 2)
    assert Normalized(inner, (0.5,), (0.5,)).state_dict().keys() == {"module.weight", "module.bias"}


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((0.5,), (0.5, 0.5), "one finite number per channel"),
        ((), (), "one finite number per channel"),
        ((float("nan"),), (1.0,), "one finite number per channel"),
        ((0.5,), (0.0,), "std above 0"),
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "Divide them by 255"),
    ],
)
def test_what_is_no_normalisation_is_refused(mean: tuple[float, ...], std: tuple[float, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Normalized(nn.Identity(), mean, std)


def test_normalisation_inside_a_network_is_found() -> None:
    ours = nn.Sequential(Normalized(nn.Identity(), (0.25,), (0.5,)), nn.Flatten())
    assert normalisation_of(ours) == ((0.25,), (0.5,))
    assert normalisation_of(nn.Sequential(Normalize((0.25,), (0.5,)), nn.Flatten())) == ((0.25,), (0.5,))
    assert normalisation_of(nn.Flatten()) is None
    assert normalisation_of(nn.Sequential(ours, ours[0])) == ((0.25,), (0.5,))
    two = nn.Sequential(ours, Normalize((0.25,), (0.5,)))
    assert normalisation_of(two) is None


def test_log_probabilities_have_the_gradient_of_logits() -> None:
    x = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    (through_log,) = torch.autograd.grad(LogProbabilities(nn.Softmax(1))(x)[0, 0], x)
    (direct,) = torch.autograd.grad(x.log_softmax(1)[0, 0], x)
    torch.testing.assert_close(through_log, direct)


def test_probability_zero_gives_a_finite_logarithm() -> None:
    assert LogProbabilities(nn.Identity())(torch.tensor([[0.0, 1.0]])).isfinite().all()
