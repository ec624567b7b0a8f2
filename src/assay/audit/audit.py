"""Auditing a run: every worst-case number in it gets a verdict, with the evidence and the images that refute it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from assay.audit.checks import VERSION, examine
from assay.audit.claims import Claim, claims
from assay.audit.escalate import Broken, escalate
from assay.audit.evidence import Evidence, gather
from assay.audit.rule import flags, judge, reason, refuting
from assay.audit.subject import Subject
from assay.core.draws import Draws
from assay.core.errors import BadInput, did_you_mean
from assay.core.goal import Untargeted
from assay.core.oracle import Direct, Oracle, frozen
from assay.core.problem import Problem
from assay.data import Sample
from assay.evaluate.files import make_folder, write_atomically
from assay.evaluate.loading import Bench, Loader
from assay.evaluate.record import BROKEN, SURVIVED
from assay.evaluate.run_directory import Run
from assay.evaluate.verdict import FOLDER, REFUTED, SUSPECT, TRUSTED, Verdict, keep_verdicts
from assay.evaluate.work import method_for, stacked, threat_of
from assay.models import Classifier

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much an audit may do: images at most, passes as a share of the evaluation's, and slow attempts."""

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

    A number that has a verdict by these checks, this preset and this seed is not audited again. `twin` is an undefended
    network for the same images. Raises `BadInput` for an unknown preset.
    """
    if preset not in PRESETS:
        raise BadInput(f"Unknown preset {preset!r}.{did_you_mean(preset, PRESETS)} There are: {', '.join(PRESETS)}.")
    own = loader or Loader()
    known = {one.key: one for one in run.verdicts()}
    verdicts = []
    try:
        for claim in claims(run):
            before = known.get(claim.key)
            if before is not None and _holds(before, claim, preset, seed):
                verdicts.append(before)
                continue
            say(f"Auditing {claim.head.model.label} at {claim.head.budgets[claim.at].written} …")
            verdict = _Auditor(run, own, PRESETS[preset], preset, seed, twin).audit(claim)
            keep_verdicts(run.path, [verdict])
            verdicts.append(verdict)
    finally:
        if loader is None:
            own.close()
    return verdicts


def _holds(before: Verdict, claim: Claim, preset: str, seed: int) -> bool:
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

    def audit(self, claim: Claim) -> Verdict:
        """Gather the evidence, examine it, and try to refute what it throws doubt on."""
        began = time.perf_counter()
        bench, data = self.loader.bench(claim.head), self.loader.samples(claim.head)
        outcomes, n = claim.outcomes, len(claim.outcomes)
        right = [i for i, name in enumerate(data.ids) if outcomes.get(name) in (BROKEN, SURVIVED)]
        if not right:
            return self._empty(claim, n)
        # by the seed, so that the numbers do not hang on the order of the data
        order = np.random.default_rng(self.seed).permutation(len(right))[: self.preset.most]
        at = sorted(right[i] for i in order)
        ids = [data.ids[i] for i in at]
        samples = [one for one in data.load(at) if isinstance(one, Sample)]
        survived = torch.tensor([outcomes[name] == SURVIVED for name in ids])
        allowance = max(LEAST_PASSES, self.preset.share * claim.passes) * min(n, self.preset.most)
        subject = self._subject(claim, bench, samples, survived, allowance)
        with frozen(subject.module), _held(self.twin) as twin:
            subject = dataclasses.replace(subject, twin=twin)
            evidence = gather(subject, probabilities=claim.head.model.outputs == "probabilities")
            findings = examine(evidence)
            doubted = bool(flags(findings)) or self.preset.thorough
            broken = escalate(subject, evidence, long=self.preset.thorough) if doubted else None
        return self._verdict(claim, (subject, evidence), (ids, n), broken, time.perf_counter() - began)

    def _subject(
        self, claim: Claim, bench: Bench, samples: Sequence[Sample], survived: Tensor, allowance: float
    ) -> Subject:
        cell = claim.head
        threat = threat_of(cell).in_units_of(bench.classifier.std).at(cell.budgets[claim.at].value)
        x = threat.on_grid(stacked(samples, bench.classifier.input_shape).to(bench.device))
        y = torch.tensor([sample.label for sample in samples], device=bench.device)
        draws = Draws.of([sample.id for sample in samples], self.seed)
        draws = dataclasses.replace(draws, ids=draws.ids.to(bench.device))
        image = (int(x.shape[-2]), int(x.shape[-1]))
        methods = tuple(method_for(one, self.loader.bench(one), image) for one in claim.cells)
        oracle = Direct(bench.classifier.module, self.loader.batch)
        problem = Problem(oracle, x, Untargeted(y), threat)
        return Subject(
            module=bench.classifier.module,
            problem=problem,
            draws=draws,
            survived=survived.to(bench.device),
            methods=methods,
            allowance=allowance,
            classes=bench.classes(x[:1]),
            thorough=self.preset.thorough,
        )

    def _verdict(
        self,
        claim: Claim,
        seen: tuple[Subject, Evidence],
        who: tuple[list[str], int],
        broken: Broken | None,
        seconds: float,
    ) -> Verdict:
        subject, evidence = seen
        ids, n = who
        findings = examine(evidence)
        asked = int(subject.survived.sum()) if broken is not None else 0
        count = len(broken.at) if broken is not None else 0
        attempts = broken.attempts if broken is not None else ()
        verdict = judge(findings, asked, count)
        first = claim.survived / n
        gone = {ids[i] for i in broken.at.tolist()} if broken is not None else set()
        head = claim.head
        return Verdict(
            cells=_each(claim, verdict, findings, gone, set(ids)),
            model=head.model.label,
            data=head.data.source,
            threat=head.threat.label,
            unit=head.unit,
            eps=claim.eps,
            eps_written=head.budgets[claim.at].written,
            goal=head.goal,
            preset=self.called,
            seed=self.seed,
            checks=VERSION,
            verdict=verdict,
            why=reason(findings, attempts, verdict),
            n=n,
            survived=claim.survived,
            asked=asked,
            broken=count,
            as_first_measured=first,
            after_escalation=first * (1 - count / asked) if asked else first,
            findings=findings,
            attempts=attempts,
            passes=sum(evidence.passes.values()),
            escalation=broken.passes if broken is not None else 0,
            evaluation_passes=round(claim.passes * n),
            per_check=evidence.passes,
            seconds=seconds,
            curves=_curves(evidence),
            images=self._keep(claim, subject, ids, broken),
        )

    def _keep(self, claim: Claim, subject: Subject, ids: list[str], broken: Broken | None) -> str | None:
        if broken is None or not len(broken.at):
            return None
        digest = hashlib.blake2b(repr(claim.key).encode(), digest_size=8).hexdigest()
        name = f"adversarial-{digest}.safetensors"
        labels = subject.problem.goal.y[broken.at]
        tensors = {
            "images": broken.images.cpu().contiguous(),
            "originals": subject.problem.x[broken.at].cpu().contiguous(),
            "labels": labels.cpu(),
            "predictions": broken.classes.cpu(),
        }
        told = {"ids": json.dumps([ids[i] for i in broken.at.tolist()])}
        make_folder(self.run.path / FOLDER)
        write_atomically(self.run.path / FOLDER / name, save(tensors, told))
        return name

    def _empty(self, claim: Claim, n: int) -> Verdict:
        head = claim.head
        return Verdict(
            {cell.digest: TRUSTED for cell in claim.cells}, head.model.label, head.data.source, head.threat.label,
            head.unit, claim.eps, head.budgets[claim.at].written, head.goal, self.called, self.seed, VERSION, TRUSTED,
            "The model gets no image right: there is nothing to withstand.", n, 0, 0, 0, 0.0, 0.0, (), (), 0, 0,
            round(claim.passes * n), {}, 0.0, {},
        )  # fmt: skip


def _each(claim: Claim, verdict: str, findings: Any, gone: set[str], asked: set[str]) -> dict[str, str]:
    """Return the verdict on each cell's own number: other attacks of the run refute it as the escalation does."""
    told = {}
    for digest, statuses in claim.statuses.items():
        own = [name for name, status in statuses.items() if status == SURVIVED and name in asked]
        broken = sum(name in gone or claim.outcome(name) == BROKEN for name in own)
        told[digest] = REFUTED if own and broken >= refuting(len(own)) else (verdict if verdict != REFUTED else SUSPECT)
    return told


@contextlib.contextmanager
def _held(twin: Classifier | None) -> Iterator[Oracle | None]:
    if twin is None:
        yield None
        return
    with frozen(twin.module) as module:
        yield Direct(module)


def _curves(evidence: Evidence) -> dict[str, Any]:
    sight, slopes, growth = evidence.sight, evidence.slopes, evidence.growth
    return {
        "losses": {name: list(values) for name, values in evidence.paths.losses.items()},
        "gaps": {"edges": list(sight.gaps.edges), "counts": list(sight.gaps.counts)},
        "zero": sight.zero,
        "growth": {"budgets": list(growth.budgets), "success": list(growth.success)},
        "line": {
            "places": list(slopes.places),
            "along the gradient": list(slopes.along_gradient),
            "along a random direction": list(slopes.along_random),
        },
    }


__all__ = ["PRESETS", "Claim", "Preset", "audit_run", "claims"]
