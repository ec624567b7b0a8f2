from __future__ import annotations

import pytest
import torch

from assay.models.seeded import seeded


def test_numbers_follow_the_seed_and_the_state_comes_back() -> None:
    before = torch.random.get_rng_state()
    draws = []
    for seed in (3, 3, 4):
        with seeded(seed):
            draws.append(torch.rand(5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_state_comes_back_after_an_error() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(1):
        torch.rand(1)
        _ = 1 / 0
    assert torch.equal(torch.random.get_rng_state(), before)
