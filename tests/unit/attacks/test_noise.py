"""The baselines: points of the ball, drawn without asking the model."""

from __future__ import annotations

import pytest
import torch

from assay.attacks.baselines import GaussianNoise, UniformNoise
from assay.core.errors import BadInput
from assay.core.threat import NORMS, Threat
from tests.support.bench import EPS, case

BOTH = [UniformNoise(), GaussianNoise()]


@pytest.mark.parametrize("method", BOTH, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("norm", NORMS)
def test_one_forward_and_no_backward(method, norm: str) -> None:
    here = case(norm)
    found = here.run(method)
    assert found.forwards.tolist() == [1] * len(here.x)
    assert found.backwards.tolist() == [0] * len(here.x)
    assert bool((found.x != here.x).flatten(1).any(1).all())


@pytest.mark.parametrize("norm", NORMS)
def test_uniform_noise_is_the_start_of_the_ball(norm: str) -> None:
    here = case(norm)
    assert torch.equal(here.run(UniformNoise()).x, here.threat.start(here.x, here.draws.fold("init")))


def test_gaussian_noise_in_l2_is_at_the_boundary() -> None:
    here = case("l2", box=False)
    size = here.run(GaussianNoise()).size
    assert torch.allclose(size, torch.full_like(size, EPS["l2"]), rtol=1e-5)


def test_gaussian_noise_in_linf_sits_at_the_boundary_a_third_of_the_time() -> None:
    here = case("linf", box=False, n=100)
    found = here.run(GaussianNoise())
    rim = ((found.x - here.x).abs() > 0.999 * EPS["linf"]).float().mean()
    assert float(rim) == pytest.approx(0.317, abs=0.02)


@pytest.mark.parametrize("method", BOTH, ids=lambda method: type(method).__name__)
def test_noise_in_l0_changes_its_number_of_values_anywhere(method) -> None:
    here = case("l0", n=300)
    changed = (here.run(method).x != here.x).flatten(1)
    assert int(changed.sum(1).max()) <= 6
    assert float(changed.sum(1).float().mean()) > 5
    assert float(changed.float().mean(0).min()) > 0.01


def test_noise_in_an_endless_ball() -> None:
    here = case("l2").but(threat=Threat(NORMS["l2"]))
    assert bool(here.run(UniformNoise()).x.isfinite().all())
    with pytest.raises(BadInput, match="infinite"):
        here.run(GaussianNoise())
