from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.gradient import PGD
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.threat import Linf
from assay.models import Bpda, Straight
from tests.support.bench import Case, Curved


class Quantised(nn.Module):
    """A model behind rounding to a few levels, whose gradient is 0 everywhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(to_levels(x))


def to_levels(x: Tensor) -> Tensor:
    return (x * 8).round() / 8


def test_bpda_breaks_a_quantised_model_that_pgd_cannot_climb() -> None:
    inner = Curved((1, 6, 6), 4)
    x = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    plain, straight = Quantised(inner), Bpda(to_levels, inner)
    y = plain(x).argmax(1).detach()
    assert torch.equal(plain(x), straight(x))
    method, threat = PGD(20, random_start=False), Linf(0.15)
    stuck = Case(plain, x, Untargeted(y), threat).run(method)
    found = Case(straight, x, Untargeted(y), threat).run(method)
    assert int(stuck.success.sum()) == 0 and torch.equal(stuck.x, x)
    assert int(found.success.sum()) > 30
    # the verdict is that of the model itself
    assert bool((plain(found.x).argmax(1) != y)[found.success].all())


def test_forwards_it_is_the_callable_and_backwards_the_stand_in() -> None:
    x = torch.rand(5, 3, 4, 4, dtype=torch.float64).requires_grad_()
    up = torch.rand(5, 3, 4, 4, dtype=torch.float64)
    y = Straight(to_levels)(x)
    assert torch.equal(y, to_levels(x.detach()))
    assert torch.equal(torch.autograd.grad(y, x, up)[0], up)
    y = Straight(to_levels, torch.sin)(x)
    assert torch.equal(y, to_levels(x.detach()))
    assert torch.allclose(torch.autograd.grad(y, x, up)[0], up * x.detach().cos())
    # a module may stand on either side, and what cannot be seen by autograd may be called
    y = Straight(lambda x: torch.from_numpy(x.numpy().round()), nn.Identity())(x)
    assert torch.equal(y, x.detach().round()) and y.requires_grad
    assert torch.equal(Straight(lambda x: x)(x), x)


def test_another_shape_needs_its_own_way_back() -> None:
    pool = nn.AvgPool2d(2)
    x = torch.rand(2, 3, 4, 4).requires_grad_()
    with pytest.raises(BadInput, match=r"forwards to \[2, 3, 2, 2\] and backwards to \[2, 3, 4, 4\]"):
        Straight(pool)(x)
    assert Straight(lambda x: pool(x).round(), pool)(x).shape == (2, 3, 2, 2)
