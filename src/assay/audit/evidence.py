"""The evidence: what every probe saw, gathered once, with its cost in passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from assay.audit.planted import Planted, plant_and_search
from assay.audit.probes.attacks import Growth, Paths, Tries, again, black_box, growth, paths, simple
from assay.audit.probes.determinism import Answers, answers
from assay.audit.probes.gradient_accuracy import Slopes, slopes
from assay.audit.probes.gradient_signal import Sight, sight
from assay.audit.probes.minimum_norm import OtherNorms, Twins, nearest, other_norms, twins
from assay.audit.probes.other_slopes import guided, wide
from assay.audit.probes.refusals import Refusals, refusals
from assay.audit.subject import CountingOracle, Leaf, Subject, passes_of
from assay.core.adaptive import Adaptive
from assay.core.compose import Method, is_attack
from assay.core.errors import BadInput, ModelError
from assay.models.deployed import twins_alone

_POINTS, _REFUSALS = 45, 36
NOTHING = Tries(0, {})


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the probes saw of a number: see each probe. `leaves` are the attacks of the evaluation; `survived` how many
    images it left of `n` audited, `passes` the cost per probe. `stands_in` names defences whose gradient is not that of
    what they compute, each with what stands in for it."""

    n: int
    survived: int
    probabilities: bool
    leaves: tuple[Leaf, ...]
    answers: Answers
    sight: Sight
    slopes: Slopes
    simple: Tries
    nearest: Tries
    paths: Paths
    black_box: Tries
    growth: Growth
    again: Tries
    planted: Planted | None
    twins: Twins | None
    passes: dict[str, int]
    refusals: Refusals | None = None
    other_norms: OtherNorms | None = None
    stands_in: tuple[str, ...] = ()
    guided: Tries = NOTHING
    wide: Tries = NOTHING


def gather(subject: Subject, *, probabilities: bool = False) -> Evidence:
    """Ask every probe once. `probabilities` says that the model's outputs are, and are attacked as logarithms."""
    passes: dict[str, int] = {}

    def metered(name: str, probe: Callable[[Subject], Any]) -> Any:
        meter = CountingOracle(subject.meter.oracle, hear=subject.meter.hear)
        own = dataclasses.replace(subject, problem=dataclasses.replace(subject.problem, oracle=meter))
        seen = probe(own)
        passes[name] = meter.spent[0]
        return seen

    probes = _PROBES | (_DEFENDED if subject.guarded else {})
    seen = {name: metered(name, probe) for name, probe in probes.items()}
    found: Planted | None = metered("planted", planted)
    return Evidence(
        n=len(subject.survived),
        survived=int(subject.survived.sum()),
        probabilities=probabilities,
        leaves=subject.leaves,
        planted=found,
        passes=passes,
        stands_in=tuple(
            f"{step.name}: {step.entry.backward}" for step in subject.defenses if not step.entry.differentiable
        ),
        **seen,
    )


def planted(subject: Subject) -> Planted | None:
    """Plant adversarial points, and count how many the evaluation finds; None where it cannot be asked."""
    method = subject.evaluation
    if method is None:
        return None
    points = _POINTS + (_REFUSALS if subject.rejects else 0)
    few = subject.some("planted", points + passes_of(method, subject.norm, 2), 32)
    problem = dataclasses.replace(few.problem, oracle=few.meter.oracle)
    try:
        # heads stand on a network's features: those of the twin, of a model that answers outside of torch
        with twins_alone():
            found = plant_and_search(subject.module, problem, few.fold("planted"), _on_heads(method))
    except (BadInput, ModelError):
        return None
    few.meter.spent[0] += max(found.forwards, found.backwards)
    return found


def _on_heads(method: Method) -> Method:
    """Return a method as it can be asked to find planted solutions: those have no views, features or logits to match.

    What is left climbs the answer, in which a refusal is one class more.
    """
    if is_attack(method):
        return method
    if isinstance(method.lens, Adaptive) and method.lens.way not in ("selective", "orthogonal"):
        return _on_heads(method.children[0])
    return method.with_children(tuple(_on_heads(child) for child in method.children))


_PROBES: dict[str, Callable[[Subject], Any]] = {
    "answers": answers,
    "sight": sight,
    "slopes": slopes,
    "simple": simple,
    "nearest": nearest,
    "paths": paths,
    "black_box": black_box,
    "growth": growth,
    "again": again,
    "guided": guided,
    "wide": wide,
    "twins": twins,
}
_DEFENDED: dict[str, Callable[[Subject], Any]] = {"refusals": refusals, "other_norms": other_norms}
