"""A problem that cannot be measured is refused when it is put together."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import CachedLook, Problem
from assay.core.tensors import take
from assay.core.threat import Linf, Threat

Y = torch.zeros(4, dtype=torch.int64)


def problem(x: torch.Tensor, threat: Threat) -> Problem:
    return Problem(TorchOracle(nn.Flatten()), x, Untargeted(Y), threat)


X = torch.full((4, 3, 2, 2), 51 / 255)


@pytest.mark.parametrize(
    ("x", "threat", "message"),
    [
        (X.half(), Linf(0.1), "torch.float16, expected float32 or float64"),
        (X.bfloat16(), Linf(0.1), "torch.bfloat16, expected float32 or float64"),
        ((X * 255).to(torch.uint8), Linf(0.1), "torch.uint8, expected float32 or float64"),
        (X, Linf("normalized 0.1"), "in normalised units: resolve it first"),
        (X, Linf(torch.full((3,), 0.1)), r"\[3\] budgets for 4 images"),
        (X, Linf(torch.full((1,), 0.1)), r"\[1\] budgets for 4 images"),
        (X, Linf([0.1, 0.1]), "for 2 channels, the images have 3"),
        (X[:, :1], Linf([0.1, 0.1, 0.1]), "for 3 channels, the images have 1"),
        (X + 0.4 / 255, Linf(0.1, grid=255), "x is off it: round the images first"),
    ],
)
def test_bad_problems(x: torch.Tensor, threat: Threat, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        problem(x, threat)


@pytest.mark.parametrize(
    "threat", [Linf([0.1]), Linf([0.1, 0.2, 0.3]), Linf(torch.full((4,), 0.1)), Linf(0.1, grid=255)]
)
def test_problems_are_taken_whole(threat: Threat) -> None:
    whole = problem(X * torch.arange(4).view(4, 1, 1, 1), threat)
    some = take(whole, torch.tensor([3, 1]))
    assert some.x[:, 0, 0, 0].tolist() == (X[0, 0, 0, 0] * torch.tensor([3, 1])).tolist()
    assert some.oracle is whole.oracle
    assert len(some.goal.y) == 2
    if isinstance(threat.eps, torch.Tensor):
        assert len(some.threat.eps) == 2
    assert some.start is None


def test_what_is_known_is_known_of_these_images() -> None:
    here = problem(X, Linf(0.1))
    seen = here.oracle.look(here.x, here.goal, margin, Access.SCORES, Draws(torch.arange(4)))
    assert here.seen_at_x is None
    known = dataclasses.replace(here, known=CachedLook(here.x, margin, seen))
    assert known.seen_at_x is seen
    elsewhere = dataclasses.replace(here, known=CachedLook(here.x + 1e-6, margin, seen))
    assert elsewhere.seen_at_x is None
    some = take(known, torch.tensor([3, 1]))
    assert some.seen_at_x is not None
    assert torch.equal(some.seen_at_x.logits, seen.logits[[3, 1]])
