"""Auditing the numbers of one model on one data set under one threat: evidence once, then the budgets one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from assay.audit.bypass import Accepting
from assay.audit.checks import VERSION, examine, flags
from assay.audit.escalate import Refutation, escalate, nothing_broken
from assay.audit.evidence import Evidence, gather
from assay.audit.families import Looker, Looks, needed
from assay.audit.led import Asked, asked, called
from assay.audit.progress import AuditMeter, OnAuditProgress, PassLimit
from assay.audit.robust_numbers import Group, RobustNumber
from assay.audit.stronger_attacks import stronger_attacks
from assay.audit.subject import CleanRefusals, CountingOracle, Subject, is_iterative
from assay.audit.verdict_file import VerdictInputs, broken_before, written
from assay.audit.verdict_rule import FEWEST, RESOLUTION
from assay.core.compose import Method
from assay.core.errors import BadInput
from assay.core.oracle import Access, Oracle
from assay.data import Sample, image_digest
from assay.evaluation.cell import Cell
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.records.schema import BROKEN, CERTIFIED, CLEAN_REJECTED, SURVIVED
from assay.evaluation.records.verdicts import Attempt, Finding, Verdict
from assay.evaluation.run import GRADIENT as GRADIENT_ACCESS
from assay.evaluation.run import Run
from assay.models import Classifier


def check_same_images(run: Run, cell: Cell, samples: Sequence[Sample]) -> None:
    """Raise `BadInput` saying how many of `samples` have other pixels than the run's records of `cell` name.

    Records made before digests were kept have nothing to compare with, and pass.
    """
    kept = run.store.read([cell.digest], ["sample_id", "image_digest"]).to_pydict()
    known = dict(zip(kept["sample_id"], kept["image_digest"], strict=True))
    compared = [one for one in samples if known.get(one.id) is not None]
    others = [one.id for one in compared if image_digest(one.image) != known[one.id]]
    if others:
        raise BadInput(
            f"{len(others)} of the {len(compared)} images that the audit reads from {cell.data.source} are not those "
            f"that the run attacked (the first: {others[0]!r}), so nothing can be said about its numbers. Random "
            "transforms of the data set must be off, and files left as they are; then run it anew."
        )


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much an audit may do: images at most, passes as a share of the evaluation's, and whether slow attempts.

    Looks reach at least the `resolution`, in shares of the images, wherever that many images are at hand; beyond what
    this takes they may spend `looks` passes per image, or the `share`, what is more. The escalation of a number may
    take `times` the passes of its evaluation, or `each` per survivor, what is more; of a model that gives scores or
    labels alone `asks` times.
    """

    most: int
    share: float
    thorough: bool
    times: float
    each: float
    asks: float
    resolution: float = RESOLUTION
    looks: float = 100

    def limit(self, number: RobustNumber, survivors: int) -> float:
        """Return the passes that the escalation of a number with so many `survivors` may take."""
        return max(self.times * number.passes, self.each * survivors) if math.isfinite(self.times) else math.inf


PRESETS = {
    "quick": Preset(200, 0.5, False, 4, 200, 1),
    "standard": Preset(500, 3.0, True, 20, 1000, 4, 0.02, 300),
    "thorough": Preset(10_000, 10.0, True, math.inf, math.inf, 10, 0.0, math.inf),
}
LEAST_PASSES = 20
"""Passes per image that evidence may always spend."""

MOST_LED = 1000
"""Passes per image that an audit of a model led by a twin may spend at most on looks, and on an escalation `asks` times
as many: such a model may be billed."""

MOST_LOOKED = 2500
"""Passes that the longest looks of all families take for a survivor, about."""


def holds(before: Verdict | None, number: RobustNumber, preset: str, seed: int, twin: Classifier | None = None) -> bool:
    """Whether a verdict is about the number as it is, by these checks, and from no shallower look.

    That on a model that gives scores or labels alone says which `twin` led.
    """
    if before is None or before.stopped or not _is_about(before, number, seed):
        return False
    if twin is not None and before.access != GRADIENT_ACCESS and before.twin != called(twin):
        return False
    presets = list(PRESETS)
    return before.preset in PRESETS and presets.index(before.preset) >= presets.index(preset)


def _is_about(before: Verdict, number: RobustNumber, seed: int) -> bool:
    # a run that was cut short and went on has the same cells and other samples
    now = ({cell.digest for cell in number.cells}, len(number.outcomes), number.survived)
    same = (set(before.cells), before.n, before.survived) == now
    return same and before.checks == VERSION and before.seed == seed


