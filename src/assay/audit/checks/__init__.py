"""The checks, in one visible table: each reads the evidence and returns a finding."""

from __future__ import annotations

from collections.abc import Mapping

from assay.audit.checks.black_boxes import black_boxes
from assay.audit.checks.families import families
from assay.audit.checks.finding import Check
from assay.audit.checks.forward_pass import company, dynamic, probabilities, randomness
from assay.audit.checks.growing_budgets import growing_budgets, unbounded
from assay.audit.checks.more_effort import more_effort, silent_success
from assay.audit.checks.objectives import objectives
from assay.audit.checks.planted_solutions import planted_solutions
from assay.audit.checks.rounding import rounding
from assay.audit.checks.simple_attacks import simple_attacks
from assay.audit.checks.true_gradients import steady_answers, true_gradients
from assay.audit.checks.twin_distances import twin_distances
from assay.audit.checks.zero_gradients import zero_gradients
from assay.audit.evidence import Evidence
from assay.evaluate.verdict import Finding

VERSION = 2
"""Raised when a check or the rule of the verdict changes: older verdicts are then made anew."""

_PROPOSED = "proposed, calibrated on the honest and the broken models"

CHECKS: Mapping[str, Check] = {
    "zero gradients": Check(
        zero_gradients,
        "the gradient that the evaluation climbs is exactly zero",
        "Pintor et al. 2022 flag any; 5 % proposed",
        "the gradient is exactly zero",
    ),
    "rounding": Check(
        rounding,
        "float32 rounds the gradient away",
        _PROPOSED,
        "the softmax is saturated in float32",
    ),
    "true gradients": Check(
        true_gradients,
        "autograd and finite differences disagree",
        _PROPOSED,
        "the gradient is not that of the model",
    ),
    "randomness": Check(
        randomness,
        "the model answers differently when asked again",
        "Croce and Hein 2020 flag any",
        "the model is random, and the attack does not average over that",
    ),
    "dynamic forward pass": Check(
        dynamic,
        "the forward pass computes gradients or changes the model",
        "Croce and Hein 2020 flag any",
        "the model optimises while it answers",
    ),
    "objectives": Check(
        objectives,
        "another objective breaks more at the same number of steps",
        _PROPOSED,
        "the objective of the attack is blind",
    ),
    "single steps and noise": Check(
        simple_attacks,
        "a single step or noise breaks survivors",
        "Athalye et al. 2018; 1 % and two images proposed",
        "a weaker attack beats the evaluation",
    ),
    "black boxes": Check(
        black_boxes,
        "attacks without gradients break survivors",
        "Croce and Hein 2020 flag 0.2 %; 2 % and two images proposed for small samples",
        "an attack without gradients beats the evaluation",
    ),
    "growing budgets": Check(
        growing_budgets,
        "a larger budget helps less",
        "Carlini et al. 2019; 10 % and two images proposed",
        "success does not grow with the budget",
    ),
    "unbounded attack": Check(
        unbounded,
        "images withstand any change at all",
        "Carlini et al. 2019 expect 100 % success; 10 % and two images proposed",
        "the attack fails even without a budget",
    ),
    "more effort": Check(
        more_effort,
        "other starts and more steps break survivors",
        "Carlini et al. 2019; 2 % and two images proposed",
        "the attack was stopped too early",
    ),
    "planted solutions": Check(
        planted_solutions,
        "the evaluation misses adversarial images that are there",
        "Zimmermann et al. 2022, 95 %",
        "the attack misses what is there",
    ),
    "two families": Check(
        families,
        "no iterative gradient attack, or none without gradients",
        "Carlini et al. 2019 ask for both",
        "the evaluation is a weak attack",
    ),
    "twin distances": Check(
        twin_distances,
        "adversarial images are no farther away than for an undefended twin",
        "Carlini and Wagner 2017 saw 1.25 for defensive distillation",
        "the defence moved no boundary",
    ),
    "steady answers": Check(
        steady_answers,
        "answers change within a few grey levels",
        "Pintor et al. 2022, 10 %",
        "answers are noise around an image",
        mandatory=False,
    ),
    "batch": Check(
        company, "answers depend on the other images of the batch", "any", "answers depend on the batch",
        mandatory=False,
    ),
    "probabilities": Check(
        probabilities, "the model returns probabilities", "Croce and Hein 2020", "the softmax is saturated",
        mandatory=False,
    ),
    "silent success": Check(
        silent_success, "adversarial on the way, not at the end", "Pintor et al. 2022 flag any",
        "the last point of an attack is not its best", mandatory=False,
    ),
}  # fmt: skip


def examine(evidence: Evidence) -> tuple[Finding, ...]:
    """Return what every check finds."""
    return tuple(check.find(name, evidence) for name, check in CHECKS.items())


__all__ = ["CHECKS", "VERSION", "Check", "examine"]
