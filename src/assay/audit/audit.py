"""Auditing a run: every worst-case number in it gets a verdict, with the evidence and the images that refute it.

Evidence is gathered once for all budgets of a model, data set and threat, at one of them; where a check throws doubt on
the attacks, stronger ones try every budget, smallest first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from assay.audit.checks import VERSION, examine
from assay.audit.claims import Claim, Group, groups
from assay.audit.escalate import Broken, escalate, nothing_broken
from assay.audit.evidence import Evidence, gather
from assay.audit.images import check_same_images
from assay.audit.rule import flags
from assay.audit.subject import Metered, Subject, is_iterative
from assay.audit.writing import Judged, written
from assay.core.compose import Method
from assay.core.errors import BadInput, did_you_mean
from assay.core.oracle import Oracle
from assay.data import Sample
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.records.schema import BROKEN, SURVIVED
from assay.evaluation.records.verdicts import Verdict, keep_verdicts
from assay.evaluation.run import Run
from assay.models import Classifier

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much an audit may do: images at most, passes as a share of the evaluation's, and whether slow attempts."""

    most: int
    share: float
    thorough: bool


PRESETS = {
    "quick": Preset(200, 0.5, False),
    "standard": Preset(500, 3.0, True),
    "thorough": Preset(10_000, 10.0, True),
}
LEAST_PASSES = 20
"""Passes per image that an audit may always spend."""


def check_preset(preset: str) -> str:
    """Return the name of a preset. Raises `BadInput` for an unknown one."""
    if preset not in PRESETS:
        raise BadInput(f"Unknown preset {preset!r}.{did_you_mean(preset, PRESETS)} There are: {', '.join(PRESETS)}.")
    return preset


def audit_run(
    run: Run,
    preset: str = "quick",
    *,
    loader: Loader | None = None,
    twin: Classifier | None = None,
    seed: int = 0,
    say: Say = lambda text: None,
) -> list[Verdict]:
    """Audit every worst-case number of a run, keep the verdicts in its directory, and return them.

    Numbers that have verdicts by these checks, this preset or a deeper one, and this seed are not audited again. `twin`
    is an undefended network for the same images. `loader` holds models and data given as Python objects. Raises
    `BadInput` for an unknown preset.
    """
    check_preset(preset)
    own = loader or Loader()
    known = {one.key: one for one in run.verdicts()}
    verdicts = []
    try:
        for group in groups(run):
            before = [known.get(claim.key) for claim in group.claims]
            kept = [one for one in before if one is not None]
            if all(_holds(one, claim, preset, seed) for one, claim in zip(before, group.claims, strict=True)):
                verdicts += kept
                continue
            say(f"Auditing {group.pivot.head.model.label} on {group.pivot.head.data.source} …")
            found = list(_Auditor(run, own, PRESETS[preset], preset, seed, twin).audit(group))
            keep_verdicts(run.path, found)
            verdicts += found
    finally:
        # a model given as an object goes back to its user as it was
        own.close()
    return verdicts


def _holds(before: Verdict | None, claim: Claim, preset: str, seed: int) -> bool:
    if before is None:
        return False
    presets = list(PRESETS)
    # a run that was cut short and went on has the same cells and other samples
    now = ({cell.digest for cell in claim.cells}, len(claim.outcomes), claim.survived)
    same = (set(before.cells), before.n, before.survived) == now
    deep = before.preset in PRESETS and presets.index(before.preset) >= presets.index(preset)
    return same and deep and before.checks == VERSION and before.seed == seed


