"""Box-constrained L-BFGS with scipy's optimiser, image by image: the oracle for ours, which no library has any more."""

from __future__ import annotations

import math

import numpy
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.strength.counted import Counted


def scipy_lbfgs(model: Counted, x: Tensor, y: Tensor, searches: int = 9, iterations: int = 50) -> Tensor:
    """Minimise c |z - x|^2 + cross-entropy towards the likeliest wrong class over the box.

    `c` starts at 1 and is bisected geometrically: raised after a success, lowered after a failure. The nearest
    success is the result. Szegedy et al. 2014, arXiv 1312.6199.
    """
    targets = model.likeliest_wrong(x, y)
    return torch.stack([_nearest(model, x[i], targets[i], searches, iterations) for i in range(len(x))])


def _nearest(model: Counted, x: Tensor, target: Tensor, searches: int, iterations: int) -> Tensor:
    from scipy.optimize import minimize

    start, low, high, c = x.double().numpy().ravel(), 0.0, math.inf, 1.0
    nearest, smallest = x, math.inf
    for _ in range(searches):

        def value(z: numpy.ndarray, c: float = c) -> tuple[float, numpy.ndarray]:
            point = torch.from_numpy(z).to(x.dtype).view(x.shape).requires_grad_(True)
            loss = c * (point - x).square().sum() + cross_entropy(model(point[None]), target[None])
            (grad,) = torch.autograd.grad(loss, point)
            return float(loss), grad.double().numpy().ravel()

        options = {"maxiter": iterations}
        found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * len(start), options=options)
        point = torch.from_numpy(found.x).to(x.dtype).view(x.shape)
        with torch.no_grad():
            broken = bool(model(point[None]).argmax(1) == target)
        if broken and (size := float((point - x).norm())) < smallest:
            nearest, smallest = point, size
        low, high = (c, high) if broken else (low, c)
        c = c * 10 if math.isinf(high) else c / 10 if low == 0 else math.sqrt(low * high)
    return nearest
