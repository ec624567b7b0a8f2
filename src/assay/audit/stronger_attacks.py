"""The stronger attacks that an escalation tries, and their order: what promises the most per pass comes first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.bypass import Accepting, ClassesAlone, Cut, InsideBox, PastDefense, Weighed, cut
from assay.audit.checks import flagging
from assay.audit.checks.gradients import ZERO
from assay.audit.evidence import Evidence
from assay.audit.guides import guides
from assay.audit.probes.minimum_norm import smallest
from assay.audit.probes.other_slopes import Neighbourhood, around, widths
from assay.audit.subject import GRADIENT_STEPS, Subject, lengthened, passes_of
from assay.core.compose import Cascade, Method, Restarts, Through, Transferred
from assay.core.errors import AssayError
from assay.core.goal import Goal
from assay.core.lenses import Averaged, Expectation
from assay.core.oracle import Access, Oracle
from assay.evaluation.records.verdicts import Finding
from assay.evaluation.study.attacks import parse_attack

STEPS, LOOKS, LEAST_QUERIES = 50, 10, 100
JUDGES, BLIND = 10, 0.9
"""A model that answers at random has lost an image where more than half of so many answers are wrong."""

_LEAST_PROMISE, _SURE = 0.02, 0.95


@dataclasses.dataclass(frozen=True)
class StrongerAttack:
    """One stronger attack: its name, why it is tried, and whom it asks (`oracle`, None: the model).

    `promise` is the share of survivors that it may be expected to break, from the evidence where that tried something
    like it. `per_look` are the passes of one look, of which a meter counts one where `hidden`. A `dear` one is tried on
    a few survivors first, and on all if it breaks any; one that is `blind` to gradients, too, if it breaks half.
    """

    name: str
    why: str
    method: Method
    promise: float
    oracle: Oracle | None = None
    per_look: int = 1
    hidden: bool = False
    dear: bool = False
    blind: bool = False

    @property
    def weight(self) -> int:
        """The passes behind each one that a meter counts."""
        return self.per_look if self.hidden else 1

    def most_passes(self, subject: Subject, evidence: Evidence) -> int:
        """Return what one survivor costs that it does not break, with the looks that judge."""
        judges = JUDGES if evidence.answers.differ > 0 else 1
        looks = passes_of(self.method, subject.norm, subject.classes)
        # the last look asks for no gradient, which is one pass where the meter sees them all
        last = self.weight
        return (self.per_look * (looks - 1) + last + judges) * subject.per_look


def stronger_attacks(
    subject: Subject, evidence: Evidence, findings: Sequence[Finding], *, long: bool = False
) -> list[StrongerAttack]:
    """Return every attack that may help, what promises the most per pass first.

    Those without gradients come last where gradients lead somewhere. `long` adds the slow ones.
    """
    found = [
        one
        for one in _attacks(subject, evidence, findings, long=long)
        # whoever asks another network may climb there
        if one.oracle is not None or one.method.access <= subject.gives
    ]
    led = follows_gradients(evidence, findings)

    def rank(one: StrongerAttack) -> tuple[bool, float]:
        return one.blind and led, -max(one.promise, _LEAST_PROMISE) / one.most_passes(subject, evidence)

    return sorted(found, key=rank)


def follows_gradients(evidence: Evidence, findings: Sequence[Finding]) -> bool:
    """Whether the margin has gradients, and they are those of the model."""
    zero = evidence.sight.zero.get("margin")
    lost = zero is None or zero > ZERO
    return not lost and not any(one.untrue for one in flagging(findings))


def _attacks(
    subject: Subject, evidence: Evidence, findings: Sequence[Finding], *, long: bool
) -> Iterator[StrongerAttack]:
    climbs = subject.norm in ATTACKS["pgd"].norms
    if climbs:
        yield from _with_gradients(subject, evidence)
        yield from _guided(subject, evidence)
    if (short := smallest(subject.norm)) is not None:
        # this is the attack of the evidence: where it broke some there, it is tried on all, and breaks them here
        share, why = evidence.nearest.best, "its steps do not depend on the scale of the logits"
        yield StrongerAttack("smallest perturbations", why, short, share, dear=not share)
        yield StrongerAttack("smallest perturbations, longer", "twice as long", lengthened(short), share / 2, dear=True)
    if subject.guarded and climbs:
        yield from _outside(subject, evidence)
    if subject.twin is not None and climbs:
        moved = Transferred(build("mi-fgsm", steps=STEPS), subject.twin)
        share = evidence.black_box.share("transfer")
        yield StrongerAttack("transfer", "an undefended twin has gradients to follow", moved, share)
    if subject.evaluation is not None and any(one.stopped_early for one in flagging(findings)):
        why, share = "the same attacks from other starts, twice as long", evidence.again.best / 2
        yield StrongerAttack("more effort", why, lengthened(subject.evaluation), share)
    if climbs and long:
        if subject.gives is Access.GRADIENT:
            direct = subject.asking(subject.module)
            yield StrongerAttack("cascade", "several attacks find what one misses", build("cascade"), 0.3, direct)
        if subject.evaluation is not None:
            more = Restarts(lengthened(subject.evaluation), 5)
            yield StrongerAttack("more starts", "more starts and steps of the same attack", more, 0.1)
    # where true gradients lead an iterative attack, what is wrong is the evaluation's effort alone; a defence has to
    # hold against every kind of attack
    if long or subject.guarded or subject.gives is not Access.GRADIENT or _masked(evidence, findings):
        yield from _without_gradients(subject, evidence, long=long)


def _masked(evidence: Evidence, findings: Sequence[Finding]) -> bool:
    """Whether a finding says that gradients do not lead to what is there."""
    checks = flagging(findings)
    iterative = any(leaf.family == "gradient" and leaf.steps >= GRADIENT_STEPS for leaf in evidence.leaves)
    return any(one.masks or (iterative and one.misses) for one in checks)


@dataclasses.dataclass(frozen=True)
class _Confident:
    # the margin up to a confidence, where the gradient ends and with it the way
    kappa: float

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        return goal.lead(logits).clamp_max(self.kappa)


KAPPAS = (0.1, 5.0, 10.0, 20.0, 40.0)
"""Confidences, in logits, of the images that are made on the network inside a defence (Carlini and Wagner 2017)."""

WEIGHTS = (0.1, 10.0)
"""How much a refusal counts beside the margin, in attacks that may weigh it wrongly."""


def _outside(subject: Subject, evidence: Evidence) -> Iterator[StrongerAttack]:
    """Yield what tries a defence from outside: images made without it, and its refusals weighed otherwise."""
    inside = subject.twin
    if inside is None:
        inside = Accepting(subject.asking(ClassesAlone(subject.module)))
    made = tuple(Transferred(build("pgd", steps=STEPS, objective=_Confident(kappa)), inside) for kappa in KAPPAS)
    names = tuple(f"confidence {kappa:g}" for kappa in KAPPAS)
    why = "images made without the defence, at several confidences"
    yield StrongerAttack("past the defence", why, Cascade(made, names), 0.3)
    yield from _knowing(subject, evidence)
    for times in WEIGHTS if subject.rejects else ():
        plain = build("pgd", steps=STEPS, objective="margin")
        climb = Through(Expectation(LOOKS), plain) if evidence.answers.differ > 0 else plain
        name, asked = f"refusals weighed {times:g} times", subject.asking(Weighed(subject.module, times))
        yield StrongerAttack(name, "an attack may heed refusals too little or too much", climb, 0.2, asked)


def _knowing(subject: Subject, evidence: Evidence) -> Iterator[StrongerAttack]:
    """Yield the attacks that the table of defences names for the model's, and those that know any detector."""
    names = [name for step in subject.defenses for name in step.entry.adaptive]
    if subject.rejects:
        names += [f"pgd:steps=100,objective=margin,adaptive={way}" for way in ("selective", "orthogonal")]
    for written in dict.fromkeys(names):
        options = parse_attack(written)
        name = options.pop("attack")
        if evidence.answers.differ > 0:
            options.setdefault("eot", LOOKS)
        if subject.norm in ATTACKS[name].norms:
            yield StrongerAttack(written, "it knows the defence", build(name, **options), 0.4)


