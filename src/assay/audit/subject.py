"""What an audit judges: the images of one robust number, the model, the budget, and the attacks it comes from."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from assay.core.compose import Cascade, Method, Passes, for_norm, is_attack, numbers_of
from assay.core.draws import Draws
from assay.core.goal import Goal
from assay.core.lenses import Expectation
from assay.core.objective import Objective
from assay.core.oracle import ONE_PASS, Access, Observation, Oracle, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, gradient_looks
from assay.core.tensors import take
from assay.defenses.chain import Step

GRADIENT_STEPS = 10
"""So many gradient looks make an attack an iterative one (proposed; the weakest attack that papers rely on has 7)."""

GRADIENT, MINIMUM_NORM, BLACK_BOX = "gradient", "minimum norm", "black box"
FAMILIES: Mapping[str, str] = {
    GRADIENT: "gradients with another objective",
    MINIMUM_NORM: "a minimum-norm attack",
    BLACK_BOX: "a black box",
}
"""The families of attacks that trust rests on, what finds the most per pass first, and how a sentence names them."""

SHARES: Mapping[str, float] = {
    "twins": 0.17,
    "planted": 0.16,
    "guided": 0.1,
    "nearest": 0.1,
    "wide": 0.09,
    "paths": 0.09,
    "black_box": 0.08,
    "again": 0.06,
    "growth": 0.05,
    "slopes": 0.04,
    "simple": 0.03,
    "sight": 0.02,
    "answers": 0.01,
}
"""What part of the allowance each probe of the evidence may spend: together all of it.

Without a twin the other probes divide its share."""

PLANTED = 5000
"""Passes that planted solutions may spend at least where a number may be trusted: whether an attack finds what is there
must not depend on which few images are asked."""

MORE_SHARES: Mapping[str, float] = {"refusals": 0.06, "other_norms": 0.2}
"""What the probes of a model that refuses images or is defended may spend besides."""


@dataclasses.dataclass(frozen=True)
class CountingOracle:
    """An oracle that counts the rows that went through the model, a forward with its backward as one.

    `hear` is told of every look how many they were.
    """

    oracle: Oracle
    spent: list[int] = dataclasses.field(default_factory=lambda: [0], compare=False)
    hear: Callable[[int], None] = dataclasses.field(default=lambda passes: None, compare=False)

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask, and count; see `Oracle`."""
        seen = self.oracle.look(points, goal, objective, access, draws)
        passes = int(torch.maximum(seen.cost.forwards, seen.cost.backwards).sum())
        self.spent[0] += passes
        self.hear(passes)
        return seen

    @property
    def rejects(self) -> bool:
        """Whether the last class of what is asked is a refusal."""
        return bool(getattr(self.oracle, "rejects", False))

    def of(self, oracle: Oracle) -> CountingOracle:
        """Return another oracle that counts into the same sum."""
        return CountingOracle(oracle, self.spent, self.hear)


@dataclasses.dataclass(frozen=True)
class CleanRefusals:
    """Of `n` clean images of the run the model refuses `refused`.

    Its thresholds were chosen to refuse a share of at most `fpr` together, the coarsest of them on `held_out` images;
    None where somebody wrote a threshold.
    """

    n: int
    refused: int
    fpr: float | None = None
    held_out: int = 0


