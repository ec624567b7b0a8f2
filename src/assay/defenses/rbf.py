# shape: a file for each layer around a network
"""Radial basis functions in the place of a network's last layer."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.errors import BadInput
from assay.core.signals import Signals, signals_of, with_refusal


class RbfHead(nn.Module):
    """Negative distances to a centre of each class in the place of the last layer (Goodfellow et al. 2015; Zadeh et al.
    2018, "Deep-RBF networks revisited").

    z_k = -(phi - mu_k)' L_k L_k' (phi - mu_k), where phi is what goes into the network's last linear layer and mu and L
    are trained on its features by the loss of Zadeh et al.: d_y + sum over other classes of log(1 + exp(margin - d_k)).
    Answers are z itself: a margin of z has a gradient where exp(z) has none. Backwards exact.
    """

    centres: Tensor
    factors: Tensor

    def __init__(
        self,
        inner: nn.Module,
        *,
        rank: Annotated[int, Option("Columns of L, the rank of a class's distance.", "columns", most=4096)] = 16,
        margin: Annotated[float, Option("Distance beyond which other classes cost little.", above=True)] = 10.0,
    ) -> None:
        super().__init__()
        self.inner, self.rank, self.margin = inner, rank, margin
        self.centres = nn.Parameter(torch.empty(0, 0))
        self.factors = nn.Parameter(torch.empty(0, 0, 0))

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"rank={self.rank}, margin={self.margin:g}"

    def begin(self, images: Tensor, classes: int) -> None:
        """Make centres and distances for the features of images such as these."""
        with torch.no_grad():
            features = _seen(self.inner, images)[1]
        mean, spread = features.mean(0), features.std().clamp_min(1e-6)
        dims = features.shape[1]
        self.centres = nn.Parameter(mean + 0.1 * spread * torch.randn(classes, dims).to(features))
        # distances of the order of the margin to begin with
        scale = math.sqrt(self.margin / (dims * self.rank)) / spread
        self.factors = nn.Parameter(scale * torch.randn(classes, dims, self.rank).to(features))

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over the centres and distances of a fit."""
        self.centres = nn.Parameter(state["centres"], requires_grad=False)
        self.factors = nn.Parameter(state["factors"], requires_grad=False)

    def loss(self, x: Tensor, y: Tensor, inner: nn.Module) -> Tensor:
        """Return the mean loss of a batch; the network itself learns nothing."""
        with torch.no_grad():
            features = _seen(self.inner, x)[1]
        distances = -self._answers(features)
        own = F.one_hot(y, distances.shape[1]).bool()
        others = F.softplus(self.margin - distances).masked_fill(own, 0).sum(1)
        return (distances[own] + others).mean()

    def signals(self, x: Tensor) -> Signals:
        """Return the negative distances, with the features that they are distances of."""
        if not self.centres.numel():
            raise BadInput("The rbf-head has no centres yet: assay defend fit.")
        seen, features = _seen(self.inner, x)
        return Signals(self._answers(features).to(seen.logits.dtype), seen.excess, None, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the negative distances of images `x`, with the class "refused" where something inside refuses."""
        return with_refusal(self.signals(x))

    def _answers(self, features: Tensor) -> Tensor:
        away = features.to(self.centres.dtype)[:, None] - self.centres
        return -torch.einsum("nkd,kdr->nkr", away, self.factors).square().sum(2)


def _seen(inner: nn.Module, x: Tensor) -> tuple[Signals, Tensor]:
    """Return what is said of images, and what goes into the last linear layer `[N, F]`."""
    layers = [layer for layer in inner.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise BadInput("An rbf-head takes the place of a last layer torch.nn.Linear, and the network has none.")
    given: list[Tensor] = []
    hook = layers[-1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        seen = signals_of(inner, x)
    finally:
        hook.remove()
    if len(given) != 1 or given[0].ndim != 2 or len(given[0]) != len(x):
        raise BadInput(
            f"An rbf-head needs one row of features per image from the last linear layer; it was asked {len(given)} "
            "times. Put the rbf-head behind defences that show several copies: '...|rbf-head'."
        )
    return seen, given[0]
