"""From evidence to the stored verdict, and the file of the images that refute."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from assay.audit.checks import VERSION, examine
from assay.audit.claims import Claim
from assay.audit.escalate import Broken
from assay.audit.evidence import Evidence
from assay.audit.rule import judge, reason, refuting
from assay.audit.subject import Subject
from assay.evaluation.records.schema import BROKEN, SURVIVED
from assay.evaluation.records.verdicts import FOLDER, REFUTED, SUSPECT, Verdict
from assay.files import make_folder, write_atomically

NOTHING_LEFT = "Nothing was left standing: the number cannot be too high."
ONE_STEP = "Nothing was left standing, but no iterative gradient attack ran."


@dataclasses.dataclass(frozen=True)
class Judged:
    """All that a verdict is written from. `billed` says that the evidence was gathered about this very number."""

    claim: Claim
    preset: str
    seed: int
    evaluation: float
    seconds: float
    ids: list[str]
    subject: Subject | None
    evidence: Evidence | None
    broken: Broken | None
    billed: bool
    weak: bool = False

    @classmethod
    def of_nothing(cls, claim: Claim, preset: str, seed: int, evaluation: float, *, weak: bool) -> Judged:
        """Return what there is to say where nothing was left standing; `weak` where no attack was iterative."""
        return cls(claim, preset, seed, evaluation, 0.0, [], None, None, None, True, weak)


def written(folder: Path, judged: Judged) -> Verdict:
    """Return the verdict, and keep the images that the escalation broke in the run directory `folder`."""
    claim, evidence, broken = judged.claim, judged.evidence, judged.broken
    head, n = claim.head, len(claim.outcomes)
    findings = examine(evidence) if evidence is not None else ()
    asked = int(judged.subject.survived.sum()) if broken is not None and judged.subject is not None else 0
    count = len(broken.at) if broken is not None else 0
    attempts = broken.attempts if broken is not None else ()
    verdict = SUSPECT if judged.weak else judge(findings, claim.survived, asked, count)
    first = claim.survived / n if n else 0.0
    passes = evidence.passes if evidence is not None and judged.billed else {}
    return Verdict(
        cells=_each(judged, verdict),
        model=head.model.label,
        data=head.data.label,
        threat=head.threat.label,
        unit=head.unit,
        eps=claim.budget.value,
        eps_written=claim.budget.written,
        goal=head.goal,
        preset=judged.preset,
        seed=judged.seed,
        checks=VERSION,
        verdict=verdict,
        why=reason(findings, attempts, verdict) if findings else ONE_STEP if judged.weak else NOTHING_LEFT,
        n=n,
        survived=claim.survived,
        asked=asked,
        broken=count,
        as_first_measured=first,
        after_escalation=first * (1 - count / asked) if asked else first,
        findings=findings,
        attempts=attempts,
        passes=sum(passes.values()),
        escalation=broken.passes if broken is not None else 0,
        evaluation_passes=round(judged.evaluation * n),
        per_check=passes,
        seconds=judged.seconds,
        curves=_curves(evidence) if evidence is not None else {},
        images=_keep(folder, judged),
    )


def _each(judged: Judged, verdict: str) -> dict[str, str]:
    """Return the verdict on each cell's own number: other attacks of the run refute it as the escalation does."""
    claim, ids = judged.claim, judged.ids
    gone = {ids[i] for i in judged.broken.at.tolist()} if judged.broken is not None else set()
    told = {}
    for digest, statuses in claim.statuses.items():
        own = [name for name, status in statuses.items() if status == SURVIVED]
        fell = sum(name in gone or claim.outcome(name) == BROKEN for name in own)
        refuted = len(claim.statuses) > 1 and own and fell >= refuting(len(own))
        rest = SUSPECT if verdict == REFUTED and len(claim.statuses) > 1 else verdict
        told[digest] = REFUTED if refuted else rest
    return told


def _keep(folder: Path, judged: Judged) -> str | None:
    broken, subject = judged.broken, judged.subject
    if broken is None or subject is None or not len(broken.at):
        return None
    digest = hashlib.blake2b(repr(judged.claim.key).encode(), digest_size=8).hexdigest()
    name = f"adversarial-{digest}.safetensors"
    tensors = {
        "images": broken.images.cpu().contiguous(),
        "originals": subject.problem.x[broken.at].cpu().contiguous(),
        "labels": subject.problem.goal.y[broken.at].cpu(),
        "predictions": broken.classes.cpu(),
    }
    told = {"ids": json.dumps([judged.ids[i] for i in broken.at.tolist()])}
    make_folder(folder / FOLDER)
    write_atomically(folder / FOLDER / name, save(tensors, told))
    return name


def _curves(evidence: Evidence) -> dict[str, Any]:
    sight, slopes, growth = evidence.sight, evidence.slopes, evidence.growth
    return {
        "losses": {name: list(values) for name, values in evidence.paths.losses.items()},
        "gaps": {"edges": list(sight.gaps.edges), "counts": list(sight.gaps.counts)},
        "zero": dict(sight.zero),
        "growth": {"budgets": list(growth.budgets), "success": list(growth.success)},
        "line": {
            "places": list(slopes.places),
            "along the gradient": list(slopes.along_gradient),
            "along a random direction": list(slopes.along_random),
        },
    }
