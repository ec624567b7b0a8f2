"""Tiny networks with known answers, subjects around them, and evidence that gives no cause for doubt."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks import PGD
from assay.audit.evidence import Evidence
from assay.audit.histogram import Histogram
from assay.audit.planted import Planted
from assay.audit.probes.attacks import Growth, Paths, Tries
from assay.audit.probes.determinism import Answers
from assay.audit.probes.gradient_accuracy import Slopes
from assay.audit.probes.gradient_signal import Sight
from assay.audit.probes.minimum_norm import OtherNorms
from assay.audit.probes.refusals import Refusals
from assay.audit.subject import CleanRefusals, CountingOracle, Leaf, Subject
from assay.core.compose import Method
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import Problem
from assay.core.threat import Linf, Threat

N, SIDE, CLASSES = 8, 6, 4


class Around(nn.Module):
    """A network behind functions of image and logits."""

    def __init__(self, inner: nn.Module, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x if self.before is None else self.before(x))
        return logits if self.after is None else self.after(logits)  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[no-any-return]


class Counting(nn.Module):
    """A network that counts the rows that pass through it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.inner(x)  # type: ignore[no-any-return]


def network(channels: int = 1) -> nn.Module:
    """Return a smooth network with random weights."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(channels * SIDE * SIDE, 16), nn.Tanh(), nn.Linear(16, CLASSES)]
    return nn.Sequential(*layers).eval()


def pictures(channels: int = 1) -> Tensor:
    """Return the images of every subject."""
    return torch.rand(N, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def subject(module: nn.Module, threat: Threat | None = None, **more: Any) -> Subject:
    """Return a subject of images that the module gets right, all of which survived PGD."""
    channels = more.pop("channels", 1)
    x = pictures(channels)
    y = more.pop("y", None)
    # of a model that may refuse, the last of the logits is no class
    reject = more.pop("reject", None)
    if y is None:
        with torch.no_grad():
            y = module(x)[:, :reject].argmax(1)
    methods: tuple[Method, ...] = more.pop("methods", (PGD(10),))
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    usual: dict[str, Any] = {
        "survived": torch.ones(N, dtype=torch.bool),
        "methods": methods,
        "allowance": 1e6,
        "classes": CLASSES,
    }
    problem = Problem(CountingOracle(TorchOracle(module)), x, Untargeted(y, reject), threat or Linf(0.1))
    return Subject(module, problem, Draws.of([str(i) for i in range(N)], 0), **{**usual, **more})


def leaf(steps: int = 40, access: Access = Access.GRADIENT, **more: Any) -> Leaf:
    return Leaf(steps, access, cross_entropy, **more)


CLEAN = Evidence(
    n=100,
    survived=80,
    probabilities=False,
    leaves=(leaf(), leaf(100, Access.SCORES)),
    answers=Answers(16, 0.0, 0.0, 0, False, False, 0.0),
    sight=Sight(
        n=64,
        zero={"cross_entropy": 0.0, "margin": 0.0, "dlr": 0.0},
        zero_in_double=0.0,
        agreement=1.0,
        median_gap=5.0,
        saturated=0.0,
        gaps=Histogram((0.0, 1.0), (64,)),
        climbed=("cross_entropy",),
    ),
    slopes=Slopes(16, 0.99, 0.01, (0.0,), (-1.0,), (-1.0,)),
    simple=Tries(80, {"fgsm": 0, "noise": 0}),
    nearest=Tries(10, {"minimum norm": 0}),
    paths=Paths(32, {"cross_entropy": 0, "margin": 0}, 0, {"margin": (0.0, 1.0)}),
    black_box=Tries(50, {"square": 0}),
    growth=Growth(32, (0.5, 1.0, 2.0), (0.1, 0.4, 0.9), 0.0, 0.0, 0.1),
    again=Tries(50, {"again": 0}),
    guided=Tries(10, {"class means of features": 0}),
    wide=Tries(10, {"gradients of a neighbourhood": 0}),
    planted=Planted(20, 20, 20, 0, 0, 0),
    twins=None,
    passes={},
)
"""Evidence in which no check finds anything."""

GUARDED = dataclasses.replace(
    CLEAN,
    refusals=Refusals(32, 0.0, 0.0, 20, 10, 0, CleanRefusals(200, 10, 0.05, 500)),
    other_norms=OtherNorms(16, {"linf": (0.2, 0.1)}),
)
"""The same of a model behind defences that may refuse."""


def seen(part: str, **changes: Any) -> Evidence:
    """Return clean evidence with changes to one part, or with the field itself replaced (`value=`)."""
    if "value" in changes:
        return dataclasses.replace(CLEAN, **{part: changes["value"]})
    return dataclasses.replace(CLEAN, **{part: dataclasses.replace(getattr(CLEAN, part), **changes)})