_BLIND: Sequence[tuple[str, str, dict[str, int], dict[str, int]]] = (
    ("square", "scores alone need no gradient", {"queries": 1000}, {"queries": 5000}),
    ("hop-skip-jump", "labels alone need neither gradients nor scores", {"queries": 600}, {"queries": 3000}),
    ("one-pixel", "scores alone need no gradient", {}, {}),
)
"""Attacks without gradients, each with its options in a quick audit and in a deeper one."""


def _without_gradients(subject: Subject, evidence: Evidence, *, long: bool) -> Iterator[StrongerAttack]:
    for name, why, quick, deep in _BLIND:
        # labels say less than the scores that are there
        less = subject.gives is Access.SCORES and ATTACKS[name].access is Access.LABELS and not long
        if subject.norm in ATTACKS[name].norms and not (less and subject.norm in ATTACKS["square"].norms):
            share = max(0.2, evidence.black_box.share(name))
            options = dict(deep if long else quick)
            if subject.gives is not Access.GRADIENT and "queries" in options:
                # queries may be billed: more survivors meet a few times what the evaluation asked for
                asked = (4 if long else 2) * max((leaf.steps for leaf in evidence.leaves), default=0)
                options["queries"] = min(options["queries"], max(LEAST_QUERIES, asked))
            yield StrongerAttack(name, why, build(name, **options), share, blind=True)
    # these seldom break more than the ones before
    if subject.norm in ATTACKS["pgd"].norms and evidence.sight.zero.get("margin") is not None:
        threat, one = subject.problem.threat, subject.problem.x[:1]
        # half of the budget, spread over all values
        sigma = min(0.1, max(0.01, float(threat.eps / threat.length(torch.ones_like(one))[0]) / 2))
        smooth = Through(Averaged(LOOKS, sigma=sigma), build("pgd", steps=STEPS // 2, objective="margin"))
        why = "averaged over points around, gradients that are noise or zero return"
        yield StrongerAttack("smoothed gradients", why, smooth, _LEAST_PROMISE, blind=True)


def _with_gradients(subject: Subject, evidence: Evidence) -> Iterator[StrongerAttack]:
    random = evidence.answers.differ > 0
    plain = build("pgd", steps=STEPS, objective="margin")
    climb: Method = Through(Expectation(LOOKS), plain) if random else plain
    # where the margin has no gradient anywhere, climbing it is not worth a pass
    sighted = (evidence.sight.zero.get("margin") or 0.0) < BLIND and evidence.sight.zero.get("margin") is not None
    if random and sighted:
        yield StrongerAttack("averaged over the randomness", "the model answers at random", climb, 0.5)
    elif sighted:
        # the evidence took fewer steps, from the same kind of start
        share = evidence.paths.share("margin") if evidence.paths.asked else 0.5
        yield StrongerAttack("margin", "the margin does not saturate", plain, share)
    if sighted and evidence.sight.edges > ZERO:
        inside = InsideBox(subject.asking(subject.module))
        why = "the model hides the gradient at the edge of the box"
        yield StrongerAttack("a hair inside the box", why, climb, 0.5, inside, per_look=2)
    yield from _past(subject, plain, climb, _cut(subject), sighted=sighted)
    if sighted and not random:
        scaled, share = (
            build("pgd", steps=STEPS, objective="scaled_cross_entropy"),
            evidence.paths.share("scaled_cross_entropy"),
        )
        why = "a rescaled softmax does not saturate"
        yield StrongerAttack("scaled cross-entropy", why, scaled, share / 2, dear=True)
        each = build("apgd-t", steps=STEPS, targets=4)
        yield StrongerAttack("targeted", "each of the likeliest classes in turn", each, 0.1, dear=True)


def _guided(subject: Subject, evidence: Evidence) -> Iterator[StrongerAttack]:
    """Yield what follows other slopes than the model's own at a point; the model judges every step."""
    plain = build("pgd", steps=STEPS, objective="margin")
    for one in guides(subject):
        # the evidence took a fifth of the steps
        share = min(_SURE, 2 * evidence.guided.share(one.name)) if evidence.guided.asked else 0.3
        name = f"guided by {one.name}"
        yield StrongerAttack(name, one.why, plain, share, one.oracle, per_look=one.per_look, dear=not share)
        near = around(subject, one)
        more = f"{name}, over a neighbourhood"
        yield StrongerAttack(more, one.why, plain, share, near.oracle, per_look=near.per_look, dear=not share)
    if evidence.sight.zero.get("margin") is not None:
        share = evidence.wide.best if evidence.wide.asked else 0.1
        lens = Neighbourhood(LOOKS, widths(subject.problem.threat, subject.problem.x))
        why = "what is steep and small averages out over a neighbourhood as wide as the budget"
        name, wide = "gradients of a neighbourhood", lens(subject.meter.oracle)
        yield StrongerAttack(name, why, plain, share, wide, per_look=LOOKS + 1, dear=not share)


def _past(subject: Subject, plain: Method, climb: Method, where: Cut, *, sighted: bool) -> Iterator[StrongerAttack]:
    if not sighted and where.entry is not None:
        # what cuts the gradient may leave these images as they are: rounding to 8 bits, a bare detach
        where = dataclasses.replace(where, changed=True)
    if where.exit is None and not where.changed:
        return
    past = [f"past {where.entry}"] if where.changed else []
    past += [f"from the logits of {where.exit}"] if where.exit is not None else []
    name, why = " ".join(past), "the gradient of the network inside the defence (BPDA)"
    # the search goes by the logits of the exit; the model itself judges afterwards
    oracle = subject.asking(PastDefense(subject.module, where))
    yield StrongerAttack(name, why, plain, 1.0, oracle, per_look=2, hidden=True, dear=True)
    if climb is not plain:
        # what is random may lie inside
        averaged = f"{name}, averaged over the randomness"
        yield StrongerAttack(averaged, why, climb, 0.5, oracle, per_look=2, hidden=True)


def _cut(subject: Subject) -> Cut:
    try:
        return cut(subject.module, subject.problem.x[: min(4, subject.batch or 4)])
    except (RuntimeError, AssayError):
        return Cut(None, 0, False, None)


__all__ = ["JUDGES", "StrongerAttack", "follows_gradients", "stronger_attacks"]
