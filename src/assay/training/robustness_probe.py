"""What adversarial training watches: robust accuracy after every epoch, and the collapse of FGSM training.

Catastrophic overfitting: within an epoch a network trained on one-step points learns to withstand those alone, its
accuracy under them rises, and under iterated steps falls to nothing (Wong et al. 2020; Andriushchenko and Flammarion
2020).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import nn

from assay.attacks.gradient import FGSM, PGD
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import TorchOracle, frozen
from assay.core.problem import Problem
from assay.core.search import Attack, Keeps, search
from assay.core.threat import NORMS, Threat
from assay.training.dataset_view import Examples

# below the best epoch's; below it and below one step, while one step gains. A high rate alone moves PGD by 8 points
_DROP, _GAP = 0.20, 0.10


class Probed(NamedTuple):
    """The accuracy (a fraction) that PGD and that one step of FGSM leave, and the one that is proved."""

    robust: float | None = None
    one_step: float | None = None
    certified: float | None = None


class EpochProbe(Protocol):
    """What is measured after every epoch."""

    def __call__(self, model: nn.Module, examples: Examples, seed: int, /) -> Probed:
        """Return what is left of the accuracy of `model` on `examples`; the model stays as it was."""


class Epoch(Protocol):
    """What the detector reads of an epoch."""

    @property
    def epoch(self) -> int:
        """Its number, from 1."""

    @property
    def robust_accuracy(self) -> float | None:
        """The accuracy that PGD leaves."""

    @property
    def one_step_accuracy(self) -> float | None:
        """The accuracy that one step leaves."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """PGD with `steps` steps of 2.5 / `steps` budgets on the margin, and FGSM, on the first `count` validation images.

    What it leaves is an upper bound on robust accuracy, good for telling epochs apart. Cost per image: at most
    `steps` + 3 forwards and `steps` + 1 backwards. Raises `BadInput` for a budget, norm or count that is none.
    """

    eps: float
    norm: str = "linf"
    steps: int = 10
    count: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.norm not in NORMS:
            raise BadInput(f"norm is {self.norm!r}; expected one of {', '.join(NORMS)}.")
        if not 0 < self.eps < math.inf:
            raise BadInput(f"eps is {self.eps}, expected a size above 0 in pixel units, such as 0.3.")
        for name in ("steps", "count"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}, expected a whole number of at least 1.")

    def __call__(self, model: nn.Module, examples: Examples, seed: int) -> Probed:
        """Return what the two attacks leave of the accuracy of `model`, in eval mode."""
        at = torch.arange(min(self.count, len(examples)))
        device = next(model.parameters()).device
        x, y = (part.to(device) for part in examples.batch(at))
        y = y if y.ndim == 1 else y.argmax(1)
        draws = Draws(at.to(device)).fold("probe").fold(seed)
        threat = Threat(NORMS[self.norm], self.eps)
        with frozen(model):
            problem = Problem(TorchOracle(model), x, Untargeted(y), threat)
            attacks: tuple[tuple[Attack, Keeps], ...] = (
                (PGD(self.steps, objective=margin), Keeps.FIRST),
                (FGSM(), Keeps.LAST),
            )
            left = [
                float((~search(attack, problem, draws, keeps=keeps).success).double().mean())
                for attack, keeps in attacks
            ]
        return Probed(*left)


def collapse(log: Sequence[Epoch], now: Epoch) -> str:
    """Return why a training should end before epoch `now`; nothing while it goes well.

    It has collapsed where the accuracy under PGD is more than 20 points below that of the best epoch so far; or where
    it is more than 10 below that and below the accuracy under one step, which rose.
    """
    if not log or now.robust_accuracy is None or now.one_step_accuracy is None:
        return ""
    before = log[-1]
    if before.robust_accuracy is None or before.one_step_accuracy is None:
        return ""
    best = max(log, key=lambda epoch: epoch.robust_accuracy or 0.0)
    lost = (best.robust_accuracy or 0.0) - now.robust_accuracy
    rose = now.one_step_accuracy > before.one_step_accuracy
    apart = now.one_step_accuracy - now.robust_accuracy > _GAP
    if lost <= _DROP and not (lost > _GAP and rose and apart):
        return ""
    return (
        f"Catastrophic overfitting in epoch {now.epoch}: the accuracy under PGD is {100 * now.robust_accuracy:.1f} %, "
        f"after {100 * before.robust_accuracy:.1f} % an epoch before and {100 * (best.robust_accuracy or 0):.1f} % in "
        f"epoch {best.epoch}, that under one step {100 * now.one_step_accuracy:.1f} % after "
        f"{100 * before.one_step_accuracy:.1f} %. The weights are those of epoch {before.epoch}. Use a smaller step or "
        "learning rate, or several steps: --method pgd."
    )
