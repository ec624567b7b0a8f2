"""Short attacks on what the evaluation left standing: single steps, noise, objectives, black boxes, more effort."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.subject import GRADIENT_STEPS, Subject, lengthened, passes_of
from assay.core.compose import Method, Transferred, numbers_of, run
from assay.core.draws import Draws
from assay.core.errors import ModelError
from assay.core.objective import OBJECTIVES
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps, Resume, search

OBJECTIVE_STEPS, NOISES, QUERIES, _TRANSFER = 20, 8, 60, 20


@dataclasses.dataclass(frozen=True)
class Tries:
    """Of `asked` survivors, how many each try broke; a try that the model or the norm does not allow is missing."""

    asked: int
    broken: dict[str, int]

    @property
    def best(self) -> float:
        """The share of survivors that the best try broke; 0 where there was none."""
        return max(self.broken.values(), default=0) / max(1, self.asked)

    def share(self, name: str) -> float:
        """The share of survivors that one try broke; 0 where it is missing."""
        return self.broken.get(name, 0) / max(1, self.asked)


def simple(subject: Subject) -> Tries:
    """Try a single gradient step, and random points of the ball: 10 passes for each of up to 200 survivors."""
    few = subject.some("simple", NOISES + 2, 200, survivors=True)
    step = "fgsm" if subject.norm == "linf" else "fgm"
    return tries(few, {step: build(step) if subject.norm in ATTACKS[step].norms else None,
                        "noise": build("uniform-noise", restarts=NOISES)})  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Paths:
    """Twenty steps of PGD on each objective, from `asked` survivors: how many broke anywhere on the way (`broken`).

    `silent` is how many of those were whole again at the end. `losses` is the mean of the objective after each step,
    scaled to end points 0 and 1.
    """

    asked: int
    broken: dict[str, int]
    silent: int
    losses: dict[str, tuple[float, ...]]

    def share(self, objective: str) -> float:
        """The share of survivors that broke on the way along one objective."""
        return self.broken.get(objective, 0) / max(1, self.asked)


def paths(subject: Subject) -> Paths:
    """Climb each of three objectives for twenty steps: 63 passes for each of up to 32 survivors."""
    few = subject.some("paths", 3 * (OBJECTIVE_STEPS + 1), 32, survivors=True)
    if subject.norm not in ATTACKS["pgd"].norms or not len(few.survived):
        return Paths(0, {}, 0, {})
    broken, losses, silent = {}, {}, 0
    for name in ("cross_entropy", "margin", "scaled_cross_entropy"):
        try:
            path = _climb(few, name)
        except ModelError:
            continue
        broken[name] = int(path.reached.any(0).sum())
        silent = max(silent, int((path.reached.any(0) & ~path.reached[-1]).sum()))
        losses[name] = tuple(path.mean.tolist())
    return Paths(len(few.survived), broken, silent, losses)


@dataclasses.dataclass(frozen=True)
class _Path:
    reached: Tensor
    mean: Tensor


def _climb(subject: Subject, objective: str) -> _Path:
    losses: list[Tensor] = []
    reached: list[Tensor] = []

    def watch(look: int, state: object, seen: Observation) -> None:
        losses.append(seen.loss)
        reached.append(seen.reached)

    attack = build("pgd", steps=OBJECTIVE_STEPS, objective=objective)
    found = search(attack, subject.problem, subject.fold("paths"), keeps=Keeps.LAST, course=Resume(watch=watch))  # type: ignore[arg-type]  # pgd is a single attack
    last = OBJECTIVES[objective](found.logits, subject.problem.goal)
    whole = torch.stack([*losses, last]).double().mean(1)
    span = (whole.max() - whole.min()).clamp_min(1e-12)
    return _Path(torch.stack([*reached, found.success]), (whole - whole.min()) / span)


def black_box(subject: Subject) -> Tries:
    """Ask for scores alone, for labels alone, and try what breaks an undefended twin: 60 to 1,600 queries each."""
    score = None
    labels = subject.gives is Access.LABELS
    if subject.norm in ATTACKS["square"].norms and not labels:
        score = build("square", queries=10 * QUERIES if subject.thorough else QUERIES)
    label = None
    if (subject.thorough or labels) and subject.norm in ATTACKS["hop-skip-jump"].norms:
        label = build("hop-skip-jump", queries=1000 if subject.thorough else 2 * QUERIES)
    cost = sum(passes_of(one, subject.norm, subject.classes) for one in (score, label) if one is not None)
    cost += _TRANSFER + 2 if subject.twin is not None else 0
    few = subject.some("black_box", cost, 50, survivors=True)
    told = tries(few, {"square": score, "hop-skip-jump": label})
    if subject.twin is None or not len(few.survived) or subject.norm not in ATTACKS["mi-fgsm"].norms:
        return told
    moved = Transferred(build("mi-fgsm", steps=_TRANSFER), few.meter.of(subject.twin))
    return Tries(told.asked, {**told.broken, "transfer": _broken(few, moved)})


def again(subject: Subject) -> Tries:
    """Repeat the evaluation itself from other starts, with twice the steps, on what it left standing."""
    method = subject.evaluation
    if method is None or not bool(subject.survived.any()):
        return Tries(0, {})
    cost = 2 * passes_of(method, subject.norm, subject.classes)
    few = subject.some("again", cost, 50, survivors=True)
    return tries(few, {"again": lengthened(method)})


@dataclasses.dataclass(frozen=True)
class Growth:
    """Success of ten steps of PGD at growing budgets, of `n` images, and what is left where nothing should be.

    `budgets` are multiples of the number's own. `unbounded` is the share left in the whole box; `half_range` that left
    at half of the pixel range, where every image can be made the same grey (None but in Linf); `chance` is one of the
    classes.
    """

    n: int
    budgets: tuple[float, ...]
    success: tuple[float, ...]
    unbounded: float | None
    half_range: float | None
    chance: float


def growth(subject: Subject) -> Growth:
    """Ten steps at four budgets and twenty at two more: 86 passes for each of up to 32 images."""
    few = subject.some("growth", 4 * (GRADIENT_STEPS + 1) + 2 * (OBJECTIVE_STEPS + 1), 32)
    climbed = next((leaf.objective for leaf in subject.leaves if leaf.family == "gradient"), None)
    chance = 1 / subject.classes
    if subject.norm not in ATTACKS["pgd"].norms or climbed is None:
        return Growth(0, (), (), None, None, chance)
    if numbers_of(climbed, subject.classes):
        # PGD climbs one number
        climbed = OBJECTIVES["margin"]
    threat, draws = few.problem.threat, few.fold("growth")
    short, longer = (build("pgd", steps=steps, objective=climbed) for steps in (GRADIENT_STEPS, OBJECTIVE_STEPS))
    eps, whole = float(threat.eps), float(threat.widest(few.problem.x).max())
    budgets = tuple(times for times in (0.5, 1.0, 2.0, 4.0) if times * eps <= whole)
    try:
        success = tuple(_success(short, few.under(times * eps), draws) for times in budgets)
        bounded = math.isfinite(whole)
        unbounded = 1 - _success(longer, few.under(whole), draws) if bounded else None
        half = None
        # a model may well refuse the grey image that all others can become
        if (
            subject.norm == "linf"
            and not subject.rejects
            and isinstance(threat.scale, float)
            and threat.box == (0.0, 1.0)
        ):
            half = 1 - _success(longer, few.under(0.5), draws) if eps < 0.5 else None
    except ModelError:
        return Growth(0, (), (), None, None, chance)
    return Growth(len(few.survived), budgets, success, unbounded, half, chance)


def _success(method: Method, problem: Problem, draws: Draws) -> float:
    found = run(method, problem, draws, keeps=Keeps.FIRST)
    return float(found.success.double().mean())


def tries(subject: Subject, methods: dict[str, Method | None]) -> Tries:
    """Run each method on the survivors, and count what it breaks; None is a method that the norm does not allow."""
    if not len(subject.survived):
        return Tries(0, {})
    broken = {}
    for name, method in methods.items():
        if method is None:
            continue
        try:
            broken[name] = _broken(subject, method, name)
        except ModelError:
            # there is no gradient to ask for: the sight says so
            continue
    return Tries(len(subject.survived), broken)


def _broken(subject: Subject, method: Method, name: str = "") -> int:
    found = run(method, subject.problem, subject.fold(f"try {name}"), keeps=Keeps.FIRST)
    return int(found.success.sum())


__all__ = ["Access", "Growth", "Paths", "Tries", "again", "black_box", "growth", "paths", "simple", "tries"]
