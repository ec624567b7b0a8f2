"""The doctor's judgement of models that answer outside of torch, or can only be asked: files, endpoints, functions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from assay.attacks import fitting
from assay.core.oracle import Access
from assay.models.deployed import step_of
from assay.preflight.asking import asked_only
from assay.preflight.findings import Case, Finding, Level
from assay.wording import plural

_COARSE, _APART, _FAR, _SLOPE = 1e-3, 1e-3, 0.1, 0.3
_NAMED = 6


def access(case: Case) -> Iterable[Finding]:
    """Whoever gives scores or labels alone says so, with the attacks that fit."""
    gives = case.model.access
    if gives is Access.GRADIENT:
        return
    fits = fitting(gives, "linf")
    named = ", ".join(fits[:_NAMED])
    told = (
        f"the model gives {gives.name.lower()} alone; in linf {named} and others fit, or images made on another model "
        "(pgd:surrogate=MODEL). Its numbers say what was not broken within so many queries, and no audit trusts them "
        "without a white-box twin"
    )
    yield Finding(Level.NOTE, "access", told)


def digits(case: Case) -> Iterable[Finding]:
    """Scores with all of their digits, and of all classes."""
    if case.model.access is Access.LABELS or not asked_only(case.model) or not bool(case.seen.logits.isfinite().all()):
        return
    scores = case.seen.logits.double()
    if case.model.outputs == "probabilities":
        scores = scores.exp()
    size = float(scores.max() - scores.min()) or 1.0
    kept, coarse = _kept(scores), step_of(case.model) or _coarse(scores)
    if kept is not None:
        told = (
            f"At most {kept} of {case.classes} classes have a score of their own, expected all: the others are equal "
            "in every answer (top-k). An attack sees nothing of them. Ask for the scores of all classes, or use an "
            "attack that needs labels alone (hop-skip-jump)."
        )
        yield Finding(Level.WARNING, "digits", told)
    if coarse is not None:
        told = (
            f"Scores come in steps of {coarse:.3g} (their range is {size:.3g}), expected finer ones: they are rounded "
            "or quantised. A change that stays inside a step is not seen, attacks on scores meet plateaus, and the "
            "model looks stronger than it is. Ask an endpoint for all digits. With the float network, attack "
            "with its gradients (twin=) or judge its images (--judge)."
        )
        yield Finding(Level.WARNING, "digits", told)
    sure = (scores == scores.amax(1, keepdim=True)).sum(1) == 1
    runners = scores.masked_fill(scores == scores.amax(1, keepdim=True), -torch.inf).amax(1)
    hard = sure & (runners <= scores.amin()) & (case.classes > 2)
    if coarse is None and kept is None and not bool(hard.any()):
        yield Finding(Level.GOOD, "digits", f"scores of all {case.classes} classes, without visible steps")
    elif bool(hard.any()) and kept is None:
        told = (
            f"For {plural(int(hard.sum()), 'image')} of {case.n} all classes but one have the lowest score there is: "
            "the scores are saturated, and say nothing of the way to another class."
        )
        yield Finding(Level.WARNING, "digits", told)


def _kept(scores: Tensor) -> int | None:
    """Return how many classes have a score above the lowest of their row, where that is less than half of them."""
    classes = scores.shape[1]
    above = (scores > scores.amin(1, keepdim=True)).sum(1)
    most = int(above.max())
    # saturated scores tie by themselves, each row otherwise
    return most if classes >= 4 and 1 < most <= classes / 2 and bool((above == most).all()) else None


def _stepped(case: Case) -> bool:
    return step_of(case.model) > 0 or _coarse(case.seen.logits.double()) is not None


def _coarse(scores: Tensor) -> float | None:
    """Return the step that all scores are multiples of, where it is a noticeable part of their range; else None."""
    values = scores.flatten().sort().values
    apart_by = values.diff()
    apart_by = apart_by[apart_by > 1e-9]
    if len(apart_by) < 2:
        return None
    step = float(apart_by.min())
    off = (apart_by / step - (apart_by / step).round()).abs()
    # float32 rounds what a user rounded
    exact = bool((off < 0.02 + 4e-7 * float(scores.abs().max()) / step).all())
    return step if exact and step > _COARSE * float(values[-1] - values[0]) else None


def levels(case: Case) -> Iterable[Finding]:
    """Changes of less than half a grey level that reach the model, or a run on whole levels."""
    seen = case.seen.told.levels if case.seen.told is not None else None
    if seen is None or not all(bool(one.isfinite().all()) for one in seen):
        return
    whole, near = seen
    if torch.equal(whole, near) and _stepped(case):
        told = "whether changes of less than half a grey level reach the model cannot be told: its scores are rounded"
        yield Finding(Level.NOTE, "8-bit images", told)
    elif torch.equal(whole, near):
        told = (
            "Images less than half a grey level apart get the same scores, expected other ones: the model sees images "
            "of 8 bits (PNG, bytes), and whatever an attack changes by less is lost on the way. Judge what reaches it: "
            "--grid 255, unless the run has it."
        )
        yield Finding(Level.WARNING, "8-bit images", told)
    else:
        yield Finding(Level.GOOD, "8-bit images", "changes of less than half a grey level reach the model")


def latency(case: Case) -> Iterable[Finding]:
    """What an endpoint takes for an answer."""
    if not case.model.outside:
        return
    each = case.seen.speed.forward
    if each > 0:
        rate = f"{1 / each:,.0f} rows a second" if each < 1 else f"{each:.1f} s a row"
        told = f"{1000 * each:.3g} ms a row ({rate}); 1,000 queries for each of 100 images take {_hours(1e5 * each)}"
        yield Finding(Level.NOTE, "latency", told)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{max(1, round(seconds / 60))} min"


def parity(case: Case) -> Iterable[Finding]:
    """A white-box twin that answers and leads as the deployed model does."""
    told = case.seen.told
    if told is None or told.twin is None:
        return
    own, twin = (one.double() for one in told.twin)
    if own.shape != twin.shape:
        text = f"The twin gives {twin.shape[1]} scores, the deployed model {own.shape[1]}; expected the same classes."
        yield Finding(Level.ERROR, "twin", text)
        return
    if case.model.outputs == "probabilities":
        # logarithms of what is near 0 say more of how it was rounded than of the network
        own, twin = own.softmax(1), twin.softmax(1)
    own, twin = (one - one.mean(1, keepdim=True) for one in (own, twin))
    gap = float((own - twin).abs().max()) / (float(own.max() - own.min()) or 1.0)
    same = int((own.argmax(1) == twin.argmax(1)).sum())
    measured = f"Its scores differ by {gap:.2g} of their range, and {same} of {len(own)} images get the same class"
    off = None
    # answers in steps have no slope at a point
    if told.slopes is not None and not _stepped(case):
        found, expected = told.slopes
        off = float(((found - expected).abs() / expected.abs().clamp_min(1e-12)).median())
        measured += f"; the deployed model's slope along its gradient is {100 * off:.0f} % off"
    if gap > _FAR or same < len(own) or (off is not None and off > _SLOPE):
        fix = (
            "expected scores within 0.001 of the range and slopes within 30 %. Its gradients are those of another "
            "network, and attacks that follow them are weak: convert the file anew, or name the network that it was "
            "made of."
        )
        yield Finding(Level.WARNING, "twin", f"{measured}; {fix}")
    elif gap > _APART:
        told_of = (
            f"{measured}. It is near the deployed model and not the same, as a float network of a quantised file is"
        )
        yield Finding(Level.NOTE, "twin", told_of)
    else:
        yield Finding(Level.GOOD, "twin", f"{measured[0].lower()}{measured[1:]}")
