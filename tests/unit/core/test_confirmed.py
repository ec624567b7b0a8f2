"""Successes against models that draw numbers: an attack goes on past a lucky draw, and is judged by fresh answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.attacks.gradient import PGD
from assay.core.compose import run
from assay.core.compose.confirmed import Confirmed
from assay.core.draws import Draws, current
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.result import Keeps
from assay.core.threat import Linf


class Lucky(nn.Module):
    """Class 1 for bright images, for sure; for dark ones now and then, by a draw."""

    def forward(self, x: Tensor) -> Tensor:
        noise = current(x).normal("noise", 1)[:, 0]
        score = 10 * x.flatten(1).mean(1) - 1 + noise
        return torch.stack([torch.zeros_like(score), score], 1)


def test_a_lucky_draw_does_not_end_an_attack_that_has_not_arrived() -> None:
    x, y = torch.zeros(64, 1, 2, 2), torch.zeros(64, dtype=torch.int64)
    oracle = TorchOracle(Lucky(), random=True)
    problem = Problem(oracle, x, Untargeted(y), Linf(1.0))
    attack = PGD(steps=10, random_start=False, step_size=0.1, objective=margin)
    found = run(Confirmed(attack), problem, Draws(torch.arange(64)), keeps=Keeps.FIRST)
    assert bool(found.success.all())
    # stopped at the first success, many would have been found by luck alone
    first = run(attack, problem, Draws(torch.arange(64)), keeps=Keeps.FIRST)
    assert bool(first.success.all()) and float(first.size.median()) < 0.3
