"""The escalation: what a check suspects, stronger attacks try to prove; every image is judged by the model itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.checks import examine
from assay.audit.checks.zero_gradients import THRESHOLD as ZERO
from assay.audit.evidence import Evidence
from assay.audit.probes.nearest import smallest
from assay.audit.rule import flags, refuting
from assay.audit.subject import GRADIENT_STEPS, Metered, Subject, lengthened
from assay.audit.views import Cut, InsideBox, PastDefense, cut
from assay.core.compose import Method, Restarts, Through, Transferred, run
from assay.core.errors import AssayError
from assay.core.lenses import Averaged, Expectation
from assay.core.objective import margin
from assay.core.oracle import Access, Oracle
from assay.core.search import Keeps
from assay.evaluation.records.verdicts import Attempt

STEPS, LOOKS = 50, 10
JUDGES, BLIND, FEW = 10, 0.9, 12
"""A model that answers at random has lost an image where more than half of so many answers are wrong."""


DYNAMIC = "dynamic forward pass"
SMALLER = "what broke it inside a smaller ball"


@dataclasses.dataclass(frozen=True)
class Try:
    """One stronger attack: its name, why it is tried, and whom it asks (None: the model).

    `steps` are the passes of one look. A `dear` one is tried on a few survivors first, and on all if it breaks any; one
    that is `blind` to gradients, too, if it breaks half.
    """

    name: str
    why: str
    method: Method
    oracle: Oracle | None = None
    steps: int = 1
    dear: bool = False
    blind: bool = False


@dataclasses.dataclass(frozen=True)
class Broken:
    """What the escalation broke: positions in the subject, the images, what the model calls them, and each attempt."""

    at: Tensor
    images: Tensor
    classes: Tensor
    attempts: tuple[Attempt, ...] = ()

    @property
    def passes(self) -> int:
        """What the attempts cost."""
        return sum(one.passes for one in self.attempts)

    def taken(self, keep: Tensor) -> Broken:
        """Return some of what is broken, the attempts left out."""
        return Broken(self.at[keep], self.images[keep], self.classes[keep])

    def after(self, before: Broken) -> Broken:
        """Return this with what was broken before."""
        parts = zip((before.at, before.images, before.classes), (self.at, self.images, self.classes), strict=True)
        attempts = self.attempts
        if len(before.at):
            found = len(before.at)
            attempts = (Attempt(SMALLER, "a larger ball holds the smaller one", found, found, 0), *attempts)
        at, images, classes = (torch.cat(pair) for pair in parts)
        return Broken(at, images, classes, attempts)


def nothing_broken(subject: Subject) -> Broken:
    """Return what is broken before anything is tried."""
    none = torch.zeros(0, dtype=torch.int64, device=subject.survived.device)
    return Broken(none, subject.problem.x[:0], none)


def escalate(subject: Subject, evidence: Evidence, *, long: bool = False) -> Broken:
    """Try every attack that may help on what is left of the survivors, cheapest first. `long` adds the slow ones."""
    left = subject.survived.nonzero().squeeze(1)
    broken, asked = nothing_broken(subject), len(left)
    where, sighted = _cut(subject), _sighted(evidence)
    for one in _tries(subject, evidence, where, long=long):
        if not len(left):
            break
        if one.blind and not long and sighted and len(broken.at) >= refuting(asked):
            # what follows true gradients has refuted the number: who sees less will hardly find more
            continue
        few = left[:FEW] if (one.dear or one.blind) and not long else left
        found = _tried(one, subject.taken(few), few, evidence)
        if len(few) < len(left) and len(found.at) >= (len(few) / 2 if one.blind else 1):
            rest = left[FEW:]
            more = _tried(one, subject.taken(rest), rest, evidence)
            found = _joined(found, more)
        broken = _joined(broken, found)
        left = left[~torch.isin(left, found.at)]
    return broken


def _joined(a: Broken, b: Broken) -> Broken:
    attempts = (*a.attempts, *b.attempts)
    if a.attempts and b.attempts and a.attempts[-1].name == b.attempts[0].name:
        last, first = a.attempts[-1], b.attempts[0]
        both = (last.asked + first.asked, last.broken + first.broken, last.passes + first.passes)
        attempts = (*a.attempts[:-1], Attempt(last.name, last.why, *both), *b.attempts[1:])
    tensors = zip((a.at, a.images, a.classes), (b.at, b.images, b.classes), strict=True)
    at, images, classes = (torch.cat(pair) for pair in tensors)
    return Broken(at, images, classes, attempts)


def _tried(one: Try, few: Subject, at: Tensor, evidence: Evidence) -> Broken:
    meter = Metered(one.oracle or few.problem.oracle)
    problem = dataclasses.replace(few.problem, oracle=meter)
    random = evidence.answers.differ > 0
    # a random model lets go of an image once in a while: the most damaging point is the one to judge
    keeps = Keeps.WORST if random else Keeps.FIRST
    try:
        found = run(one.method, problem, few.fold(f"escalate {one.name}"), keeps=keeps)
    except (RuntimeError, AssayError) as error:
        # this way is closed for this model, and the report says so; the next one may not be
        closed = f"{one.why}; could not be tried: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        return dataclasses.replace(
            nothing_broken(few), attempts=(Attempt(one.name, closed, len(at), 0, one.steps * meter.spent[0]),)
        )
    judged, called, spent = _judge(few, found.x, random=random)
    count = int(judged.sum())
    attempt = Attempt(one.name, one.why, len(at), count, one.steps * meter.spent[0] + spent)
    return Broken(at[judged], found.x[judged], called[judged], (attempt,))


def _judge(subject: Subject, x: Tensor, *, random: bool) -> tuple[Tensor, Tensor, int]:
    """Return which images the model itself gets wrong, inside box and budget, what it calls them, and the passes."""
    problem = subject.problem
    inside = problem.threat.allows(problem.threat.size(x, problem.x)) & problem.threat.in_box(x)
    wrong, called = torch.zeros_like(problem.goal.y), torch.zeros_like(problem.goal.y)
    times = JUDGES if random else 1
    for i in range(times):
        seen = problem.oracle.look(x, problem.goal, margin, Access.SCORES, subject.fold(f"judge {i}"))
        wrong += seen.reached
        called = torch.where(seen.reached, seen.logits.argmax(1), called)
    return inside & (wrong * 2 > times), called, times * len(x)


def _cut(subject: Subject) -> Cut:
    try:
        return cut(subject.module, subject.problem.x[: min(4, subject.batch or 4)])
    except (RuntimeError, AssayError):
        return Cut(None, 0, False, None)


def _tries(subject: Subject, evidence: Evidence, where: Cut, *, long: bool) -> Iterator[Try]:
    climbs = subject.norm in ATTACKS["pgd"].norms
    direct = subject.asking(subject.module)
    if climbs:
        yield from _gradients(subject, evidence, where)
    if (short := smallest(subject.norm)) is not None:
        # this is the attack of the evidence: where it broke some there, it is tried on all, and breaks them here
        why, unproven = "its steps do not depend on the scale of the logits", not any(evidence.nearest.broken.values())
        yield Try("smallest perturbations", why, short, dear=unproven)
        yield Try("smallest perturbations, longer", "twice as long", lengthened(short), dear=True)
    if subject.twin is not None and climbs:
        moved = Transferred(build("mi-fgsm", steps=STEPS), subject.twin)
        yield Try("transfer", "an undefended twin has gradients to follow", moved)
    if subject.evaluation is not None and _flagged(evidence, "more effort"):
        yield Try("more effort", "the same attacks from other starts, twice as long", lengthened(subject.evaluation))
    if not long and not _masked(evidence):
        # true gradients lead an iterative attack: what is wrong is the evaluation's effort alone
        return
    for name, why, quick, deep in _BLIND:
        if subject.norm in ATTACKS[name].norms:
            yield Try(name, why, build(name, **(deep if long else quick)), blind=True)
    # blind, and seldom more than the ones before
    if climbs and evidence.sight.zero.get("margin") is not None:
        yield _smoothed(subject)
    if climbs and long:
        yield Try("cascade", "several attacks find what one misses", build("cascade"), direct)
        if subject.evaluation is not None:
            more = Restarts(lengthened(subject.evaluation), 5)
            yield Try("more starts", "more starts and steps of the same attack", more)


def _sighted(evidence: Evidence) -> bool:
    """Whether the margin has gradients, and they are those of the model."""
    zero = evidence.sight.zero.get("margin")
    lost = zero is None or zero > ZERO
    return not lost and not any(_flagged(evidence, one) for one in ("true gradients", "randomness", DYNAMIC))


def _flagged(evidence: Evidence, check: str) -> bool:
    return any(one.check == check for one in flags(examine(evidence)))


def _masked(evidence: Evidence) -> bool:
    """Whether a finding says that gradients do not lead to what is there."""
    named = {one.check for one in flags(examine(evidence))}
    iterative = any(leaf.family == "gradient" and leaf.steps >= GRADIENT_STEPS for leaf in evidence.leaves)
    return bool(named & _MASKING) or (iterative and "planted solutions" in named)


_MASKING = {
    "zero gradients", "true gradients", "randomness", DYNAMIC, "black boxes", "growing budgets",
    "unbounded attack",
}  # fmt: skip
_BLIND: Sequence[tuple[str, str, dict[str, int], dict[str, int]]] = (
    ("square", "scores alone need no gradient", {"queries": 1000}, {"queries": 5000}),
    ("hop-skip-jump", "labels alone need neither gradients nor scores", {"queries": 600}, {"queries": 3000}),
    ("one-pixel", "scores alone need no gradient", {}, {}),
)
"""Attacks without gradients, each with its options in a quick audit and in a deeper one."""


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
    if sighted and evidence.sight.edges > ZERO:
        inside = InsideBox(subject.asking(subject.module))
        yield Try("a hair inside the box", "the model hides the gradient at the edge of the box", climb, inside, 2)
    if not sighted and where.entry is not None:
        # what cuts the gradient may leave these images as they are: rounding to 8 bits, a bare detach
        where = dataclasses.replace(where, changed=True)
    if where.exit is not None or where.changed:
        past = [f"past {where.entry}"] if where.changed else []
        past += [f"from the logits of {where.exit}"] if where.exit is not None else []
        why = "the gradient of the network inside the defence (BPDA)"
        # the search goes by the logits of the exit; the model itself judges afterwards
        yield Try(" ".join(past), why, climb, subject.asking(PastDefense(subject.module, where)), 2)
    if sighted and not random:
        scaled = build("pgd", steps=STEPS, objective="scaled_cross_entropy")
        yield Try("scaled cross-entropy", "a rescaled softmax does not saturate", scaled, dear=True)
        each = build("apgd-t", steps=STEPS, targets=4)
        yield Try("targeted", "each of the likeliest classes in turn", each, dear=True)


def _smoothed(subject: Subject) -> Try:
    threat, one = subject.problem.threat, subject.problem.x[:1]
    # half of the budget, spread over all values
    sigma = min(0.1, max(0.01, float(threat.eps / threat.length(torch.ones_like(one))[0]) / 2))
    smooth = Through(Averaged(LOOKS, sigma=sigma), build("pgd", steps=STEPS // 2, objective="margin"))
    why = "averaged over points around, gradients that are noise or zero return"
    return Try("smoothed gradients", why, smooth, blind=True)


__all__ = ["Broken", "Try", "escalate", "nothing_broken"]