@dataclasses.dataclass(frozen=True)
class Subject:
    """Images `problem.x` that the model gets right, and which of them the evaluation left standing.

    `problem` asks the model through a `CountingOracle`, at the budget of the number. `methods` are the attacks that the
    number comes from. `allowance` is how many passes the evidence may cost. `twin` is an undefended network to
    compare with, where one is given or stands inside the `defenses` (`own_twin`). `batch` bounds the rows of a pass.
    `clean` is what a model that may refuse does about the clean images of the run. `enough` says that the images of the
    number are enough for it to be trusted.
    """

    module: nn.Module
    problem: Problem
    draws: Draws
    survived: Tensor
    methods: tuple[Method, ...]
    allowance: float
    classes: int
    twin: Oracle | None = None
    thorough: bool = False
    batch: int | None = None
    defenses: tuple[Step, ...] = ()
    own_twin: bool = False
    clean: CleanRefusals | None = None
    enough: bool = False

    @property
    def meter(self) -> CountingOracle:
        """What counts the passes."""
        assert isinstance(self.problem.oracle, CountingOracle), "a subject asks through one"
        return self.problem.oracle

    def asking(self, module: nn.Module) -> TorchOracle:
        """Return what asks `module` as the model is asked: a copy of the model, or what stands around it."""
        own = self._asked
        if own is None:
            return TorchOracle(module, self.batch)
        # what stands around it may have a gradient where it has none
        return dataclasses.replace(own, model=module, batch=self.batch, gives=Access.GRADIENT, fits=[], told=set())

    @property
    def _asked(self) -> TorchOracle | None:
        oracle: object = self.problem.oracle
        while isinstance(oracle, CountingOracle):
            oracle = oracle.oracle
        return oracle if isinstance(oracle, TorchOracle) else None

    @property
    def gives(self) -> Access:
        """The most that the model gives."""
        return Access.GRADIENT if self._asked is None else self._asked.gives

    @property
    def per_look(self) -> int:
        """Passes of the innermost network in one look."""
        passes = ONE_PASS if self._asked is None else self._asked.passes
        return max(passes.forwards, passes.backwards + passes.always)

    @property
    def random(self) -> bool:
        """Whether the model says that it draws its answers."""
        return self._asked is not None and self._asked.random

    @property
    def rejects(self) -> bool:
        """Whether the last of the model's logits is no class, but a refusal."""
        return getattr(self.problem.goal, "reject", None) is not None

    @property
    def guarded(self) -> bool:
        """Whether the model stands behind defences, or refuses images."""
        return self.rejects or bool(self.defenses)

    def of_classes(self, logits: Tensor) -> Tensor:
        """Return the logits `[N, K]` of the classes alone."""
        return logits[:, :-1] if self.rejects else logits

    @property
    def norm(self) -> str:
        """The name of the threat's norm."""
        return self.problem.threat.norm.name

    @property
    def evaluation(self) -> Method | None:
        """The attacks of the number on this model, one after the other; None where all look at other models."""
        own = tuple(one for one in self.methods if is_attack(one) or one.surrogate is None)
        return Cascade(own) if len(own) > 1 else next(iter(own), None)

    def some(self, probe: str, cost: float, most: int, *, survivors: bool = False) -> Subject:
        """Return the subject with as many images as a probe's share of the allowance pays for at `cost` passes each.

        Never fewer than 2. Survivors are drawn at random, each probe its own.
        """
        shared = self.allowance / (1 if self.twin is not None else 1 - SHARES["twins"])
        share = SHARES.get(probe) or MORE_SHARES[probe]
        least = PLANTED if probe == "planted" and self.enough else 0
        count = max(2, min(most, int(max(share * shared, least) / max(cost * self.per_look, 1))))
        at = self.drawn(probe, count) if survivors else torch.arange(len(self.survived))[:count]
        return self.taken(at)

    def order(self, name: str) -> Tensor:
        """Return the survivors in the random order called `name`: by seed and image, whatever else survived."""
        at = self.survived.nonzero().squeeze(1)
        return at[self.fold(f"order {name}").take(at).uniform("order", 1).squeeze(1).argsort(stable=True)]

    def drawn(self, name: str, count: int) -> Tensor:
        """Return the first `count` survivors of that order, each where it stands."""
        return self.order(name)[:count].sort().values

    def taken(self, at: Tensor) -> Subject:
        """Return the subject with the images `at` alone."""
        problem, draws = take(self.problem, at), self.draws.take(at)
        return dataclasses.replace(self, problem=problem, draws=draws, survived=self.survived[at])

    def under(self, threat_eps: float) -> Problem:
        """Return the problem at another budget."""
        return dataclasses.replace(self.problem, threat=self.problem.threat.at(threat_eps))

    def fold(self, name: str) -> Draws:
        """Return draws that nothing else uses."""
        return self.draws.fold(f"audit {name}")

    @functools.cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """The single attacks that the evaluation is made of."""
        return tuple(leaf for method in self.methods for leaf in leaves(for_norm(method, self.norm)))


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A single attack: how often it looks, at what, whether it averages over a random model, and where it looks."""

    steps: int
    access: Access
    objective: Objective
    averages: bool = False
    elsewhere: bool = False

    @property
    def family(self) -> str:
        """Its kind: `gradient`, `score`, `label` or `transfer`."""
        if self.elsewhere:
            return "transfer"
        return {Access.GRADIENT: "gradient", Access.SCORES: "score", Access.LABELS: "label"}[self.access]


def leaves(method: Method) -> list[Leaf]:
    """Return the single attacks of a method."""
    if is_attack(method):
        # an attack that takes a gradient to begin with climbs none
        steps = gradient_looks(method) if method.access is Access.GRADIENT else method.steps
        return [Leaf(steps, method.access, method.objective)]
    found = [leaf for child in method.children for leaf in leaves(child)]
    if method.surrogate is not None:
        return [dataclasses.replace(leaf, elsewhere=True) for leaf in found]
    if (lens := method.lens) is None:
        return found
    averages = isinstance(lens, Expectation)
    # gradients estimated from scores are no gradients
    return [
        dataclasses.replace(leaf, averages=averages or leaf.averages, access=min(leaf.access, lens.access))
        for leaf in found
    ]


def family_of(method: Method, norm: str) -> str:
    """Return which of the families that trust rests on a method counts in: one of `FAMILIES`."""
    own = for_norm(method, norm)
    if all(leaf.family != "gradient" for leaf in leaves(own)):
        return BLACK_BOX
    return MINIMUM_NORM if is_attack(own) and own.keeps is Keeps.SMALLEST else GRADIENT


def is_iterative(methods: Sequence[Method], norm: str) -> bool:
    """Whether an iterative gradient attack is among the methods."""
    each = [leaf for method in methods for leaf in leaves(for_norm(method, norm))]
    return any(leaf.family == "gradient" and leaf.steps >= GRADIENT_STEPS for leaf in each)


def lengthened(method: Method, times: int = 2) -> Method:
    """Return a method whose attacks on the model itself make `times` as many steps."""
    if not is_attack(method):
        elsewhere = method.surrogate is not None
        return method if elsewhere else method.with_children(tuple(lengthened(one, times) for one in method.children))
    fields = dataclasses.fields(method)  # type: ignore[arg-type]  # every attack is a dataclass
    # of some attacks the number of steps follows from other options
    if "steps" not in [field.name for field in fields]:
        return method
    return dataclasses.replace(method, steps=times * method.steps)  # type: ignore[type-var]  # the same


def passes_of(method: Method, norm: str, classes: int) -> int:
    """Return about how many passes a sample costs that a method does not break; a look with its gradient is one.

    A plan's estimate (`compose.most_passes`) counts forwards and backwards apart, and the surrogate's too.
    """

    def looks(method: Method, classes: int | None) -> Passes:
        method = for_norm(method, norm)
        if is_attack(method):
            gradients = numbers_of(method.objective, classes or 2) if method.access is Access.GRADIENT else ()
            return Passes(method.steps * math.prod(gradients) + 1, 0)
        if method.surrogate is not None:
            return Passes(1, 0)
        each = method.passes(looks, classes) if method.lens is None else looks(method.children[0], classes)
        return each if method.lens is None else each.times(max(method.lens.passes))

    return looks(method, classes).forwards
