"""What the functions for notebooks are given, checked: every slip is named before it becomes a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks import fitting
from assay.core.compose import Composition, Method, confirmed, is_attack
from assay.core.draws import Draws
from assay.core.errors import BadInput, ModelError, did_you_mean
from assay.core.goal import Goal, OutOfTop, Untargeted, excluded, scored
from assay.core.multi_label import MULTI_LABEL
from assay.core.objective import margin
from assay.core.oracle import Access, Observation, TorchOracle
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, nothing, put, unbilled
from assay.core.search import judge_point
from assay.core.signals import apart
from assay.core.tensors import take
from assay.core.threat import Threat
from assay.evaluation.attack_unit import check_scores
from assay.evaluation.experiment import check_labels
from assay.evaluation.one_score import check_one_score, check_several
from assay.evaluation.study.adaptive import check_detector
from assay.models import Classifier
from assay.models.load import log_odds_of, undigested_model

# defences that answer with the classes' probabilities or distances, of which one is the highest
_ONE_CLASS = ("crop-ensemble", "rbf-head")
_SETTINGS = ("goal", "seed", "ids", "keep", "batch")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model to attack, the problem, the samples' draws, and the attack, confirmed where the model is random."""

    classifier: Classifier
    problem: Problem
    draws: Draws
    method: Method

    @classmethod
    def of(  # shape: the arguments of `assay.attack`, checked in one place
        cls,
        method: Method,
        model: nn.Module | Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        settings: dict[str, Any],
    ) -> Case:
        """Return the case, or raise `BadInput` saying which argument is wrong, what was expected, and the fix."""
        for name in settings:
            if name not in _SETTINGS:
                near = did_you_mean(name, _SETTINGS)
                raise BadInput(f"Unknown setting {name!r}.{near} Expected one of {', '.join(_SETTINGS)}.")
        check_method(method)
        if not isinstance(threat, Threat):
            raise BadInput(f"threat is {threat!r}, expected one such as assay.Linf({threat!r}).")
        check_images(x, y, threat, settings.get("goal"))
        x = threat.on_grid(x.detach())
        classifier = model if isinstance(model, Classifier) and model.digest else undigested_model(model)
        check_place(x, classifier)
        check_access(method, classifier)
        check_detector(method, classifier)
        if isinstance(settings.get("goal"), MULTI_LABEL):
            classifier = log_odds_of(classifier)
        ids = settings.get("ids") or [str(i) for i in range(len(x))]
        if len(ids) != len(x):
            raise BadInput(f"{len(ids)} ids for {len(x)} images; expected one per image.")
        draws = Draws.of(list(ids), settings.get("seed", 0))
        draws = dataclasses.replace(draws, ids=draws.ids.to(x.device))
        oracle = classifier.oracle(settings.get("batch"))
        goal = checked_goal(settings.get("goal"), y, -1 if classifier.rejects else None)
        check_classes_only(goal, classifier)
        problem = Problem(oracle, x, goal, threat.in_units_of(classifier.std))
        return cls(classifier, problem, draws, confirmed(method) if classifier.random else method)

    def found(self, search: Callable[[Problem, Draws], list[SearchResult]]) -> list[SearchResult]:
        """Return what `search` finds, at one budget or several, about the images that the goal does not leave out.

        Those that it leaves out are asked about once, and shown as they are. Raises `ModelError` where the model has
        no scores for an image itself.
        """
        x, goal = self.problem.x, self.problem.goal
        left_out = excluded(goal)
        if not bool(left_out.any()):
            found = search(self.problem, self.draws)
        else:
            at, rest = left_out.nonzero().squeeze(1), (~left_out).nonzero().squeeze(1)
            told = search(take(self.problem, rest), self.draws.take(rest))
            seen = self._look(at)
            own = judge_point(seen, x[at], take(self.problem, at))
            own = own._replace(success=torch.zeros_like(own.success))
            # one pass for all budgets, which the first one bears
            each = [own, *(unbilled(own) for _ in told[1:])]
            found = [
                put(put(nothing(x), at, one, Keeps.LAST), rest, new, Keeps.LAST)
                for one, new in zip(each, told, strict=True)
            ]
        self._check_scored(found)
        return found

    def _look(self, at: Tensor) -> Observation:
        own = take(self.problem, at)
        return own.oracle.look(own.x, own.goal, margin, Access.LABELS, self.draws.take(at))

    def _check_scored(self, found: Sequence[SearchResult]) -> None:
        # images that no look found without scores need none of their own
        lost = torch.zeros(len(self.problem.x), dtype=torch.int64, device=self.problem.x.device)
        for one in found:
            lost += one.unscored
        at = lost.nonzero().squeeze(1)
        if not len(at):
            return
        bad = at[~scored(self._look(at).logits)].tolist()
        if bad:
            raise ModelError(
                f"The model returned NaN or infinite scores for {len(bad)} of {len(lost)} images themselves, such as "
                f"x[{bad[0]}]: there is no answer to attack. Leave these images out, or mend the model (a logarithm or "
                "a division by zero, an overflow in half precision)."
            )

    def ask_one(self) -> None:
        """Ask about one image, to refuse labels beyond the model's classes, and probabilities in place of logits."""
        x, goal = self.problem.x[:1], self.problem.goal
        if not len(x):
            return
        first = torch.arange(1, device=x.device)
        any_label = Untargeted(torch.zeros_like(first))
        assert isinstance(self.problem.oracle, TorchOracle), "a classifier's own"
        logits = self.problem.oracle.look(x, any_label, margin, Access.SCORES, self.draws.take(first)).logits
        if isinstance(goal, MULTI_LABEL):
            check_several(self.problem.oracle, x, logits, goal.y.shape[1])
            return
        logits = apart(logits, self.classifier.rejects).logits
        check_scores(logits, self.classifier.outputs, self.classifier.access)
        check_one_score(self.problem.oracle, x, logits, self.classifier.outputs)
        names = [str(i) for i in range(len(goal.y))]
        check_labels(goal.y, names, logits.shape[1])
        target = getattr(goal, "t", None)
        if target is not None and not bool(((target >= 0) & (target < logits.shape[1])).all()):
            raise BadInput(
                f"The goal's target {int(target.max())} is out of range: this model has {logits.shape[1]} classes, "
                f"0 to {logits.shape[1] - 1}."
            )


