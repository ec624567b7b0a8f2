"""The checks, in one visible table: each reads the evidence and returns a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.audit.checks.attacks import (
    black_boxes,
    inside,
    minimum_norm,
    more_effort,
    neighbourhoods,
    objectives,
    silent_success,
    simple_attacks,
)
from assay.audit.checks.budgets import growing_budgets, twin_distances, unbounded
from assay.audit.checks.coverage import families, planted_solutions
from assay.audit.checks.defenses import (
    detector_gradients,
    elsewhere,
    forced_rejection,
    idle_detector,
    refusals_alone,
    threshold_drift,
)
from assay.audit.checks.finding import Check
from assay.audit.checks.gradients import rounding, steady_answers, true_gradients, zero_gradients
from assay.audit.checks.model import company, dynamic, probabilities, randomness
from assay.audit.evidence import Evidence
from assay.audit.subject import GRADIENT_STEPS
from assay.evaluation.records.verdicts import Finding

VERSION = 4
"""Raised when a check or the rule of the verdict changes: older verdicts are then made anew."""

_PROPOSED = "proposed, calibrated on the honest and the broken models"

CHECKS: Mapping[str, Check] = {
    "detector gradients": Check(
        detector_gradients,
        probe="refusals",
        summary="the score that images are refused by has no gradient",
        value="images on which the gradient of the detector's score is exactly zero",
        unit="% of images",
        source="5 % proposed, as for zero gradients",
        cause="the detector's score has no gradient",
        remedy="No attack can follow it: leave the score in the graph, or attack past what cuts it (BPDA).",
        masks=True,
        of_defenses=True,
    ),
    "refusals in company": Check(
        refusals_alone,
        probe="refusals",
        summary="refusals depend on the other images of the batch",
        value="images whose detector's score depends on the others of the batch",
        unit="% of images",
        source="any; Ma et al. 2018 score an image against its batch",
        cause="refusals depend on the batch",
        remedy="What an image is compared with must be part of the model: freeze the reference batch.",
        of_defenses=True,
    ),
    "idle detector": Check(
        idle_detector,
        probe="refusals",
        summary="the detector refuses nothing",
        value="wrong images made without regard to the detector that it refuses",
        unit="% of images",
        source="proposed: none",
        cause="the detector refuses nothing",
        remedy="Its threshold is above every score: choose it on held-out clean images (assay defend fit).",
        of_defenses=True,
    ),
    "zero gradients": Check(
        zero_gradients,
        probe="sight",
        summary="the gradient that the evaluation climbs is exactly zero",
        value="images whose gradient is exactly zero",
        unit="% of images",
        source="Pintor et al. 2022 flag any; 5 % proposed",
        cause="the gradient is exactly zero",
        remedy="An attack on it stands still: climb an objective that has a gradient, or attack past what cuts it.",
        masks=True,
    ),
    "rounding": Check(
        rounding,
        probe="sight",
        summary="float32 rounds the gradient away",
        value="signs of the gradient that are the same in float32 and in float64",
        unit="% of signs",
        source=_PROPOSED,
        cause="the softmax is saturated in float32",
        remedy="Climb the margin, the DLR or a rescaled cross-entropy, whose gradients do not depend on the scale "
        "of logits.",
    ),
    "true gradients": Check(
        true_gradients,
        probe="slopes",
        summary="autograd and finite differences disagree",
        value="agreement of the slopes that autograd tells with those measured",
        unit="cosine",
        source=_PROPOSED,
        cause="the gradient is not that of the model",
        remedy="Attack past what rounds, detaches or randomises the output (BPDA, eot), or without gradients.",
        masks=True,
        untrue=True,
    ),
    "randomness": Check(
        randomness,
        probe="answers",
        summary="the model answers differently when asked again",
        value="images about which the model answers differently when asked again",
        unit="% of images",
        source="Croce and Hein 2020 flag any",
        cause="the model is random, and the attack does not average over that",
        remedy="Average the gradient over the randomness: eot=20.",
        masks=True,
        untrue=True,
    ),
    "dynamic forward pass": Check(
        dynamic,
        probe="answers",
        summary="the forward pass computes gradients or changes the model",
        value="gradients computed inside the forward pass, and one for a change of the model",
        unit="count",
        source="Croce and Hein 2020 flag any",
        cause="the model optimises while it answers",
        remedy="Attack the optimisation as if it were the identity (BPDA), and without gradients.",
        masks=True,
        untrue=True,
    ),
    "objectives": Check(
        objectives,
        probe="paths",
        summary="another objective breaks more at the same number of steps",
        value="survivors that the best objective breaks beyond those that the cross-entropy breaks",
        unit="% of survivors",
        source=_PROPOSED,
        cause="the objective of the attack is blind",
        remedy="Attack with the objective that breaks the most.",
    ),
    "single steps and noise": Check(
        simple_attacks,
        probe="simple",
        summary="a single step or noise breaks survivors",
        value="survivors that the better of the two breaks",
        unit="% of survivors",
        source="Athalye et al. 2018; 1 % and two images proposed",
        cause="a weaker attack beats the evaluation",
        remedy="A stronger attack must not lose to a weaker one: look for gradients that lie, a wrong step, too few "
        "steps.",
    ),
    "minimum norm": Check(
        minimum_norm,
        probe="nearest",
        summary="a minimum-norm attack breaks survivors",
        value="survivors that a short minimum-norm attack breaks",
        unit="% of survivors",
        source=_PROPOSED,
        cause="a short minimum-norm attack beats the evaluation",
        remedy="Add a minimum-norm attack to the evaluation, or use the cascade, which holds some in L2 and L1.",
    ),
    "black boxes": Check(
        black_boxes,
        probe="black_box",
        summary="attacks without gradients break survivors",
        value="survivors that the best attack without gradients breaks",
        unit="% of survivors",
        source="Croce and Hein 2020 flag 0.2 %; 2 % and two images proposed for small samples",
        cause="an attack without gradients beats the evaluation",
        remedy="Who sees the gradient must do no worse than who does not: the gradients are masked; see the other "
        "findings.",
        masks=True,
    ),
    "network inside": Check(
        inside,
        probe="guided",
        summary="the slopes of something inside the model break survivors",
        value="survivors that the best guide breaks",
        unit="% of survivors",
        source=_PROPOSED,
        cause="the network inside is as weak as it was",
        remedy="Attack along the gradient of the network, the features or the wide slopes inside, and let the model "
        "judge.",
        masks=True,
    ),
    "neighbourhoods": Check(
        neighbourhoods,
        probe="wide",
        summary="gradients of a neighbourhood as wide as the budget break survivors",
        value="survivors that averaged gradients break",
        unit="% of survivors",
        source=_PROPOSED,
        cause="the gradient at a point says little about the ball around it",
        remedy="Average the gradient over points around, as far away as the budget goes (averaged).",
        masks=True,
    ),
    "growing budgets": Check(
        growing_budgets,
        probe="growth",
        summary="a larger budget helps less",
        value="largest fall of the success from a smaller to a larger budget",
        unit="% of images",
        source="Carlini et al. 2019; 10 % and two images proposed",
        cause="success does not grow with the budget",
        remedy="A larger ball holds all that a smaller one holds: look for gradients that lie, or a wrong step.",
        masks=True,
    ),
    "unbounded attack": Check(
        unbounded,
        probe="growth",
        summary="images withstand any change at all",
        value="images left standing where none should be",
        unit="% of images",
        source="Carlini et al. 2019 expect 100 % success; 10 % and two images proposed",
        cause="the attack fails even without a budget",
        remedy="Nothing can be robust to that: use an attack that works on this model; see the other findings.",
        masks=True,
    ),
    "more effort": Check(
        more_effort,
        probe="again",
        summary="other starts and more steps break survivors",
        value="survivors that the evaluation breaks when it is repeated",
        unit="% of survivors",
        source="Carlini et al. 2019; 2 % and two images proposed",
        cause="the attack was stopped too early",
        remedy="Raise steps and restarts until nothing more breaks.",
        stopped_early=True,
    ),
    "planted solutions": Check(
        planted_solutions,
        probe="planted",
        summary="the evaluation misses adversarial images that are there",
        value="planted adversarial images that the evaluation finds",
        unit="% of those planted",
        source="Zimmermann et al. 2022, 95 %",
        cause="the attack misses what is there",
        remedy="The attack misses what is there: use more steps, restarts, another objective, or the cascade.",
        misses=True,
    ),
    "two families": Check(
        families,
        probe="black_box",
        summary="no iterative gradient attack ran, or no attack without gradients",
        value="kinds of attack that ran, of two",
        unit="count",
        source="Carlini et al. 2019 ask for both",
        cause="the evaluation is a weak attack",
        remedy=f"Evaluate with a gradient attack of {GRADIENT_STEPS} steps or more, and with one that sees scores or "
        "labels alone.",
        weak=True,
    ),
    "twin distances": Check(
        twin_distances,
        probe="twins",
        summary="adversarial images are no farther away than for an undefended twin",
        value="median distance of the nearest adversarial images, over that for the twin",
        unit="ratio",
        source="Carlini and Wagner 2017 saw 1.25 for defensive distillation",
        cause="the defence moved no boundary",
        remedy="Look for what hides the boundary from the attack: see the other findings.",
    ),
    "steady answers": Check(
        steady_answers,
        probe="slopes",
        summary="answers change within a few grey levels",
        value="mean change of the margin within four grey levels",
        unit="% of the margin",
        source="Pintor et al. 2022, 10 %",
        cause="answers are noise around an image",
        remedy="Smooth the gradient: average it over points around (averaged), or over the model's randomness (eot).",
        mandatory=False,
    ),
    "batch": Check(
        company,
        probe="answers",
        summary="answers depend on the other images of the batch",
        value="images whose answer depends on the others of the batch",
        unit="% of images",
        source="any",
        cause="answers depend on the batch",
        remedy="Put the model in eval mode, or ask about one image at a time (batch=1).",
        mandatory=False,
    ),
    "probabilities": Check(
        probabilities,
        probe="answers",
        summary="the model returns probabilities",
        value="1 where the model returns probabilities, 0 where it does not",
        unit="yes or no",
        source="Croce and Hein 2020",
        cause="the softmax is saturated",
        remedy="Return logits.",
        mandatory=False,
    ),
    "silent success": Check(
        silent_success,
        probe="paths",
        summary="images are adversarial on the way and not at the end",
        value="images that were adversarial on the way and no longer at the end",
        unit="% of survivors",
        source="Pintor et al. 2022 flag any",
        cause="the last point of an attack is not its best",
        remedy="Judge every point of the path, as this number does; a tool that judges the last one alone reads too "
        "high.",
        mandatory=False,
    ),
    "threshold drift": Check(
        threshold_drift,
        probe="refusals",
        summary="the frozen threshold refuses more or fewer clean images than it was chosen to",
        value="clean images that are refused",
        unit="% of images",
        source="intervals that do not meet",
        cause="the threshold is not what it was chosen for",
        remedy="Choose the threshold on clean images like those of the run.",
        mandatory=False,
        of_defenses=True,
    ),
    "forced rejection": Check(
        forced_rejection,
        probe="refusals",
        summary="refusals can be forced",
        value="accepted images for which an attack forces a refusal",
        unit="% of images",
        source="any",
        cause="refusals can be forced",
        remedy="Measure it: goal 'untargeted strict'.",
        mandatory=False,
        of_defenses=True,
    ),
    "other norms": Check(
        elsewhere,
        probe="other_norms",
        summary="the defence does not help in other norms",
        value="median distance of the nearest adversarial images in another norm, over that without the defence",
        unit="ratio",
        source="as for twin distances",
        cause="the defence helps in one norm alone",
        remedy="Say in which norm the number holds; evaluate the others.",
        mandatory=False,
        of_defenses=True,
    ),
}


def examine(evidence: Evidence) -> tuple[Finding, ...]:
    """Return what every check finds; those of defences are asked where there are any."""
    asked = {
        name: one for name, one in CHECKS.items() if not one.of_defenses or getattr(evidence, one.probe) is not None
    }
    return tuple(check.find(name, evidence) for name, check in asked.items())


def flags(findings: Sequence[Finding]) -> list[Finding]:
    """Return the mandatory findings that flag."""
    return [one for one in findings if one.flag and one.mandatory]


def flagging(findings: Sequence[Finding]) -> list[Check]:
    """Return the checks of the mandatory findings that flag."""
    return [CHECKS[one.check] for one in flags(findings)]


__all__ = ["CHECKS", "VERSION", "Check", "examine", "flagging", "flags"]
