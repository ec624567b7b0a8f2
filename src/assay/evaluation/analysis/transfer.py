"""From surrogate to target: images made once on each surrogate, judged by every target."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from assay.core.compose import Method, crafted, for_norm
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted, answer_of, scored
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import Problem
from assay.core.signals import apart
from assay.core.threat import Threat
from assay.data import Data, Sample
from assay.evaluation.attack_unit import check_numbers, check_scores
from assay.evaluation.experiment import check_labels, stacked
from assay.evaluation.one_score import check_one_score
from assay.evaluation.study.surrogates import check_fit, held
from assay.models import Classifier
from assay.statistics import wilson

_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Crossing:
    """What images made by `attack` on `surrogate` do to `target`.

    `both` counts the images that both get right, `broken` those of them that the target gets wrong after the attack;
    `at_home` those that the surrogate itself gets wrong. `target_right` counts all that the target gets right.
    `unscored` are images that both get right and that the target, attacked, has NaN or infinite scores for: they are
    in no other number but `target_right`.
    """

    attack: str
    surrogate: str
    target: str
    both: int = 0
    broken: int = 0
    at_home: int = 0
    target_right: int = 0
    unscored: int = 0

    @property
    def success(self) -> float:
        """The share of `both` that is broken; NaN where there are none."""
        return self.broken / self.both if self.both else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the success."""
        return wilson(self.broken, self.both)

    def plus(self, right: tuple[Tensor, Tensor], wrong: Tensor, at_home: Tensor, judged: Tensor) -> Crossing:
        """Return the crossing with more images counted (each bool `[N]`); `right`: by the surrogate, by the target."""
        both = right[0] & right[1] & judged
        return dataclasses.replace(
            self,
            both=self.both + int(both.sum()),
            unscored=self.unscored + int((right[0] & right[1] & ~judged).sum()),
            broken=self.broken + int((both & wrong).sum()),
            at_home=self.at_home + int((both & at_home).sum()),
            target_right=self.target_right + int(right[1].sum()),
        )


@dataclasses.dataclass(frozen=True)
class Crossings:
    """Every surrogate against every target, under every attack, and what it cost.

    `made` are (forwards, backwards) through the surrogates to make the images; `judged` forwards through all models to
    judge images, clean and attacked. `unreadable` counts images that could not be read.
    """

    each: tuple[Crossing, ...]
    images: int
    unreadable: int
    made: tuple[int, int]
    judged: int


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Who takes part: surrogates (of one model, or of several fused) and targets, by name, and how images are made.

    Raises `BadInput` where two of them take images of other sizes, or have other classes.
    """

    surrogates: Mapping[str, tuple[Classifier, ...]]
    targets: Mapping[str, Classifier]
    attacks: Mapping[str, Method]
    threat: Threat
    seed: int = 0
    batch: int | None = None

    def __post_init__(self) -> None:
        """Refuse models that images cannot go between."""
        for what in ("surrogates", "targets", "attacks"):
            if not getattr(self, what):
                raise BadInput(f"There are no {what}; expected one or more.")
        for models, target in itertools.product(self.surrogates.values(), self.targets.values()):
            check_fit(models, target)

    def measure(self, data: Data, on_progress: Callable[[float], None] = lambda share: None) -> Crossings:
        """Return what carries over on the images of `data`.

        Cost: per image and surrogate one attack, one forward through every model for the clean prediction, and for
        every attack and surrogate one through every target. Raises `BadInput` for images or labels that a model cannot
        take.
        """
        keys = itertools.product(self.attacks, self.surrogates, self.targets)
        total = Crossings(tuple(Crossing(*key) for key in keys), 0, 0, (0, 0), 0)
        with contextlib.ExitStack() as stack:
            models = {**self.surrogates, **{name: (model,) for name, model in self.targets.items()}}
            oracles = {name: stack.enter_context(held(each, self.batch)) for name, each in models.items()}
            for at in range(0, len(data), _AT_ONCE):
                loaded = data.load(range(at, min(at + _AT_ONCE, len(data))))
                samples = [one for one in loaded if isinstance(one, Sample)]
                total = dataclasses.replace(total, unreadable=total.unreadable + len(loaded) - len(samples))
                if samples:
                    total = self._chunk(total, samples, oracles)
                on_progress(min(1.0, (at + _AT_ONCE) / len(data)))
        return total

    def _chunk(self, total: Crossings, samples: Sequence[Sample], oracles: Mapping[str, TorchOracle]) -> Crossings:
        problem, draws = self._problem(samples, oracles)
        right, goals = {}, {}
        ids = [one.id for one in samples]
        # the labels are checked against the answer before anything is asked about them
        any_label = Untargeted(torch.zeros_like(problem.goal.y))
        for name, oracle in oracles.items():
            logits = oracle.look(problem.x, any_label, margin, Access.SCORES, draws).logits
            scores = apart(logits, oracle.rejects).logits
            check_scores(scores, "logits")
            check_one_score(oracle, problem.x, scores, "logits")
            check_labels(problem.goal.y, ids, scores.shape[1])
            if not bool(scored(logits).any()):
                # a model that has scores for no image would end as a table of no images
                check_numbers(logits, ids, name)
            # a refused image is no right answer, and an attack that ends there has not broken the model
            right[name] = scored(logits) & (answer_of(logits) == problem.goal.y)
            goals[name] = Untargeted(problem.goal.y, -1 if oracle.rejects else None)
        n, each = len(samples), iter(total.each)
        (forwards, backwards), judged, counted = total.made, total.judged + n * len(oracles), []
        for attack, name in itertools.product(self.attacks, self.surrogates):
            method = for_norm(self.attacks[attack], self.threat.norm.name)
            found = crafted(method, dataclasses.replace(problem, oracle=oracles[name], goal=goals[name]), draws)
            forwards, backwards = forwards + int(found.forwards.sum()), backwards + int(found.backwards.sum())
            for target in self.targets:
                seen = oracles[target].look(found.x, goals[target], margin, Access.LABELS, draws)
                wrong = seen.reached & self.threat.allows(found.size) & self.threat.in_box(found.x)
                judged += n
                both = (right[name], right[target])
                counted.append(next(each).plus(both, wrong, found.success, scored(seen.logits)))
        return dataclasses.replace(
            total, each=tuple(counted), images=total.images + n, made=(forwards, backwards), judged=judged
        )

    def _problem(self, samples: Sequence[Sample], oracles: Mapping[str, TorchOracle]) -> tuple[Problem, Draws]:
        target = next(iter(self.targets.values()))
        x = self.threat.on_grid(stacked(samples, target.input_shape).to(target.device))
        y = torch.tensor([one.label for one in samples], device=x.device)
        draws = Draws.of([one.id for one in samples], self.seed)
        draws = dataclasses.replace(draws, ids=draws.ids.to(x.device))
        return Problem(next(iter(oracles.values())), x, Untargeted(y), self.threat), draws
