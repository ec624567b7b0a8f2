"""Adversarial training: losses that look for the worst point first, each by one call of the one search.

In which mode of the network the point is sought follows the method. `Fast` seeks it in training mode, as its authors'
code does; the others in eval mode: the network that is attacked later has no dropout and the running statistics, which
a search in training mode would fill with its own points (Pang et al. 2021 measured more clean accuracy for it).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.attacks.gradient import FFGSM, FGSM, PGD
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Away, Goal, Untargeted
from assay.core.oracle import TorchOracle, checked_logits, frozen
from assay.core.problem import Problem
from assay.core.search import Attack, Keeps, Limits, search
from assay.core.threat import NORMS, Threat

_POINT_ALONE = Limits(judge_last=False)
_NORMS = ("linf", "l2")

# the share of the budget that a warm-up begins with, and the deviation of the start of TRADES
_FIRST_SHARE, _NUDGE = 0.05, 0.001


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

    d = project(u + step_size eps sign(grad)), u uniform in the ball. Prone to catastrophic overfitting: give the
    settings a `Probe`. Cost per sample: 2 forwards and 2 backwards. Raises `BadInput` for a budget, step or norm that
    training cannot use, as the other losses do.
    """

    eps: float
    step_size: float = 1.25
    norm: str = "linf"
    warmup: float = 0.0

    passes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Refuse budgets and norms that are none."""
        _check(self, step_size=self.step_size)

    def during(self, share: float, /) -> Fast:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        worst = perturbed(model, x, Untargeted(labels_of(y)), FFGSM(self.step_size), _ball(self), draws, training=None)
        return F.cross_entropy(model(worst), y, reduction="none")


@dataclasses.dataclass(frozen=True)
class Madry:
    """Cross-entropy at the end of PGD (Madry et al. 2018): `steps` steps of `step_size` budgets from a uniform start.

    Few long steps instead of their 40 of 1/30 budget. Cost per sample: `steps` + 1 forwards and backwards.
    """

    eps: float
    steps: int = 10
    step_size: float = 0.25
    norm: str = "linf"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse budgets, steps and norms that are none."""
        _check(self, self.steps, self.step_size)

    @property
    def passes(self) -> int:
        """Forwards per sample, and as many backwards."""
        return self.steps + 1

    def during(self, share: float, /) -> Madry:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        worst = perturbed(model, x, Untargeted(labels_of(y)), PGD(self.steps, self.step_size), _ball(self), draws)
        return F.cross_entropy(model(worst), y, reduction="none")


