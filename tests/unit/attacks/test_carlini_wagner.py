"""Carlini-Wagner, EAD and L-BFGS on linear models, where the distance is known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from assay.attacks import build
from assay.attacks.carlini_wagner import CarliniWagner
from assay.attacks.lbfgs import LBFGS, Line
from assay.attacks.parts.constant_search import Constant
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.oracle import Observation
from assay.core.search import Keeps, Resume, search
from assay.core.threat import NORMS, UNBOXED, Threat
from tests.support.bench import Case, Linear, case

MAKER = torch.Generator().manual_seed(7)
WEIGHT = torch.randn(60, 4, generator=MAKER)
X = torch.rand(10, 3, 4, 5, generator=MAKER)


def linear(norm: str, scale: float = 1.0) -> tuple[Case, Tensor]:
    """Return a case without a box and the distances to the nearest boundary."""
    logits = X.flatten(1) @ WEIGHT
    y = logits.argmax(1)
    order = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    steep = torch.linalg.vector_norm(WEIGHT.T[y][:, None] - WEIGHT.T[None], order, dim=2)
    gaps = (logits.gather(1, y[:, None]) - logits) / steep
    distance = gaps.masked_fill(torch.arange(4) == y[:, None], torch.inf).amin(1)
    model = Linear(scale * WEIGHT, torch.zeros(4))
    return Case(model, X, Untargeted(y), Threat(NORMS[norm], box=UNBOXED)), distance


@pytest.mark.parametrize(
    ("name", "norm", "factor"),
    [
        ("carlini-wagner", "l2", 1.25),
        ("carlini-wagner", "linf", 1.25),
        ("lbfgs", "l2", 1.25),
        ("ead", "l1", 1.25),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_distance_at_any_scale_of_the_logits(name: str, norm: str, factor: float, scale: float) -> None:
    """Logits a hundred times as large, as those of a distilled network, are as easy."""
    here, distance = linear(norm, scale)
    found = here.run(build(name))
    assert bool(found.success.all())
    assert bool((found.size >= 0.999 * distance).all())
    assert float((found.size / distance).median()) <= factor


def test_the_paper_s_constant_and_variables_work_too() -> None:
    here, distance = linear("l2")
    boxed = here.but(threat=dataclasses.replace(here.threat, box=(-1.0, 2.0)))
    found = boxed.run(CarliniWagner(inner=100, rounds=9, c=1e-3, tanh=True))
    assert bool(found.success.all())
    assert float((found.size / distance).median()) <= 1.05


def test_a_row_that_cannot_improve_stops_early() -> None:
    here, _ = linear("l2")
    attack = CarliniWagner(inner=40, rounds=9)
    assert int(here.run(attack).looks.max()) < attack.steps


def test_few_values_suffice_in_l0() -> None:
    here = case("l0")
    here = here.but(threat=here.threat.at(60))
    found = here.run(build("carlini-wagner"))
    assert bool(found.success.all())
    assert torch.equal(found.size, (found.x != here.x).flatten(1).sum(1).float())
    assert float(found.size.median()) <= 6


def test_the_constant_goes_both_ways() -> None:
    constant = Constant.of(1.0, torch.zeros(3))
    ended = torch.tensor([True, True, False])
    after = constant.after(ended, torch.tensor([True, False, True]), 10)
    assert after.value.tolist() == pytest.approx([0.1, 10.0, 1.0])
    between = after.after(ended, torch.tensor([False, True, True]), 10)
    assert between.value.tolist() == pytest.approx([0.1**0.5, 10**0.5, 1.0])


def test_lbfgs_refuses_a_sharpness_of_nothing() -> None:
    with pytest.raises(BadInput, match=r"sharpness is 0, expected a number above 0"):
        build("lbfgs", sharpness=0)


@pytest.mark.parametrize("objective", ["cross_entropy", "dlr", "mean_square_error"])
def test_lbfgs_climbs_an_objective_that_says_nothing_of_the_goal(objective: str) -> None:
    """Cross-entropy and squared error are above 0 everywhere: bent there, they would have no slope."""
    here, distance = linear("l2")
    found = here.run(build("lbfgs", objective=objective))
    assert bool(found.success.all())
    # neither tells where the boundary is
    assert bool((found.size <= 4 * distance).all())


def test_one_round_of_lbfgs_is_scipy_s() -> None:
    """The same problem for two classes, where the margin f is linear: |u|^2 + c softplus(-k f) / k in the box."""
    weight = WEIGHT[:, :2]
    model = Linear(weight, torch.zeros(2))
    y = (X.flatten(1) @ weight).argmax(1)
    here = Case(model, X, Untargeted(y), Threat(NORMS["l2"]))
    c, sharpness = 1.0, 2.0
    lowest = torch.full((len(X),), torch.inf)

    def watch(look: int, state: Line, seen: Observation) -> None:
        # a round that has ended is followed by one of another c
        torch.minimum(lowest, state.value.masked_fill(state.rounds > 0, torch.inf), out=lowest)

    attack = LBFGS(inner=60, rounds=1, c=c, sharpness=sharpness)
    search(attack, here.problem(), here.draws, keeps=Keeps.LAST, course=Resume(watch=watch))
    for i in range(len(X)):
        w = (weight[:, 1 - y[i]] - weight[:, y[i]]).double().numpy()
        x = X[i].flatten().double().numpy()
        k = sharpness / abs(w @ x)

        def value(z: numpy.ndarray, x: numpy.ndarray = x, w: numpy.ndarray = w, k: float = k) -> tuple[float, Any]:
            slope = c / (1 + math.exp(k * (w @ z)))
            return ((z - x) ** 2).sum() + c / k * math.log1p(math.exp(-k * (w @ z))), 2 * (z - x) - slope * w

        best = minimize(value, x, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * len(x))
        assert float(lowest[i]) == pytest.approx(best.fun, rel=1e-4)
