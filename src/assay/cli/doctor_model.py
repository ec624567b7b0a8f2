"""The doctor's checks of the model: its outputs, its modes, its gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from assay.cli.doctor_findings import Case, Finding, Level
from assay.core.oracle import Access
from assay.models.normalized import Thresholded

_PROBABILITIES = (
    "The model returns probabilities (each row sums to 1). Gradients of a saturated softmax vanish and attacks look "
    "weaker than they are. Return logits, or pass --outputs probabilities to attack log-probabilities; the report "
    "will say so."
)


def weights(case: Case) -> Iterable[Finding]:
    """Whatever was noted when the weights were read."""
    for note in case.model.notes:
        yield Finding(Level.NOTE, "weights", note)


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
        yield _log_probabilities(logits)
    elif _sums_to_one(logits):
        yield Finding(Level.ERROR, "outputs", _PROBABILITIES)
    elif case.seen.sigmoid:
        yield Finding(Level.ERROR, "outputs", case.seen.sigmoid)
    elif case.seen.one_score:
        module = case.model.module
        threshold = module.threshold if isinstance(module, Thresholded) else 0
        yield Finding(Level.GOOD, "outputs", f"finite, one score per image: class 1 above {threshold:g}")
    else:
        yield Finding(Level.GOOD, "outputs", f"finite logits for {case.classes} classes")


def eval_mode(case: Case) -> Iterable[Finding]:
    """Equal answers to equal images in eval mode, alone and in a batch."""
    seen = case.seen
    if not _finite(seen.logits):
        return
    size = float(seen.logits.abs().max()) or 1.0
    twice = float((seen.twice[1] - seen.twice[0]).abs().max()) / size
    alone = float((seen.alone - seen.logits[:1]).abs().max()) / size
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
        # it is known, and the plan refuses attacks that ask for more
        gives = case.model.access.name.lower()
        yield Finding(Level.NOTE, "gradients", f"the model gives {gives} alone, for attacks that ask for no gradients")
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


def _sums_to_one(logits: Tensor) -> bool:
    inside = bool((logits >= 0).all()) and bool((logits <= 1).all())
    return inside and logits.shape[1] > 1 and bool(((logits.sum(1) - 1).abs() < 1e-3).all())


def _log_probabilities(logits: Tensor) -> Finding:
    total = float(logits.logsumexp(1).exp().mean())
    if abs(total - 1) < 1e-2:
        return Finding(Level.GOOD, "outputs", "probabilities, as said: their logarithm is attacked")
    told = f"--outputs probabilities was given, but rows sum to {total:.3g}, expected 1. Leave it out for logits."
    return Finding(Level.ERROR, "outputs", told)
