"""The escalation: what a check suspects, stronger attacks try to prove; every image is judged by the model itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.evidence import Evidence
from assay.audit.subject import Metered, Subject, lengthened
from assay.audit.views import Cut, PastDefense, cut
from assay.core.compose import Method, Restarts, Through, Transferred, run
from assay.core.errors import AssayError, ModelError
from assay.core.lenses import Averaged, Expectation
from assay.core.objective import margin
from assay.core.oracle import Access, Direct, Oracle
from assay.core.search import Keeps
from assay.evaluate.verdict import Attempt

STEPS, LOOKS, QUERIES, LABELS = 50, 10, 2000, 1500
JUDGES, BLIND = 10, 0.9
"""A model that answers at random has lost an image where more than half of so many answers are wrong."""


@dataclasses.dataclass(frozen=True)
class Try:
    """One stronger attack: its name, why it is tried, and whom it asks (None: the model)."""

    name: str
    why: str
    method: Method
    oracle: Oracle | None = None
    steps: int = 1


@dataclasses.dataclass(frozen=True)
class Broken:
    """What the escalation broke: positions in the subject, the images, what the model calls them, and each attempt."""

    at: Tensor
    images: Tensor
    classes: Tensor
    attempts: tuple[Attempt, ...]
    passes: int


def escalate(subject: Subject, evidence: Evidence, *, long: bool = False) -> Broken:
    """Try every attack that may help on what is left of the survivors, cheapest first. `long` adds the slow ones."""
    left = subject.survived.nonzero().squeeze(1)
    at, images, classes, attempts = [], [], [], []
    where = _cut(subject)
    keeps = Keeps.WORST if evidence.answers.differ > 0 else Keeps.FIRST
    for one in _tries(subject, evidence, where, long=long):
        if not len(left):
            break
        meter = Metered(one.oracle or subject.problem.oracle)
        few = subject.taken(left)
        problem = dataclasses.replace(few.problem, oracle=meter)
        try:
            # a random model lets go of an image once in a while: the most damaging point is the one to judge
            found = run(one.method, problem, few.fold(f"escalate {one.name}"), keeps=keeps)
        except (ModelError, RuntimeError, AssayError):
            # this way is closed for this model; the next one may not be
            continue
        judged, called, spent = _judge(few, found.x, random=evidence.answers.differ > 0)
        attempts.append(Attempt(one.name, one.why, len(left), int(judged.sum()), one.steps * meter.spent[0] + spent))
        at.append(left[judged])
        images.append(found.x[judged])
        classes.append(called[judged])
        left = left[~judged]
    empty = subject.problem.x[:0]
    return Broken(
        torch.cat(at) if at else left[:0],
        torch.cat(images) if images else empty,
        torch.cat(classes) if classes else left[:0],
        tuple(attempts),
        sum(one.passes for one in attempts),
    )


def _judge(subject: Subject, x: Tensor, *, random: bool) -> tuple[Tensor, Tensor, int]:
    """Return which images the model itself gets wrong, inside box and budget, what it calls them, and the passes."""
    problem = subject.problem
    inside = problem.threat.allows(problem.threat.size(x, problem.x)) & problem.threat.in_box(x)
    wrong, called = (torch.zeros(len(x), dtype=torch.int64, device=x.device) for _ in range(2))
    times = JUDGES if random else 1
    for i in range(times):
        seen = problem.oracle.look(x, problem.goal, margin, Access.SCORES, subject.fold(f"judge {i}"))
        wrong += seen.reached
        called = torch.where(seen.reached, seen.logits.argmax(1), called)
    return inside & (wrong * 2 > times), called, times * len(x)


def _cut(subject: Subject) -> Cut:
    try:
        return cut(subject.module, subject.problem.x[:4])
    except (RuntimeError, AssayError):
        return Cut(None, 0, False, None)


def _tries(subject: Subject, evidence: Evidence, where: Cut, *, long: bool) -> Iterator[Try]:
    climbs = subject.norm in ATTACKS["pgd"].norms
    direct = Direct(subject.module)
    if climbs:
        yield from _gradients(subject, evidence, where)
    if subject.norm in ATTACKS["fmn"].norms:
        yield Try("smallest perturbations", "its steps do not depend on the scale of the logits", build("fmn"))
    if subject.twin is not None and climbs:
        moved = Transferred(build("mi-fgsm", steps=STEPS), subject.twin)
        yield Try("transfer", "an undefended twin has gradients to follow", moved)
    for name, options, why in _BLIND:
        if subject.norm in ATTACKS[name].norms:
            yield Try(name, why, build(name, **options))
    # dear, and seldom more than the ones before
    if climbs and evidence.sight.zero.get("margin") is not None:
        yield _smoothed(subject)
    if climbs and long:
        yield Try("cascade", "several attacks find what one misses", build("cascade"), direct)
        if subject.evaluation is not None:
            more = Restarts(lengthened(subject.evaluation), 5)
            yield Try("more starts", "more starts and steps of the same attack", more)


_BLIND: Sequence[tuple[str, dict[str, int], str]] = (
    ("square", {"queries": QUERIES}, "scores alone need no gradient"),
    ("hop-skip-jump", {"queries": LABELS}, "labels alone need neither gradients nor scores"),
    ("one-pixel", {}, "scores alone need no gradient"),
)


def _gradients(subject: Subject, evidence: Evidence, where: Cut) -> Iterator[Try]:
    random = evidence.answers.differ > 0
    plain = build("pgd", steps=STEPS, objective="margin")
    climb: Method = Through(Expectation(LOOKS), plain) if random else plain
    # where the margin has no gradient anywhere, climbing it is not worth a pass
    sighted = (evidence.sight.zero.get("margin") or 0.0) < BLIND and evidence.sight.zero.get("margin") is not None
    if random and sighted:
        yield Try("averaged over the randomness", "the model answers at random", climb)
    elif sighted:
        yield Try("margin", "the margin does not saturate", climb)
    if not sighted and where.entry is not None:
        # what cuts the gradient may leave these images as they are: rounding to 8 bits, a bare detach
        where = dataclasses.replace(where, changed=True)
    if where.exit is not None or where.changed:
        past = [f"past {where.entry}"] if where.changed else []
        past += [f"from the logits of {where.exit}"] if where.exit is not None else []
        why = "the gradient of the network inside the defence (BPDA)"
        # the search goes by the logits of the exit; the model itself judges afterwards
        yield Try(" ".join(past), why, climb, Direct(PastDefense(subject.module, where)), 2)
    if sighted and not random:
        scaled = build("pgd", steps=STEPS, objective="scaled_cross_entropy")
        yield Try("scaled cross-entropy", "a rescaled softmax does not saturate", scaled)
        yield Try("targeted", "each of the likeliest classes in turn", build("apgd-t", steps=STEPS, targets=4))


def _smoothed(subject: Subject) -> Try:
    threat, one = subject.problem.threat, subject.problem.x[:1]
    # half of the budget, spread over all values
    sigma = min(0.1, max(0.01, float(threat.eps / threat.size(one + 1, one)[0]) / 2))
    smooth = Through(Averaged(LOOKS, sigma=sigma), build("pgd", steps=STEPS // 2, objective="margin"))
    why = "averaged over points around, gradients that are noise or zero return"
    return Try("smoothed gradients", why, smooth)


__all__ = ["Broken", "Try", "escalate"]
