"""The preflight checks in one visible table; each reads the evidence and says value, expectation and fix."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from assay.core.answers import sum_to_hundred, sum_to_one
from assay.core.errors import AssayError, BadInput
from assay.core.oracle import Access
from assay.data import Data
from assay.evaluation.cost import Speed
from assay.evaluation.judging import judges_of
from assay.evaluation.loader import Loader
from assay.evaluation.study.attacks import method_of
from assay.evaluation.study.corruptions import is_tree
from assay.evaluation.study.spec import DataSpec, ModelSpec, Study
from assay.models import Classifier
from assay.models.deployed import step_of
from assay.models.normalized import Thresholded
from assay.preflight.accuracy import clean_accuracy, with_mean
from assay.preflight.deployed import access, digits, latency, levels, parity
from assay.preflight.evidence import gather
from assay.preflight.findings import Case, Finding, Findings, Level
from assay.wording import plural

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FEW, THOROUGHLY = 32, 200
"""How many images are looked at before every run, and by `assay doctor`."""

_ANY_SIZE = (224, 224)

UNUSABLE = "model and images"
"""The check of what cannot even be asked: no run is possible with it."""

_PROBABILITIES = (
    "The model returns {what}. Gradients of a saturated softmax vanish and attacks look "
    "weaker than they are. Return logits, or pass --outputs probabilities to attack log-probabilities; the report "
    "will say so. Of a judge: --judge-outputs probabilities."
)
_PROBABILITIES_ASKED = (
    "The model returns {what}, expected logits. Near 1 a probability hardly moves, attacks "
    "on scores meet plateaus, and the model looks stronger than it is. Pass --outputs probabilities: their logarithm "
    "is attacked; the report will say so. Of a judge: --judge-outputs probabilities."
)
_FEWEST = 10
_DIM, _DIVIDED_TWICE = 0.1, 0.02
"""Brightest pixels below which images do not use their range, and below which they were divided twice."""


def examine(model: Classifier, data: Data, most: int = THOROUGHLY, batch: int | None = None) -> Findings:
    """Look at up to `most` images, at most `batch` per pass, and return what the checks find, the worst first."""
    title = f"{model.spec} on {data.source}"
    try:
        case = Case(model, data, gather(model, data, most, batch))
    except AssayError as error:
        return Findings((Finding(Level.ERROR, UNUSABLE, str(error)),), None, title)
    found = (finding for check in CHECKS.values() for finding in check(case))
    return Findings(tuple(sorted(found, key=lambda one: list(Level).index(one.level))), case.seen.speed, title)


def model_notes(case: Case) -> Iterable[Finding]:
    """Whatever was noted when the model was read."""
    for note in case.model.notes:
        yield Finding(Level.NOTE, "model", note)


def outputs(case: Case) -> Iterable[Finding]:
    """Finite logits, as said, and no probabilities where logits were said."""
    logits = case.seen.logits
    if not _finite(logits):
        bad = int((~torch.isfinite(logits)).any(1).sum())
        told = f"The model returns NaN or infinite values for {bad} of {case.n} images, expected finite logits. "
        fix = "Look for a division by zero, or an overflow."
        if _finite(case.seen.trained):
            fix = "It needs train mode: its batch-norm statistics are unfit. Run it in train mode over training data."
        yield Finding(Level.ERROR, "outputs", told + fix)
    elif case.model.outputs == "probabilities":
        yield _log_probabilities(logits, step_of(case.model))
    elif (what := _shares(logits)) and case.model.access is not Access.LABELS:
        told = _PROBABILITIES if case.model.access is Access.GRADIENT else _PROBABILITIES_ASKED
        yield Finding(Level.ERROR, "outputs", told.format(what=what))
    elif case.seen.sigmoid:
        yield Finding(Level.ERROR, "outputs", case.seen.sigmoid)
    elif case.seen.one_score:
        module = case.model.module
        threshold = module.threshold if isinstance(module, Thresholded) else 0
        yield Finding(Level.GOOD, "outputs", f"finite, one score per image: class 1 above {threshold:g}")
    else:
        yield Finding(Level.GOOD, "outputs", f"finite logits for {case.classes} classes")


def _shares(scores: Tensor) -> str:
    """Return what scores are whose rows all sum to 1, or to 100; "" for any others."""
    if bool(sum_to_one(scores).all()):
        return "probabilities (each row sums to 1)"
    return "percentages (each row sums to 100)" if bool(sum_to_hundred(scores).all()) else ""


def eval_mode(case: Case) -> Iterable[Finding]:
    """Equal answers to equal images in eval mode, alone and in a batch."""
    seen = case.seen
    if not _finite(seen.logits):
        return
    size = float(seen.logits.abs().max()) or 1.0
    twice = float((seen.twice[1] - seen.twice[0]).abs().max()) / size
    # with the refusal, which the logits of the classes do not show
    beside = seen.logits if seen.refused is None else seen.twice[0]
    alone = float((seen.alone - beside[:1]).abs().max()) / size
    if twice > 1e-4:
        told = (
            f"The same images give different answers in eval mode (by {twice:.2g} of the largest logit), expected "
            "equal ones. Something is random or keeps a state: functional dropout without training=self.training, "
            "noise, statistics that move. One gradient then misleads an attack, and the model looks robust."
        )
        yield Finding(Level.WARNING, "eval mode", told)
    elif alone > 1e-3:
        told = (
            f"An image alone gets another answer than in a batch (by {alone:.2g} of the largest logit), expected the "
            "same. Statistics of the batch are in use in eval mode, and numbers depend on the batch. Use running ones."
        )
        yield Finding(Level.WARNING, "eval mode", told)
    else:
        yield Finding(Level.GOOD, "eval mode", "equal answers to equal images, alone and in a batch")


def train_mode(case: Case) -> Iterable[Finding]:
    """No model that is only any good in train mode."""
    seen = case.seen
    if not _finite(seen.trained) or not _finite(seen.logits):
        return
    if seen.right_in_train_mode - seen.right > max(3, 0.2 * case.n):
        told = (
            f"The model is right on {seen.right_in_train_mode} of {case.n} images in train mode and on {seen.right} in "
            "eval mode, expected the reverse. Its batch-norm statistics were never calibrated: save the model after "
            "training, or run it in train mode over training data once. Assay measures in eval mode."
        )
        yield Finding(Level.WARNING, "train mode", told)


def gradients(case: Case) -> Iterable[Finding]:
    """No input gradient that is exactly zero."""
    gradient = case.seen.gradient
    if case.model.access is not Access.GRADIENT:
        # `access` says so, and the plan refuses attacks that ask for more
        return
    if isinstance(gradient, str):
        yield Finding(Level.WARNING, "gradients", gradient)
        return
    zero = int((gradient.flatten(1) == 0).all(1).sum())
    if zero == 0:
        yield Finding(Level.GOOD, "gradients", f"no zero gradient in {len(gradient)} images")
        return
    told = f"The gradient is exactly zero for {zero} of {len(gradient)} images, expected none. "
    why = "The softmax is saturated"
    if zero == len(gradient):
        why = "The softmax is saturated, or the model rounds or thresholds on its way"
    weak = "; gradient attacks are then weak, not the model strong. Try pgd:objective=scaled_cross_entropy."
    yield Finding(Level.WARNING, "gradients", told + why + weak)


def _finite(logits: Tensor | None) -> bool:
    return logits is not None and bool(torch.isfinite(logits).all())


def _log_probabilities(logits: Tensor, step: float) -> Finding:
    total = float(logits.logsumexp(1).exp().mean())
    # those that a file rounds are off by up to half a step each
    if abs(total - 1) < 1e-2 + step / 2 * logits.shape[1]:
        return Finding(Level.GOOD, "outputs", "probabilities, as said: their logarithm is attacked")
    if bool(sum_to_hundred(logits.exp()).all()):
        # a constant in front of all of them moves no class and no search
        return Finding(Level.GOOD, "outputs", "percentages, which are probabilities: their logarithm is attacked")
    told = f"--outputs probabilities was given, but rows sum to {total:.3g}, expected 1. Leave it out for logits."
    return Finding(Level.ERROR, "outputs", told)


def images(case: Case) -> Iterable[Finding]:
    """Images that use their range, all of them readable."""
    x = case.seen.x
    brightest = float(x.max())
    # what the files hold is a better advice than what their pixels became
    noted = any("they seem to hold" in note for note in case.data.about_pictures)
    if brightest < _DIM and not noted:
        told = f"The brightest pixel of {case.n} images is {brightest:.3g}, expected values up to 1. "
        yield Finding(Level.WARNING, "images", told + _why_dim(brightest))
    elif not noted:
        yield Finding(Level.GOOD, "images", f"{list(x.shape[1:])}, from {float(x.min()):.3g} to {float(x.max()):.3g}")
    for note in case.data.about_pictures:
        yield Finding(Level.WARNING, "images", note)
    for one in case.seen.unreadable[:3]:
        yield Finding(Level.WARNING, "images", f"{one.id} could not be read and will be an error record: {one.error}")


def _why_dim(brightest: float) -> str:
    if brightest < _DIVIDED_TWICE:
        return "Were they divided by 255 twice?"
    # digits of scikit-learn are bytes up to 16 (0.0627); models trained on such images answer well, and nothing shows
    return (
        f"In bytes that is {255 * brightest:.0f} of 255. If it stands for white in your data, divide by it: ?scale=N "
        "behind npz: and hdf5:, ?white=N behind folder: and table:. Budgets are shares of [0, 1], large against "
        "such images."
    )


def labels(case: Case) -> Iterable[Finding]:
    """Labels of more than one class, and whatever was noted when they were read."""
    for note in case.data.notes:
        if note not in case.data.about_pictures:
            yield Finding(Level.WARNING, "labels", note)
    if len(set(case.data.labels)) == 1 and len(case.data) > _FEWEST:
        told = f"All {len(case.data)} samples have the label {case.data.labels[0]}, expected several labels."
        yield Finding(Level.WARNING, "labels", told)


def normalisation(case: Case) -> Iterable[Finding]:
    """A normalisation that Assay knows."""
    if case.model.mean is not None:
        yield Finding(Level.GOOD, "normalisation", "known, and inside the model")
        return
    if case.model.spec.startswith("remote:"):
        told = "left to the endpoint; where it takes numbers that are normalised, its file says mean and std"
    else:
        named = with_mean(case.model.spec, case.seen.x.shape[1])
        told = (
            "The model's normalisation is unknown: it is taken to be inside, and images in [0, 1] go in as they are. "
            f"If it is not, say it: {named}. Budgets in normalised units need it."
        )
    yield Finding(Level.NOTE, "normalisation", told)


CHECKS: Mapping[str, Callable[[Case], Iterable[Finding]]] = {
    "model": model_notes,
    "outputs": outputs,
    "images": images,
    "labels": labels,
    "eval mode": eval_mode,
    "train mode": train_mode,
    "gradients": gradients,
    "access": access,
    "digits": digits,
    "8-bit images": levels,
    "twin": parity,
    "latency": latency,
    "clean accuracy": clean_accuracy,
    "normalisation": normalisation,
}


@dataclasses.dataclass(frozen=True)
class Look:
    """What a look before a run gave: warnings for its manifest, and the speed of each model, by label."""

    warnings: list[str] = dataclasses.field(default_factory=list)
    speeds: dict[str, Speed] = dataclasses.field(default_factory=dict)


def look(study: Study, loader: Loader) -> Look:
    """Look at a few images of every model and data set of a study.

    Raises `BadInput` with what would make every number wrong.
    """
    seen = Look(warnings=steps_of(study))
    for spec, source in pairs(study):
        model = loader.model(spec)
        findings = examine(model, loader.data(source, model), FEW, loader.batch)
        where = f"{spec.label} on {source.source}"
        for one in findings.errors:
            how = f"seen on a few images of {where}; --no-doctor, or doctor=False in Python, goes on regardless"
            raise BadInput(f"{one.text}\n({where if one.check == UNUSABLE else how})")
        seen.warnings.extend(f"{where}: {one.text}" for one in findings.warnings)
        if findings.speed is not None:
            seen.speeds[spec.label] = findings.speed
    return seen


def steps_of(study: Study) -> list[str]:
    """Return a warning for every attack of a study whose steps do not reach the edge of the ball."""
    # attacks that a file holds take no steps
    attacks = [one for grid in study.grids for one in grid.attacks if "file" not in one.options]
    told = (short_steps(method_of(one.attack, one.options, _ANY_SIZE), one.label) for one in attacks)
    return list(dict.fromkeys(itertools.chain.from_iterable(told)))


def short_steps(method: object, called: str = "") -> Iterator[str]:
    """Yield a warning for every attack of a method whose steps do not reach the edge of the ball, even in a line.

    `called` is the name it goes by, its class by default.
    """
    length, moves = getattr(method, "step_length", None), getattr(method, "iterations", getattr(method, "steps", 0))
    if length is not None and moves * length < 1 - 1e-9:
        way = f"{100 * moves * length:.2g} % of the way to the edge of the ball"
        yield (
            f"{called or type(method).__name__}: {plural(moves, 'step')} of {length:.3g} budgets lead at most {way}, "
            "so that its numbers say little about the budget. step_size is a share of the budget, not of the range of "
            f"pixels: leave it out, or give {1 / moves:.3g} or more."
        )
    parts = [getattr(method, field.name) for field in dataclasses.fields(method)] if _is_made(method) else []
    for part in parts:
        for one in part if isinstance(part, tuple) else (part,):
            # a choice by norm is a pair of a name and a method
            for inner in one if isinstance(one, tuple) else (one,):
                if _is_made(inner):
                    yield from short_steps(inner, called)


def _is_made(value: object) -> TypeGuard[DataclassInstance]:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def pairs(study: Study) -> Iterator[tuple[ModelSpec, DataSpec]]:
    """Yield every model of a study with every data set it meets, once each, model by model."""
    met: dict[str, dict[tuple[ModelSpec, DataSpec], None]] = {}
    for grid in study.grids:
        for model in (*grid.models, *judges_of(grid)):
            # of a tree of corrupted images none is as the model was trained
            as_they_are = [data for data in grid.data if not is_tree(data.source)]
            met.setdefault(model.label, {}).update(((model, data), None) for data in as_they_are)
    for of_one_model in met.values():
        yield from of_one_model


__all__ = ["FEW", "THOROUGHLY", "UNUSABLE", "Look", "examine", "look", "pairs", "short_steps", "steps_of"]