@dataclasses.dataclass(frozen=True)
class _Look:
    # what is the same for all budgets of a group
    group: Group
    ids: list[str]
    subject: Subject
    evidence: Evidence
    findings: tuple[Finding, ...]
    meter: AuditMeter
    asked: Asked

    def at(self, number: RobustNumber) -> Subject:
        """Return the subject at the budget of a number, with what survived there."""
        survived = _survived(number, self.ids).to(self.subject.survived.device)
        return dataclasses.replace(self.subject, problem=self.subject.under(number.budget.value), survived=survived)


@dataclasses.dataclass(frozen=True)
class Auditor:
    """Audits groups of numbers of a run by the preset called `called`."""

    run: Run
    loader: Loader
    called: str
    seed: int
    twin: Classifier | None
    on_progress: OnAuditProgress
    say: Callable[[str], None] = lambda text: None

    @property
    def preset(self) -> Preset:
        """How much it may do."""
        return PRESETS[self.called]

    def audit(self, group: Group, before: Sequence[Verdict | None]) -> Iterator[Verdict]:
        """Gather the evidence once, examine it, and try at every budget to refute what it throws doubt on.

        `before` are the verdicts that the numbers have: those that hold are yielded as they are, and an escalation that
        was stopped goes on.
        """
        began, head = time.perf_counter(), group.pivot.head
        if not any(number.open for number in group.numbers):
            # no survivors but proved ones, so no robust accuracy that could be overestimated
            weak = not is_iterative(self._methods(group), head.threat.norm)
            access = self.run.access(head.model.label)
            for number in group.numbers:
                known = VerdictInputs(
                    number=number,
                    preset=self.called,
                    seed=self.seed,
                    evaluation=group.passes,
                    weak=weak and not number.certified,
                    access=access,
                )
                yield written(self.run.path, known)
            return
        bench, ids = self.loader.bench(head), self._ids(group)
        meter = AuditMeter(f"{head.model.label} on {head.data.label}, {head.threat.label}", self.on_progress)
        with contextlib.ExitStack() as held:
            held.enter_context(bench.classifier.held())
            answers = held.enter_context(asked(bench, group.pivot.cells, self.twin, self.loader))
            # what stands inside a defence is its twin; one that leads has the gradients of the whole, and is no other
            own = None if answers.twin is not None else self.twin or bench.classifier.undefended
            twin = held.enter_context(_held(own, self.loader.batch, bench.classifier))
            subject = self._subject(group, ids, twin, meter, answers)
            if bench.classifier.access is not Access.GRADIENT:
                self._tell_queries(group, subject, answers)
            meter.begin("evidence", [subject.allowance], group.pivot.budget.written)
            evidence = gather(subject, probabilities=head.model.outputs == "probabilities")
            meter.end()
            look = _Look(group, ids, subject, evidence, examine(evidence), meter, answers)
            looks = self._looks(look)
            yield from self._verdicts(look, looks, before, began)

    def _looks(self, look: _Look) -> list[Looks]:
        """Return what each family of attacks sees of each number that may be trusted, the largest budget first."""
        numbers, found = look.group.numbers, {}
        # where a check flags, or the images are too few, no look makes a number trusted
        doubted = bool(flags(look.findings)) or look.asked.black_box
        enough = [one for one in numbers if one.open and len(one.outcomes) >= FEWEST and not doubted]
        meter, looker = look.meter, Looker(look.evidence)
        if enough:
            most = [min(self._allowed(one, look), MOST_LOOKED * one.open) for one in reversed(enough)]
            meter.begin("looks", most, enough[-1].budget.written)
        for place, number in enumerate(reversed(enough)):
            meter.go_on(place, number.budget.written)
            own = look.at(number)
            if bool(own.survived.any()):
                need = needed(number.open, len(number.outcomes), self.preset.resolution)
                limit = PassLimit(hear=meter.hear)
                found[number.key] = looker.look(own, need, self._allowed(number, look), limit)
        if enough:
            meter.end()
        nothing = Looks(nothing_broken(look.subject))
        return [found.get(number.key, nothing) for number in numbers]

    def _allowed(self, number: RobustNumber, look: _Look) -> float:
        """Return the passes that the looks at a number may take, beyond what its resolution does."""
        n = min(len(number.outcomes), self.preset.most)
        share = self.preset.share * number.passes * n / len(number.outcomes)
        spent = sum(look.evidence.passes.values()) if number.key == look.group.pivot.key else 0
        most = self.preset.looks if look.asked.twin is None else min(self.preset.looks, MOST_LED)
        return max(most * n, share - spent)

    def _verdicts(
        self, look: _Look, looks: Sequence[Looks], before: Sequence[Verdict | None], began: float
    ) -> Iterator[Verdict]:
        numbers = look.group.numbers
        # a number earned inside one family of attacks is tried from outside before a defence is trusted; and what one
        # look breaks, others may
        doubted = (
            bool(flags(look.findings))
            or self.preset.thorough
            or look.subject.guarded
            or look.asked.black_box
            or any(len(one.found.at) for one in looks)
        )
        if doubted:
            most = [self._most_passes(number, look) for number in numbers]
            look.meter.begin("escalation", most, numbers[0].budget.written)
        smaller: Refutation | None = None
        for place, (number, earlier, looked) in enumerate(zip(numbers, before, looks, strict=True)):
            own = look.at(number)
            if earlier is not None and holds(earlier, number, self.called, self.seed, self.twin):
                smaller = broken_before(self.run.path, earlier, look.ids, own)
                yield earlier
                continue
            broken = None
            if doubted and bool(own.survived.any()):
                look.meter.go_on(place, number.budget.written)
                broken = smaller = self._escalate(number, look, looked, smaller, earlier)
            judged = VerdictInputs(
                number=number,
                preset=self.called,
                seed=self.seed,
                evaluation=look.group.passes,
                seconds=time.perf_counter() - began,
                ids=look.ids,
                subject=own,
                evidence=look.evidence,
                findings=look.findings,
                broken=broken,
                limit=self._limit(number, own, look.asked),
                access=self.loader.model(number.head.model).access.name.lower(),
                twin=look.asked.called,
                # the evidence is billed once, to the number that it was gathered about
                billed=number.key == look.group.pivot.key,
                looks=looked,
            )
            yield written(self.run.path, judged)
            began = time.perf_counter()
        if doubted:
            look.meter.end()

    def _limit(self, number: RobustNumber, subject: Subject, answers: Asked) -> float:
        survivors = int(subject.survived.sum())
        if answers.black_box:
            # it may be billed, and is never trusted: an audit asks about as often as the evaluation did
            return max(self.preset.asks * number.queries, LEAST_PASSES * survivors)
        usual = self.preset.limit(number, survivors * subject.per_look)
        # nor is a billed model asked without an end
        return min(usual, MOST_LED * self.preset.asks * survivors) if answers.twin is not None else usual

    def _looking(self, number: RobustNumber) -> float:
        # three families look at as many as the resolution takes, whatever it costs: some 500 passes for each
        need = needed(number.open, len(number.outcomes), self.preset.resolution) if number.open else 0
        return max(min(self.preset.looks, MOST_LED) * min(len(number.outcomes), self.preset.most), 500.0 * need)

    def _tell_queries(self, group: Group, subject: Subject, answers: Asked) -> None:
        """Say how often the audit may ask a model that may be billed, before it does."""
        each = [self._limit(number, subject, answers) for number in group.numbers]
        looks = 0.0 if answers.black_box else sum(self._looking(number) for number in group.numbers)
        most = subject.allowance + sum(each) + looks
        led = f", with the gradients of {answers.called}" if answers.called else ""
        self.say(
            f"The audit asks {group.pivot.head.model.label} at most about {round(most):,} times{led}; the evaluation "
            f"asked {sum(one.queries for one in group.numbers):,} times. --audit off leaves it out."
        )

    def _most_passes(self, number: RobustNumber, look: _Look) -> float:
        """Return what the escalation of a number takes where nothing breaks."""
        own = look.at(number)
        attacks = stronger_attacks(own, look.evidence, look.findings, long=self.preset.thorough)
        each = sum(one.most_passes(own, look.evidence) for one in attacks)
        return min(self._limit(number, own, look.asked), each * int(own.survived.sum()))

    def _escalate(
        self, number: RobustNumber, look: _Look, looked: Looks, smaller: Refutation | None, earlier: Verdict | None
    ) -> Refutation:
        own, done, before = look.at(number), frozenset[str](), looked.found
        if smaller is not None:
            # what was broken inside a smaller ball is broken inside this one
            inside = own.survived[smaller.at] & ~torch.isin(smaller.at, before.at)
            before = smaller.inherited(inside).joined(before)
        if earlier is not None and self._goes_on(earlier, number):
            stopped = broken_before(self.run.path, earlier, look.ids, own)
            if len(stopped.at) == earlier.broken:
                before = dataclasses.replace(stopped, attempts=_made(earlier))
                done = frozenset(one.name for one in earlier.attempts if not one.skipped)
        left = own.survived.clone()
        left[before.at] = False
        limit = PassLimit(self._limit(number, own, look.asked), before.passes, look.meter.hear)
        found = escalate(
            dataclasses.replace(own, survived=left),
            look.evidence,
            long=self.preset.thorough,
            findings=look.findings,
            limit=limit,
            done=done,
        )
        return dataclasses.replace(before.joined(found), stopped=found.stopped)

    def _goes_on(self, earlier: Verdict, number: RobustNumber) -> bool:
        return earlier.stopped and earlier.preset == self.called and _is_about(earlier, number, self.seed)

    def _ids(self, group: Group) -> list[str]:
        """Return the images that the audit looks at: chosen by the seed among those that the model gets right."""
        outcomes = group.pivot.outcomes
        right = [name for name in outcomes if outcomes[name] in (BROKEN, SURVIVED, CERTIFIED)]
        order = np.random.default_rng(self.seed).permutation(len(right))
        # what is certified at the budget of the evidence comes last: it needs no look there
        drawn = sorted((right[i] for i in order), key=lambda name: outcomes[name] == CERTIFIED)
        return drawn[: self.preset.most]

    def _methods(
        self, group: Group, image: Sequence[int] | None = None, answers: Asked | None = None
    ) -> tuple[Method, ...]:
        made = [(Experiment.of(one, self.loader).method(image), one) for one in group.pivot.cells]
        return tuple(method if answers is None else answers.method(method, cell) for method, cell in made)

    def _subject(
        self, group: Group, ids: Sequence[str], twin: Oracle | None, meter: AuditMeter, answers: Asked
    ) -> Subject:
        number = group.pivot
        cell = number.head
        experiment = Experiment.of(cell, self.loader)
        bench, data = experiment.bench, experiment.data
        places = {name: i for i, name in enumerate(data.ids)}
        samples = [one for one in data.load([places[name] for name in ids]) if isinstance(one, Sample)]
        check_same_images(self.run, cell, samples)
        n = min(len(number.outcomes), self.preset.most)
        oracle = CountingOracle(
            answers.classifier.oracle(self.loader.batch), hear=lambda passes: meter.hear("", passes)
        )
        problem, draws = experiment.problem(samples, [places[one.id] for one in samples], oracle, self.seed)
        classes = bench.classes(problem.x[:1])
        answers.check(problem.x[:1], classes)
        return Subject(
            module=answers.classifier.module,
            problem=dataclasses.replace(problem, threat=problem.threat.at(number.budget.value)),
            draws=draws,
            survived=_survived(number, ids).to(bench.device),
            methods=self._methods(group, samples[0].image.shape[1:], answers),
            allowance=max(LEAST_PASSES, self.preset.share * group.passes) * n,
            classes=classes,
            twin=twin,
            thorough=self.preset.thorough,
            batch=self.loader.batch,
            defenses=bench.classifier.defenses,
            own_twin=self.twin is None and twin is not None,
            clean=_clean_refusals(number, bench.classifier),
            enough=len(number.outcomes) >= FEWEST and not answers.black_box,
        )


