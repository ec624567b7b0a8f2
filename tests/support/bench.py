"""What the conformance checks stand on: small models, an oracle that remembers, and one attack run as a value."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks import ATTACKS, build
from assay.core.compose import Method, run
from assay.core.draws import Draws
from assay.core.goal import Goal, OutOfTop, Targeted, Untargeted
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation, Oracle, TorchOracle, frozen
from assay.core.problem import Problem
from assay.core.search import Keeps, SearchResult
from assay.core.threat import Threat, threat_in

# budgets at which the small model below breaks on some images and stands on others
EPS = {"linf": 0.06, "l2": 0.3, "l1": 1.2, "l0": 6, "ycbcr": 0.06, "patch": 1}
# in components of colours the attacks differ by what the threat does for them: these ask all of it
COLOURED = ("fgsm", "pgd", "apgd")
PAIRS = [(name, norm) for name, entry in ATTACKS.items() for norm in entry.norms if norm != "ycbcr" or name in COLOURED]
VECTOR_PAIRS = [(name, norm) for name, norm in PAIRS if norm not in ("ycbcr", "patch")]
# budgets that do not grow with the number of values, and those that are whole numbers
LARGEST = ("linf", "ycbcr", "patch")
WHOLE = ("l0", "patch")
FIRST_NORM = [(name, entry.norms[0]) for name, entry in ATTACKS.items()]
GOALS = ("untargeted", "targeted", "out-of-top")

# options that keep the runs short; an attack that is not named here takes 5 steps where it has steps
SHORT: dict[str, dict[str, Any]] = {
    "si-fgsm": {"steps": 4, "copies": 3},
    "vmi-fgsm": {"steps": 3, "neighbours": 2},
    "hinge-sum": {"inner": 4, "rounds": 2},
    "carlini-wagner": {"inner": 4, "rounds": 3},
    "ead": {"inner": 4, "rounds": 3},
    "lbfgs": {"inner": 4, "rounds": 3},
    "jsma": {"steps": 2},
    "apgd-t": {"steps": 4, "targets": 2},
    "fab-t": {"steps": 4, "targets": 2},
    "square": {"queries": 12},
    "block-grey": {"block": 2, "steps": 5},
    "block-grey-search": {"block": 2, "queries": 12},
    "patch-search": {"places": 2, "inner": 3},
    "spatial": {"tries": 3},
    "ddn": {"steps": 12},
    "fmn": {"steps": 3},
    "alma": {"steps": 12},
    "pdpgd": {"steps": 12, "dual_step": 1.0, "dual_ratio": 1.0, "step_size": 0.02},
    "sigma-zero": {"steps": 5, "threshold": 0.6},
    "autoattack": {"steps": 2, "queries": 4, "targets": 2},
    "cascade": {"steps": 2, "queries": 4, "targets": 2},
    # far probes: the difference between float32 and float64 must not pass for a slope
    "nes": {"queries": 70, "pairs": 8, "sigma": 0.1},
    "spsa": {"queries": 70, "pairs": 8, "sigma": 0.1},
    "simba": {"queries": 20},
    "one-pixel": {"population": 5, "generations": 3},
    "attention-de": {"population": 5, "generations": 3, "windows": 2, "share": 0.5},
    "hop-skip-jump": {"queries": 40, "first": 8},
    "boundary": {"queries": 40},
}

# options of attacks too long for the check of strength as they are
FEWER: dict[str, dict[str, Any]] = {
    "sigma-zero": {"steps": 200},
    "pdpgd": {"steps": 200},
    "hinge-sum": {"inner": 40, "rounds": 1},
    "carlini-wagner": {"inner": 40},
    "ead": {"inner": 40},
    "lbfgs": {"inner": 20},
    "alma": {"steps": 100},
    "apgd-t": {"steps": 50, "targets": 2},
    "autoattack": {"steps": 50, "queries": 10, "targets": 2},
    "cascade": {"steps": 20, "queries": 10, "targets": 2},
    "square": {"queries": 600, "rescale": True},
    "block-grey": {"block": 2},
    "block-grey-search": {"block": 2, "queries": 60, "rescale": True},
    "nes": {"queries": 1000, "pairs": 30},
    "spsa": {"queries": 1000, "pairs": 30},
    "simba": {"queries": 500},
    "one-pixel": {"population": 20, "generations": 20},
    "attention-de": {"population": 20, "generations": 20, "windows": 3, "share": 0.9},
    "hop-skip-jump": {"queries": 400, "first": 20},
    "boundary": {"queries": 800},
}

# attacks that draw random numbers: another seed is another attempt (budgets here forbid what `spatial` tries)
RANDOM = {
    "di-fgsm",
    "vmi-fgsm",
    "r-fgsm",
    "ffgsm",
    "pgd",
    "apgd",
    "apgd-t",
    "square",
    "block-grey",
    "block-grey-search",
    "patch-search",
    "autoattack",
    "cascade",
    "nes",
    "spsa",
    "simba",
    "one-pixel",
    "attention-de",
    "hop-skip-jump",
    "boundary",
    "salt-and-pepper",
    "uniform-noise",
    "gaussian-noise",
}

# attacks that need not break anything here: they do not look for a direction
AIMLESS = {"uniform-noise", "gaussian-noise", "spatial", "gaussian-blur", "contrast-reduction", "salt-and-pepper"}

# attacks that see the model through a lens: the points that the lens asks about, in pixels, are not the attack's own
PROBING = {"nes", "spsa"}

# attacks whose every step is a sign, or a choice: in Linf their results are equal bit by bit for any chunking
EXACT = {"fgsm", "r-fgsm", "ffgsm", "bim", "pgd", "mi-fgsm", "ni-fgsm", "uniform-noise", "gaussian-noise"}


class Curved(nn.Module):
    """A small network with curvature, in float64 or float32; it says how many rows went through, both ways."""

    def __init__(self, shape: tuple[int, ...] = (3, 4, 5), classes: int = 5, seed: int = 0) -> None:
        super().__init__()
        maker = torch.Generator().manual_seed(seed)
        features = int(torch.tensor(shape).prod())
        self.first = nn.Parameter(torch.randn(features, 24, generator=maker) / features**0.5)
        self.second = nn.Parameter(torch.randn(24, classes, generator=maker))
        self.forwards = 0
        self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if x.requires_grad:
            x.register_hook(self._back)
        return 0.7 * (4 * (x - 0.5).flatten(1) @ self.first.to(x.dtype)).tanh() @ self.second.to(x.dtype)

    def _back(self, grad: Tensor) -> None:
        self.backwards += len(grad)


class Linear(nn.Module):
    """`logits = flat(x) @ weight + bias`."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.to(x.dtype) + self.bias.to(x.dtype)


