"""Proximal operators, against what defines them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import BadInput
from assay.core.norms import L0, NORMS, PROXIMAL
from assay.core.threat import Linf, Threat

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
each = pytest.mark.parametrize("name", PROXIMAL)


def energy(z, d, weight, name: str):
    return (z - d).square().sum(1) / 2 + weight.squeeze(1) * NORMS[name].size(z)


@each
@QUICK
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_no_other_point_is_lower(name: str, seed: int, scale: float) -> None:
    maker = torch.Generator().manual_seed(seed)
    d = torch.randn(4, 6, generator=maker, dtype=torch.float64)
    d[-1] = 0
    weight = scale * torch.rand(4, 1, generator=maker, dtype=torch.float64)
    z = PROXIMAL[name](d, weight)
    least = energy(z, d, weight, name)
    for width in (1e-3, 0.1, 1.0):
        for _ in range(10):
            other = z + width * torch.randn(d.shape, generator=maker, dtype=d.dtype)
            assert bool((energy(other, d, weight, name) >= least - 1e-12).all())
    assert bool((energy(torch.zeros_like(d), d, weight, name) >= least - 1e-12).all())
    assert bool((energy(d, d, weight, name) >= least - 1e-12).all())


@pytest.mark.parametrize(
    ("name", "expected"), [("l1", [2.0, -1.0, 0.0]), ("l2", [2.4, -1.6, 0.4]), ("linf", [2.0, -2.0, 0.5])]
)
def test_by_hand(name: str, expected: list[float]) -> None:
    d = {"l1": [3.0, -2.0, 0.5], "l2": [2.4, -1.6, 0.4], "linf": [3.0, -2.0, 0.5]}[name]
    length = torch.tensor(d).norm()
    given_ = torch.tensor([d]) * ((length + 1) / length if name == "l2" else 1)
    torch.testing.assert_close(PROXIMAL[name](given_, torch.ones(1, 1)), torch.tensor([expected]))


def test_a_threat_works_in_its_unit_and_keeps_to_the_box() -> None:
    x, z = torch.full((1, 2, 1, 1), 0.9), torch.tensor([[[[1.3]], [[0.1]]]])
    scale = torch.tensor([0.1, 0.5]).view(-1, 1, 1)
    threat = Threat(NORMS["l1"], 1.0, scale=scale)
    # changes of 4 and -1.6 units, one unit less each, and the box
    expected = torch.tensor([[[[1.0]], [[0.6]]]])
    torch.testing.assert_close(threat.proximal(z, x, torch.ones(1)), expected)
    assert torch.equal(Linf(0.1).proximal(x, x, torch.ones(1)), x)


def test_counting_values_has_none() -> None:
    with pytest.raises(BadInput, match="no proximal operator for l0; there is for l1, l2, linf"):
        Threat(L0, 3.0).proximal(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1))