def _clean_refusals(number: RobustNumber, classifier: Classifier) -> CleanRefusals | None:
    """Return what the run's clean images say of a model that may refuse."""
    if not classifier.rejects:
        return None
    thresholds = [] if classifier.fitted is None else list(classifier.fitted.thresholds.values())
    own = sum(step.entry.detects for step in classifier.defenses)
    outcomes = number.outcomes.values()
    refused = sum(one == CLEAN_REJECTED for one in outcomes)
    if not thresholds or len(thresholds) < own:
        return CleanRefusals(len(outcomes), refused)
    fpr = 1 - math.prod(1 - one.fpr for one in thresholds)
    return CleanRefusals(len(outcomes), refused, fpr, min(one.n for one in thresholds))


def _made(earlier: Verdict) -> tuple[Attempt, ...]:
    """Return the attempts of an escalation that was stopped; what was not tried on all counts where it broke some."""
    made = [one for one in earlier.attempts if not one.skipped or one.broken or one.passes]
    return tuple(dataclasses.replace(one, asked=one.broken, skipped=0) if one.skipped else one for one in made)


def _survived(number: RobustNumber, ids: Sequence[str]) -> Tensor:
    return torch.tensor([number.outcome(name) == SURVIVED for name in ids])


@contextlib.contextmanager
def _held(twin: Classifier | None, batch: int | None, beside: Classifier) -> Iterator[Oracle | None]:
    if twin is None:
        yield None
        return
    with twin.held() as model:
        oracle = model.oracle(batch)
        yield Accepting(oracle) if beside.rejects and not twin.rejects else oracle


__all__ = ["PRESETS", "Auditor", "Preset", "holds"]