@dataclasses.dataclass(frozen=True)
class Trades:
    """TRADES (Zhang et al. 2019): cross-entropy at the image, plus `beta` times the divergence that PGD can reach.

    CE(f(x), y) + beta KL(f(x) || f(z)). PGD climbs the same divergence from x + 0.001 N(0, 1): at x it has no slope.
    Their MNIST script takes beta 1 and 40 steps of 1/30 budget, for CIFAR-10 beta 6. With beta 0 it is cross-entropy.
    Cost per sample: `steps` + 3 forwards and `steps` + 2 backwards.
    """

    eps: float
    steps: int = 10
    step_size: float = 0.25
    beta: float = 1.0
    norm: str = "linf"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse budgets, steps, weights and norms that are none."""
        _check(self, self.steps, self.step_size)
        if not 0 <= self.beta < math.inf:
            raise BadInput(f"beta is {self.beta}, expected a number of 0 or more, such as 1 or 6.")

    @property
    def passes(self) -> int:
        """Forwards per sample, and one backward fewer."""
        return self.steps + 3 if self.beta else 1

    def during(self, share: float, /) -> Trades:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        logits = model(x)
        loss = F.cross_entropy(logits, y, reduction="none")
        if not self.beta:
            return loss
        goal, threat = Away(labels_of(y), _reference(model, x)), _ball(self)
        noise = _on(draws, x).normal("near", *x.shape[1:]).to(x.dtype)
        near = threat.project(x + _NUDGE * noise, x)
        worst = perturbed(model, x, goal, PGD(self.steps, self.step_size), threat, draws, start=near)
        return loss + self.beta * _divergence(logits, model(worst))


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """Another network to find points on; `name` and `digest` say which, by content, in what a checkpoint compares."""

    name: str
    digest: str
    module: nn.Module = dataclasses.field(repr=False, compare=False)

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise `BadInput` where the network has no answer for the images `x`, or fewer classes than `y` needs."""
        with torch.no_grad(), frozen(self.module) as module:
            try:
                logits = checked_logits(module(x), len(x))
            except RuntimeError as error:
                raise BadInput(
                    f"The network {self.name} cannot answer images of {list(x.shape[1:])}: {error}. Name one for the "
                    "images trained on."
                ) from error
        if not bool(logits.isfinite().all()):
            raise BadInput(f"The network {self.name} returns NaN or infinite scores. Name one that returns logits.")
        if int(y.max()) >= logits.shape[1]:
            raise BadInput(f"The network {self.name} has {logits.shape[1]} classes, and a label is {int(y.max())}.")


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Ensemble adversarial training (Tramer et al. 2018): FGSM points of the network itself and of other networks.

    Half of the loss is cross-entropy at the image, half at the point, which for each batch comes from one of
    `surrogates` or from the network itself, by chance. The surrogates stay as they are. Cost per sample: 3 forwards and
    3 backwards.
    """

    eps: float
    surrogates: tuple[Surrogate, ...]
    norm: str = "linf"
    warmup: float = 0.0

    passes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        """Refuse budgets and norms that are none, and an ensemble of nobody."""
        _check(self)
        if not self.surrogates:
            raise BadInput("Ensemble adversarial training without other networks is FGSM training; name one or more.")

    def during(self, share: float, /) -> Ensemble:
        """Return the loss with the budget it has grown to."""
        return dataclasses.replace(self, eps=_grown(self, share))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        sources = [*(one.module for one in self.surrogates), model]
        source = sources[int(draws.uniform("whose", 1)[0, 0] * len(sources)) % len(sources)]
        worst = perturbed(source, x, Untargeted(labels_of(y)), FGSM(), _ball(self), draws)
        both = F.cross_entropy(model(torch.cat([x, worst])), torch.cat([y, y]), reduction="none")
        return both.view(2, -1).mean(0)


METHODS: dict[str, type[Fast | Madry | Trades | Ensemble]] = {
    "fgsm": Fast,
    "pgd": Madry,
    "trades": Trades,
    "ensemble": Ensemble,
}


def adversarial_loss(method: str, **options: Any) -> Fast | Madry | Trades | Ensemble:
    """Return the loss of a method in `METHODS`; an option that is None has the method's default.

    Raises `BadInput` for an option that the method does not have.
    """
    make = METHODS[method]
    known = [field.name for field in dataclasses.fields(make)]
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in known:
            raise BadInput(f"{name} is {value}, and {method} training has {', '.join(known)} alone. Leave it out.")
    return make(**given)


def perturbed(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    attack: Attack,
    threat: Threat,
    draws: Draws,
    *,
    start: Tensor | None = None,
    training: bool | None = False,
) -> Tensor:  # shape: a problem, an attack and the mode to run it in
    """Return the last points `[N, *S]` of an attack on `model`, which is left as it was.

    `training` is the mode in which the model answers meanwhile; None leaves it in its own.
    """
    with frozen(model, training=training):
        problem = Problem(TorchOracle(model, len(x)), x.detach(), goal, threat, start)
        found = search(attack, problem, _on(draws, x), keeps=Keeps.LAST, terms=_POINT_ALONE)
    return found.x


def labels_of(y: Tensor) -> Tensor:
    """Return the labels int64 `[N]` of labels or of soft labels `[N, K]`."""
    return y if y.ndim == 1 else y.argmax(1)


def _reference(model: nn.Module, x: Tensor) -> Tensor:
    with frozen(model), torch.no_grad():
        reference: Tensor = model(x).softmax(1)
    return reference


def _divergence(of: Tensor, to: Tensor) -> Tensor:
    # by logarithms: where a probability underflows to 0, F.kl_div has the gradient NaN
    of, to = F.log_softmax(of, 1), F.log_softmax(to, 1)
    return (of.exp() * (of - to)).sum(1)


def _on(draws: Draws, x: Tensor) -> Draws:
    return dataclasses.replace(draws, ids=draws.ids.to(x.device))


def _grown(loss: Adversarial, share: float) -> float:
    # a network that has learned nothing yet learns nothing from the full budget
    return loss.eps * min(1.0, _FIRST_SHARE + share / loss.warmup) if loss.warmup else loss.eps


def _ball(loss: Adversarial) -> Threat:
    return Threat(NORMS[loss.norm], loss.eps)


def _check(loss: Adversarial, steps: int = 1, step_size: float = 1.0) -> None:
    if loss.norm not in _NORMS:
        raise BadInput(f"norm is {loss.norm!r}; adversarial training works in {' and '.join(_NORMS)}.")
    if not 0 < loss.eps < math.inf:
        raise BadInput(f"eps is {loss.eps}, expected a size above 0 in pixel units, such as 0.3.")
    if steps < 1:
        raise BadInput(f"steps is {steps}, expected a whole number of at least 1.")
    if not 0 < step_size < math.inf:
        raise BadInput(f"step_size is {step_size} budgets, expected a number above 0, such as 0.25.")
    if not 0 <= loss.warmup <= 1:
        raise BadInput(f"warmup is {loss.warmup}, expected a share of the training from 0 to 1.")
