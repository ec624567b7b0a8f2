"""Adversarial training: losses that look for the worst point first, each by one call of the one search."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.attacks.gradient import FFGSM, FGSM, PGD
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Away, Goal, Untargeted
from assay.core.oracle import Direct, frozen
from assay.core.problem import Problem
from assay.core.search import Attack, Keeps, Terms, search
from assay.core.threat import NORMS, Threat
from assay.models.classifier import Classifier

_POINT_ALONE = Terms(judge_last=False)


class Adversarial(Protocol):
    """A loss against changes of size `eps` in `norm`."""

    @property
    def norm(self) -> str:
        """The norm of the changes."""

    @property
    def eps(self) -> float:
        """Their size, in pixel units on [0, 1]."""

    @property
    def warmup(self) -> float:
        """Over which share of the training, from its beginning, the size grows to `eps`."""


@dataclasses.dataclass(frozen=True)
class Fast:
    """Cross-entropy after one step of FGSM from a uniform start (Wong et al. 2020, "Fast is better than free").

    The step is `step_size` budgets. The point is sought with the network as it trains, dropout and batch norm
    on. Cost per sample: 2 forwards and 2 backwards.
    """

    eps: float
    step_size: float = 1.25
    norm: str = "linf"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse budgets and norms that are none."""
        _check(self)

    def during(self, share: float, /) -> Fast:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        worst = perturbed(model, x, Untargeted(y), FFGSM(self.step_size), _ball(self), draws)
        return F.cross_entropy(model(worst), y, reduction="none")


@dataclasses.dataclass(frozen=True)
class Madry:
    """Cross-entropy at the end of PGD (Madry et al. 2018): `steps` steps of `step_size` budgets from a uniform start.

    The point is sought with the network as it trains. Cost per sample: `steps` + 1 forwards and backwards.
    """

    eps: float
    steps: int = 10
    step_size: float = 0.25
    norm: str = "linf"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse budgets, steps and norms that are none."""
        _check(self)

    def during(self, share: float, /) -> Madry:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        worst = perturbed(model, x, Untargeted(y), PGD(self.steps, self.step_size), _ball(self), draws)
        return F.cross_entropy(model(worst), y, reduction="none")


@dataclasses.dataclass(frozen=True)
class Trades:
    """TRADES (Zhang et al. 2019): cross-entropy at the image, plus `beta` times the divergence that PGD can reach.

    PGD climbs the Kullback-Leibler divergence from the prediction at the image, from a start within a tenth of the
    budget, with the network in eval mode. Cost per sample: `steps` + 3 forwards and `steps` + 2 backwards.
    """

    eps: float
    steps: int = 10
    step_size: float = 0.25
    beta: float = 1.0
    norm: str = "linf"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse budgets, steps, weights and norms that are none."""
        _check(self)
        if not 0 <= self.beta < math.inf:
            raise BadInput(f"beta is {self.beta}, expected a number of 0 or more.")

    def during(self, share: float, /) -> Trades:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        logits = model(x)
        loss = F.cross_entropy(logits, y, reduction="none")
        if not self.beta:
            return loss
        goal = Away(y, _reference(model, x))
        # at the image itself the divergence has no slope: begin a little beside it
        near = _ball(self).at(self.eps / 10).start(x, _on(draws, x).fold("near"))
        attack = PGD(self.steps, self.step_size)
        worst = perturbed(model, x, goal, attack, _ball(self), draws, start=near, training=False)
        apart = F.kl_div(F.log_softmax(model(worst), 1), logits.softmax(1), reduction="none").sum(1)
        return loss + self.beta * apart


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Ensemble adversarial training (Tramer et al. 2018): FGSM points of the network itself and of other networks.

    Half of the loss is cross-entropy at the image, half at the point, which for each batch comes from one of
    `surrogates` or from the network itself, by chance. The surrogates stay as they are. Cost per sample: 3 forwards and
    3 backwards.
    """

    eps: float
    surrogates: tuple[Classifier, ...] = dataclasses.field(repr=False)
    norm: str = "linf"
    warmup: float = 0.0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse budgets and norms that are none, and an ensemble of nobody."""
        _check(self)
        if not self.surrogates:
            raise BadInput("Ensemble adversarial training without other networks is FGSM training; name one or more.")
        # what a checkpoint compares: which networks, by content
        # a frozen value's derived field
        object.__setattr__(self, "names", tuple(f"{one.spec} {one.digest}" for one in self.surrogates))

    def during(self, share: float, /) -> Ensemble:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        sources = [*(one.module for one in self.surrogates), model]
        turn = int(draws.uniform("whose", 1)[0, 0] * len(sources)) % len(sources)
        source = sources[turn]
        worst = perturbed(
            source, x, Untargeted(y), FGSM(), _ball(self), draws, training=None if source is model else False
        )
        both = F.cross_entropy(model(torch.cat([x, worst])), y.repeat(2), reduction="none")
        return both.view(2, -1).mean(0)


def perturbed(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    attack: Attack,
    threat: Threat,
    draws: Draws,
    *,
    start: Tensor | None = None,
    training: bool | None = None,
) -> Tensor:  # shape: a problem, an attack and the mode to run it in
    """Return the last points `[N, *S]` of an attack on `model`, which is left as it was.

    `training` is the mode in which the model answers meanwhile; None leaves it in its own.
    """
    with frozen(model, training=training):
        problem = Problem(Direct(model, len(x)), x.detach(), goal, threat, start)
        found = search(attack, problem, _on(draws, x), keeps=Keeps.LAST, terms=_POINT_ALONE)
    return found.x


def _reference(model: nn.Module, x: Tensor) -> Tensor:
    with frozen(model), torch.no_grad():
        reference: Tensor = model(x).softmax(1)
    return reference


def _on(draws: Draws, x: Tensor) -> Draws:
    return dataclasses.replace(draws, ids=draws.ids.to(x.device))


def _grown(loss: Adversarial, share: float) -> float:
    # a network that has learned nothing yet learns nothing from the full budget
    return loss.eps * min(1.0, 0.05 + share / loss.warmup) if loss.warmup else loss.eps


def _ball(loss: Adversarial) -> Threat:
    return Threat(NORMS[loss.norm], loss.eps)


def _check(loss: Adversarial) -> None:
    if loss.norm not in ("linf", "l2"):
        raise BadInput(f"norm is {loss.norm!r}; adversarial training works in linf and l2.")
    if not 0 < loss.eps < math.inf:
        raise BadInput(f"eps is {loss.eps}, expected a size above 0 in pixel units, such as 0.3.")
    steps = getattr(loss, "steps", 1)
    if steps < 1:
        raise BadInput(f"steps is {steps}, expected a whole number of at least 1.")
    size = getattr(loss, "step_size", 1.0)
    if not 0 < size < math.inf:
        raise BadInput(f"step_size is {size} budgets, expected a number above 0.")
