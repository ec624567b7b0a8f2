"""What adversarial training watches: robust accuracy after every epoch, and the collapse of FGSM training.

Catastrophic overfitting: within an epoch a network trained on one-step points learns to withstand those alone, its
accuracy under them rises, and under iterated steps falls to nothing (Wong et al. 2020; Andriushchenko and Flammarion
2020).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import nn

from assay.attacks.gradient import FGSM, PGD
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import Direct, frozen
from assay.core.problem import Problem
from assay.core.search import Attack, Keeps, search
from assay.core.threat import NORMS, Threat
from assay.defenses.examples import Examples

_DROP, _GAP = 0.2, 0.1


class Probed(NamedTuple):
    """The accuracy (a fraction) that PGD and that one step of FGSM leave."""

    robust: float | None
    one_step: float | None


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
    """PGD with `steps` steps on the margin, and FGSM, on the first `count` validation images."""

    eps: float
    norm: str = "linf"
    steps: int = 10
    count: int = 500

    def __call__(self, model: nn.Module, examples: Examples, seed: int) -> Probed:
        """Return what the two attacks leave of the accuracy of `model`, in eval mode."""
        at = torch.arange(min(self.count, len(examples)))
        device = next(model.parameters()).device
        x, y = (part.to(device) for part in examples.batch(at))
        y = y if y.ndim == 1 else y.argmax(1)
        draws = Draws(at.to(device)).fold("probe").fold(seed)
        threat = Threat(NORMS[self.norm], self.eps)
        with frozen(model):
            problem = Problem(Direct(model), x, Untargeted(y), threat)
            attacks: tuple[tuple[Attack, Keeps], ...] = (
                (PGD(self.steps, 0.25, objective=margin), Keeps.FIRST),
                (FGSM(), Keeps.LAST),
            )
            left = [
                float((~search(attack, problem, draws, keeps=keeps).success).double().mean())
                for attack, keeps in attacks
            ]
        return Probed(*left)


def collapse(log: Sequence[Epoch], now: Epoch) -> str:
    """Return why a training should end before epoch `now`; nothing while it goes well.

    It has collapsed where the accuracy under PGD fell by more than 20 points from the epoch before, or fell by more
    than 10 while that under one step rose.
    """
    if not log or now.robust_accuracy is None or now.one_step_accuracy is None:
        return ""
    before = log[-1]
    if before.robust_accuracy is None or before.one_step_accuracy is None:
        return ""
    lost = before.robust_accuracy - now.robust_accuracy
    risen = now.one_step_accuracy > before.one_step_accuracy
    if lost > _DROP or (lost > _GAP and risen):
        return (
            f"Catastrophic overfitting in epoch {now.epoch}: the accuracy under PGD fell from "
            f"{100 * before.robust_accuracy:.1f} % to {100 * now.robust_accuracy:.1f} %, that under one step went from "
            f"{100 * before.one_step_accuracy:.1f} % to {100 * now.one_step_accuracy:.1f} %. The weights are those of "
            f"epoch {before.epoch}. Use a smaller step, or several: --method pgd."
        )
    return ""