@dataclasses.dataclass(frozen=True)
class Remembering:
    """An oracle around an oracle that remembers who was asked about which point, at what cost."""

    oracle: Oracle
    looks: list[tuple[list[int], Tensor, Observation]] = dataclasses.field(default_factory=list)

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        seen = self.oracle.look(points, goal, objective, access, draws)
        self.looks.append((draws.ids.tolist(), points.clone(), seen))
        return seen


@dataclasses.dataclass(frozen=True)
class Case:
    """One attack situation; `run` carries it out."""

    model: nn.Module
    x: Tensor
    goal: Goal
    threat: Threat
    seed: int = 0
    batch: int | None = None
    exact: bool = True
    known: dict[tuple[Method, Keeps | None], SearchResult] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def draws(self) -> Draws:
        return Draws.of([f"image {i}" for i in range(len(self.x))], self.seed)

    def problem(self, oracle: Oracle | None = None) -> Problem:
        return Problem(oracle or TorchOracle(self.model, self.batch), self.x, self.goal, self.threat)

    def run(self, method: Method, keeps: Keeps | None = None, oracle: Oracle | None = None) -> SearchResult:
        with frozen(self.model):
            return run(method, self.problem(oracle), self.draws, keeps=keeps)

    def once(self, method: Method, keeps: Keeps | None = None) -> SearchResult:
        """Return what `run` returns, carried out once for all that only read it."""
        key = (method, keeps)
        if key not in self.known:
            self.known[key] = self.run(method, keeps)
        return self.known[key]

    def but(self, **changes: Any) -> Case:
        return dataclasses.replace(self, **changes)


def make(name: str, **options: Any) -> Method:
    """Return an attack of the table, with few steps where it has steps."""
    short = SHORT.get(name, {"steps": 5} if "steps" in ATTACKS[name].options else {})
    return build(name, **{**short, **options})


@functools.cache
def case_of(name: str, norm: str, goal: str = "untargeted", **others: Any) -> Case:
    """Return the situation for an attack of the table, the same object each time."""
    return dataclasses.replace(case(norm, goal, **others), exact=name in EXACT)


def case(
    norm: str,
    goal: str = "untargeted",
    *,
    shape: tuple[int, int, int] = (3, 4, 5),
    classes: int = 5,
    n: int = 12,
    dtype: torch.dtype = torch.float32,
    box: bool = True,
) -> Case:
    """Return a situation in which every image is right before the attack (but for two, which are wrong)."""
    model = Curved(shape, classes)
    # 8-bit images that touch both ends of the box
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)).mul(1.2).sub(0.1).clamp(0, 1)
    x = (x * 255).round().to(dtype) / 255
    with torch.no_grad():
        y = model(x).argmax(1)
    y[:2] = (y[:2] + 1) % classes
    model.forwards = 0
    threat = threat_in(norm, eps=EPS[norm] * (1 if norm in LARGEST else shape[0] * shape[1] * shape[2] / 60))
    if norm == "l0":
        threat = threat.at(round(float(threat.eps)))
    return Case(model, x, goal_of(goal, y, classes), threat if box else unboxed(threat))


def goal_of(goal: str, y: Tensor, classes: int) -> Goal:
    if goal == "targeted":
        return Targeted(y, (y + 1) % classes)
    if goal == "out-of-top":
        return OutOfTop(y, 2)
    return Untargeted(y)


TO_YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


def unboxed(threat: Threat) -> Threat:
    return dataclasses.replace(threat, box=(-torch.inf, torch.inf))


def size_of(threat: Threat, z: Tensor, x: Tensor) -> Tensor:
    """Return the size of a change in float64, written down again without the code under test."""
    u = (z.double() - x.double()) / threat.scale
    name = threat.norm.name
    if name == "ycbcr":
        y, cb, cr = (u.movedim(1, -1) @ torch.tensor(TO_YCBCR, dtype=torch.float64).T).unbind(-1)
        # of changes of Y alone, which all cases here are
        assert threat.components.weights == (1, 0, 0) and float(max(cb.abs().max(), cr.abs().max())) < 2e-6
        return y.flatten(1).abs().amax(1)
    if name == "patch":
        changed = (u != 0).any(1)
        sides = [line.nonzero() for one in changed for line in (one.any(0), one.any(1))]
        extents = [int(at.max() - at.min()) + 1 if len(at) else 0 for at in sides]
        return torch.tensor(extents, dtype=torch.float64).view(-1, 2).amax(1)
    u = u.flatten(1).abs()
    if name == "linf":
        return u.amax(1)
    if name == "l2":
        return u.square().sum(1).sqrt()
    return u.sum(1) if name == "l1" else (u > 0).sum(1).double()
