from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.training.dataset_view import InMemory
from assay.training.fit import EpochLog
from assay.training.robustness_probe import Probe, Probed, collapse


def epoch(number: int, robust: float | None, one_step: float | None) -> EpochLog:
    return EpochLog(number, 1.0, 1.0, 0.9, 1e-3, 1.0, robust, one_step)


def log_of(*measured: tuple[float | None, float | None]) -> list[EpochLog]:
    return [epoch(number, *pair) for number, pair in enumerate(measured, 1)]


@pytest.mark.parametrize(
    "measured",
    [
        pytest.param([(0.8, 0.85), (0.59, 0.80)], id="21 points below the epoch before"),
        pytest.param([(0.8, 0.85), (0.7, 0.75), (0.59, 0.6)], id="21 points below the best, by two falls"),
        pytest.param([(0.4, 0.5), (0.28, 0.6)], id="PGD down by 12, one step up, 32 points apart"),
        pytest.param([(0.4, 0.5), (0.33, 0.5), (0.28, 0.6)], id="PGD down by 12 in two epochs, one step up"),
        pytest.param([(0.4, 0.5), (0.0, 1.0)], id="the collapse of FGSM training"),
    ],
)
def test_what_is_a_collapse(measured: list[tuple[float, float]]) -> None:
    *log, now = log_of(*measured)
    why = collapse(log, now)
    assert f"Catastrophic overfitting in epoch {len(measured)}" in why
    assert f"The weights are those of epoch {len(measured) - 1}" in why
    assert f"{100 * measured[-1][0]:.1f} %" in why
    assert "--method pgd" in why


@pytest.mark.parametrize(
    "measured",
    [
        pytest.param([(0.0, 1.0)], id="the first epoch has nothing before it"),
        pytest.param([(0.8, 0.85), (0.62, 0.65)], id="18 points"),
        pytest.param([(0.1, 0.5), (0.2, 0.8)], id="far apart and both rising"),
        pytest.param([(0.40, 0.50), (0.28, 0.45)], id="both falling, PGD by 12"),
        pytest.param([(0.57, 0.86), (0.49, 0.87)], id="8 points, which a high rate moves, one step up"),
        pytest.param([(0.94, 0.94), (0.83, 0.80), (0.82, 0.81)], id="a point apart"),
        pytest.param([(None, None), (None, None)], id="without a probe"),
    ],
)
def test_what_is_none(measured: list[tuple[float, float]]) -> None:
    *log, now = log_of(*measured)
    assert collapse(log, now) == ""


def linear(gap: float) -> nn.Module:
    """Return two classes told apart by the one pixel, at 0.5: an image at 0.5 + d breaks at a change of d."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-gap], [gap]]))
        network[1].bias.copy_(torch.tensor([gap / 2, -gap / 2]))
    return network


def test_a_network_with_a_known_distance_is_measured_exactly() -> None:
    # distances 0.05, 0.15, 0.25, 0.35 on either side
    x = torch.tensor([0.55, 0.65, 0.75, 0.85, 0.45, 0.35, 0.25, 0.15]).view(8, 1, 1, 1)
    examples = InMemory(x, torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]))
    network = linear(3.0).train()
    for eps, share in ((0.01, 1.0), (0.1, 0.75), (0.2, 0.5), (0.3, 0.25), (0.4, 0.0)):
        assert Probe(eps)(network, examples, 0) == Probed(share, share)
    assert Probe(0.2, count=4)(network, examples, 0) == Probed(0.5, 0.5)
    soft = InMemory(x, nn.functional.one_hot(examples.targets, 2).float())
    assert Probe(0.2, "l2")(network, soft, 0) == Probed(0.5, 0.5)
    # measured in eval mode, and left as it was
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_it_is_repeatable_and_the_seed_counts() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 5))
    examples = InMemory(torch.rand(300, 1, 6, 6), torch.arange(300) % 5)
    probe = Probe(0.05, steps=2)
    assert probe(network, examples, 0) == probe(network, examples, 0)
    assert dataclasses.replace(probe, steps=50)(network, examples, 0).robust <= probe(network, examples, 0).robust


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"eps": 0.0}, "eps is 0.0"),
        ({"eps": float("inf")}, "eps is inf"),
        ({"norm": "l7"}, "norm is 'l7'; expected one of linf"),
        ({"steps": 0}, "steps is 0"),
        ({"count": 0}, "count is 0"),
    ],
)
def test_a_probe_that_measures_nothing(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Probe(**{"eps": 0.1, **change})