@dataclasses.dataclass(frozen=True)
class _Auditor:
    run: Run
    loader: Loader
    preset: Preset
    called: str
    seed: int
    twin: Classifier | None

    def audit(self, group: Group) -> Iterator[Verdict]:
        """Gather the evidence once, examine it, and try at every budget to refute what it throws doubt on."""
        began = time.perf_counter()
        ids = self._ids(group)
        if not any(claim.survived for claim in group.claims):
            # nothing is said to withstand: there is no number that could be too high, and nothing to ask about
            iterative = is_iterative(self._methods(group), group.pivot.head.threat.norm)
            for claim in group.claims:
                judged = Judged.of_nothing(claim, self.called, self.seed, group.passes, weak=not iterative)
                yield written(self.run.path, judged)
            return
        bench = self.loader.bench(group.pivot.head)
        with bench.classifier.held(), _held(self.twin, self.loader.batch) as twin:
            subject = self._subject(group, ids, twin)
            evidence = gather(subject, probabilities=group.pivot.head.model.outputs == "probabilities")
            doubted = bool(flags(examine(evidence))) or self.preset.thorough
            before: Broken | None = None
            for claim in group.claims:
                own = self._at(subject, claim, ids)
                broken = None
                if doubted and bool(own.survived.any()):
                    broken = self._escalate(own, evidence, before)
                    before = broken
                yield self._verdict(group, claim, (ids, own, evidence), broken, time.perf_counter() - began)
                began = time.perf_counter()

    def _escalate(self, subject: Subject, evidence: Evidence, before: Broken | None) -> Broken:
        # what was broken inside a smaller ball is broken inside this one
        known = before or nothing_broken(subject)
        keep = subject.survived[known.at]
        inherited = known.taken(keep)
        left = subject.survived.clone()
        left[inherited.at] = False
        own = dataclasses.replace(subject, survived=left)
        return escalate(own, evidence, long=self.preset.thorough).after(inherited)

    def _ids(self, group: Group) -> list[str]:
        """Return the images that the audit looks at: chosen by the seed among those that the model gets right."""
        outcomes = group.pivot.outcomes
        right = [name for name in outcomes if outcomes[name] in (BROKEN, SURVIVED)]
        order = np.random.default_rng(self.seed).permutation(len(right))
        return [right[i] for i in order[: self.preset.most]]

    def _methods(self, group: Group, image: Sequence[int] | None = None) -> tuple[Method, ...]:
        return tuple(Experiment.of(one, self.loader).method(image) for one in group.pivot.cells)

    def _subject(self, group: Group, ids: Sequence[str], twin: Oracle | None) -> Subject:
        claim = group.pivot
        cell = claim.head
        experiment = Experiment.of(cell, self.loader)
        bench, data = experiment.bench, experiment.data
        places = {name: i for i, name in enumerate(data.ids)}
        samples = [one for one in data.load([places[name] for name in ids]) if isinstance(one, Sample)]
        check_same_images(self.run, cell, samples)
        meter = Metered(bench.classifier.oracle(self.loader.batch))
        problem, draws = experiment.problem(samples, [places[one.id] for one in samples], meter, self.seed)
        n = min(len(claim.outcomes), self.preset.most)
        return Subject(
            module=bench.classifier.module,
            problem=dataclasses.replace(problem, threat=problem.threat.at(claim.budget.value)),
            draws=draws,
            survived=_survived(claim, ids).to(bench.device),
            methods=self._methods(group, samples[0].image.shape[1:]),
            allowance=max(LEAST_PASSES, self.preset.share * group.passes) * n,
            classes=bench.classes(problem.x[:1]),
            twin=twin,
            thorough=self.preset.thorough,
            batch=self.loader.batch,
        )

    def _at(self, subject: Subject, claim: Claim, ids: Sequence[str]) -> Subject:
        survived = _survived(claim, ids).to(subject.survived.device)
        return dataclasses.replace(subject, problem=subject.under(claim.budget.value), survived=survived)

    def _verdict(
        self,
        group: Group,
        claim: Claim,
        seen: tuple[list[str], Subject, Evidence],
        broken: Broken | None,
        seconds: float,
    ) -> Verdict:
        ids, subject, evidence = seen
        # the evidence is billed once, to the number that it was gathered about
        pivot = claim is group.pivot or claim.key == group.pivot.key
        judged = Judged(claim, self.called, self.seed, group.passes, seconds, ids, subject, evidence, broken, pivot)
        return written(self.run.path, judged)


def _survived(claim: Claim, ids: Sequence[str]) -> Tensor:
    return torch.tensor([claim.outcome(name) == SURVIVED for name in ids])


@contextlib.contextmanager
def _held(twin: Classifier | None, batch: int | None) -> Iterator[Oracle | None]:
    if twin is None:
        yield None
        return
    with twin.held() as model:
        yield model.oracle(batch)


__all__ = ["PRESETS", "Preset", "audit_run", "check_preset"]
