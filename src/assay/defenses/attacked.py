"""Attacked images for detectors that learn from them, and the logistic regression that weighs what they measure."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from assay.attacks.ddn import DDN
from assay.attacks.gradient import PGD
from assay.attacks.options import Option
from assay.core.draws import current
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.signals import signals_of
from assay.core.threat import L2, Linf

Size = Annotated[
    float | None,
    Option("Linf size of the attacks it learns from; without it 0.3 for one channel, else 8/255.", above=True, most=1),
]
_GREY, _COLOUR = 0.3, 8 / 255
_STEPS = 10


class _ClassLogits(nn.Module):
    """What is inside, without its refusals: a detector learns what fools the network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return signals_of(self.inner, x).logits


def attacked(inner: nn.Module, x: Tensor, y: Tensor, size: float | None) -> tuple[Tensor, Tensor]:
    """Return attacked images `[N, C, H, W]` and whether each fools the network (bool `[N]`); `inner` is in eval mode.

    Every other image is attacked by PGD in Linf (10 steps, its size drawn between a fifth of `size` and all of it), the
    others by DDN (10 steps): nearest to the image in L2. Costs 11 forwards and 10 backwards per image.
    """
    size = size or (_GREY if x.shape[1] == 1 else _COLOUR)
    draws = current(x).fold("attacked")
    eps = size * (0.2 + 0.8 * draws.uniform("size")).to(x)
    reach = size * x[0].numel() ** 0.5
    oracle = TorchOracle(_ClassLogits(inner))
    images, fooled = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for part in (0, 1):
        at = torch.arange(part, len(x), 2, device=x.device)
        attack, keeps, threat = (
            (DDN(_STEPS), Keeps.SMALLEST, L2(reach)) if part else (PGD(_STEPS), Keeps.LAST, Linf(1.0).at(eps[at]))
        )
        found = search(attack, Problem(oracle, x[at], Untargeted(y[at]), threat), draws.take(at), keeps=keeps)
        images[at], fooled[at] = found.x, found.success
    return images, fooled


def logistic_weights(values: Tensor, positive: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Return the weights `[F]` and the offset of a logistic regression of `positive` (bool `[M]`) on values `[M, F]`.

    Both answers weigh the same in all; `ridge` is a penalty on the weights of values in units of their deviations.
    """
    values = values.double()
    middle, spread = values.mean(0), values.std(0).clamp_min(1e-12)
    scaled = (values - middle) / spread
    share = torch.where(positive, 0.5 / positive.sum().clamp_min(1), 0.5 / (~positive).sum().clamp_min(1)).double()
    found = torch.zeros(values.shape[1] + 1, dtype=torch.float64, device=values.device, requires_grad=True)
    descent = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")
    sign = torch.where(positive, -1.0, 1.0).double()

    def loss() -> Tensor:
        descent.zero_grad()
        lost = nn.functional.softplus(sign * (scaled @ found[:-1] + found[-1]))
        total = (share * lost).sum() + ridge * found[:-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return total

    with torch.enable_grad():
        descent.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    weights = found.detach()[:-1] / spread
    return weights.float(), (found.detach()[-1] - weights @ middle).float()