def check_method(method: object) -> None:
    """Raise `BadInput` for a name or a class where an attack is expected."""
    if isinstance(method, type):
        raise BadInput(f"method is the class {method.__name__}, expected an attack: {method.__name__}().")
    if is_attack(method) or isinstance(method, Composition):  # type: ignore[arg-type]  # whatever the user gave
        return
    raise BadInput(
        f"method is {method!r}; expected an attack such as assay.PGD(steps=40). By name: assay.attacks.build('pgd')."
    )


def check_access(method: Method, model: Classifier) -> None:
    """Raise `BadInput` for an attack that needs more than the model gives."""
    needs = method.access
    if needs > model.access:
        raise BadInput(
            f"The attack needs {needs.name.lower()} and the model gives {model.access.name.lower()} alone. "
            f"Attacks that fit: {', '.join(fitting(model.access))}."
        )


def check_place(x: Tensor, model: Classifier) -> None:
    """Raise `BadInput` for images on another device than the model's."""
    if x.device != model.device:
        raise BadInput(
            f"x is on {x.device} and the model on {model.device}: move the images, x.to({str(model.device)!r})."
        )


def check_images(x: object, y: object, threat: Threat, goal: object = None) -> None:
    """Raise `BadInput` for what are no images `[N, C, H, W]` in the box with labels for the goal."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise BadInput(f"{name} is a {type(value).__name__}, expected a tensor: torch.as_tensor({name}).")
    assert isinstance(x, Tensor) and isinstance(y, Tensor)
    if x.ndim != 4 or not x.is_floating_point():
        fix = {2: "x.reshape(-1, C, H, W)", 3: "x[:, None] for grey images, x[None] for one image"}.get(x.ndim, "")
        fix = fix or ("x.float() / 255 for 8-bit ones" if x.ndim == 4 else "")
        raise BadInput(
            f"x is {list(x.shape)} of {x.dtype}, expected floating-point images [N, C, H, W]{fix and ': '}{fix}."
        )
    _check_truth(y, len(x), several=isinstance(goal, MULTI_LABEL))
    if not bool(torch.isfinite(x).all()):
        raise BadInput("x contains NaN or infinite pixels; expected values in [0, 1].")
    if not len(x):
        return
    low, high = threat.box
    darkest, brightest = (float(value) for value in torch.aminmax(x.detach()))
    if darkest < low or brightest > high:
        raise BadInput(
            f"x has pixels from {darkest:.4g} to {brightest:.4g}, outside the box [{low:g}, {high:g}]. "
            "Images are in [0, 1]: divide 8-bit values by 255, others by the value of white in their data, and put "
            "normalisation inside the model (assay.models.Normalized(module, mean, std))."
        )


def _check_truth(y: Tensor, n: int, *, several: bool) -> None:
    told = f"y is {list(y.shape)} of {y.dtype}, expected"
    if several:
        if y.ndim != 2 or len(y) != n:
            raise BadInput(f"{told} multi-hot labels [{n}, K] for this goal: 1 where an image has the label, else 0.")
        return
    if y.ndim == 2 and len(y) == n and y.shape[1] > 1:
        fix = "One-hot labels become class numbers by y.argmax(1)."
        if not bool((y != 0).sum(1).eq(1).all()):
            fix = (
                "For a multi-label model say what counts as broken: goal=assay.MultiLabel(y) (any decision differs), "
                "assay.MultiLabel(y, 'hide') (a present label is missed), assay.MultiLabel(y, 'add') (an absent one "
                "appears) or assay.MultiLabelTargeted(y, t)."
            )
        raise BadInput(f"{told} int64 labels [{n}], one label per image. {fix}")
    if y.shape != (n,) or y.dtype != torch.int64:
        whole = y.numel() == n and (not y.is_floating_point() or bool((y == y.round()).all()))
        fix = " Class numbers of another type or shape become such labels by y.flatten().long()." if whole else ""
        raise BadInput(f"{told} int64 labels [{n}], one per image.{fix}")
    if n and int(y.min()) < 0:
        raise BadInput(f"The label {int(y.min())} is negative; labels are class numbers from 0.")


def check_classes_only(goal: Goal, classifier: Classifier) -> None:
    """Raise `BadInput` for a goal that reads the answers in a way that the model's defences do not allow."""
    if isinstance(goal, OutOfTop) and classifier.rejects:
        raise BadInput(
            "The goal assay.OutOfTop ranks classes, and this model may refuse instead. Use assay.Untargeted(y, -1)."
        )
    of_classes = [step.name for step in classifier.defenses if step.entry.detects or step.name in _ONE_CLASS]
    if isinstance(goal, MULTI_LABEL) and (classifier.rejects or of_classes):
        raise BadInput(
            f"{', '.join(of_classes) or 'A model that refuses images'} takes an image to be of one class, and the goal "
            "has several labels for each. Leave it out."
        )


def checked_goal(goal: object, y: Tensor, reject: int | None = None) -> Goal:
    """Return the goal, `Untargeted(y, reject)` for None. Raises `BadInput` for one that holds other labels than `y`."""
    if goal is None:
        return Untargeted(y, reject)
    labels = getattr(goal, "y", None)
    if not isinstance(labels, Tensor) or isinstance(goal, type):
        raise BadInput(f"goal is {goal!r}, expected a goal such as assay.Targeted(y, t) or assay.OutOfTop(y, 5).")
    if not torch.equal(labels, y.bool() if isinstance(goal, MULTI_LABEL) else y):
        raise BadInput("The goal holds other labels than y; build it from the same y.")
    return goal  # type: ignore[return-value]  # by its label tensor
