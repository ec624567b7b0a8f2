"""From evidence to the stored verdict, and the file of the images that refute."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from assay.audit.checks import VERSION
from assay.audit.escalate import Refutation, nothing_broken
from assay.audit.evidence import Evidence
from assay.audit.families import Looks, family_looks, of_evidence
from assay.audit.robust_numbers import RobustNumber
from assay.audit.subject import Subject
from assay.audit.verdict_rule import BLACK_BOX, Limits, judge, reason, refuting
from assay.core.tensors import take
from assay.evaluation.records.schema import BROKEN, SURVIVED
from assay.evaluation.records.verdicts import FOLDER, REFUTED, SUSPECT, Finding, Verdict
from assay.evaluation.run import GRADIENT, Run
from assay.files import make_folder, write_atomically

DEEPER = {"quick": "standard", "standard": "thorough"}
"""For each preset the one that looks closer."""

NOTHING_LEFT = "Nothing was left standing: the number cannot be too high."
ONE_STEP = "Nothing was left standing, but no iterative gradient attack ran."
ALL_PROVED = "All that withstands is certified: the number cannot be too high."


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerdictInputs:
    """All that a verdict is written from.

    `evaluation` is what a sample cost the evaluation, `limit` the most that the escalation might spend. Where nothing
    was left standing that is not certified there is neither subject nor evidence; `weak` then says that no attack was
    iterative. `billed` says that the evidence was gathered about this very number. `looks` are those of the families
    at this number. `access` is the most that the model gives, and `twin` names the white-box twin that led on it.
    """

    number: RobustNumber
    preset: str
    seed: int
    evaluation: float
    seconds: float = 0.0
    ids: Sequence[str] = ()
    subject: Subject | None = None
    evidence: Evidence | None = None
    findings: tuple[Finding, ...] = ()
    broken: Refutation | None = None
    limit: float = math.inf
    billed: bool = True
    weak: bool = False
    looks: Looks | None = None
    access: str = GRADIENT
    twin: str = ""

    @property
    def black_box(self) -> bool:
        """Whether the model gives scores or labels alone, and no twin led on it."""
        return self.access != GRADIENT and not self.twin

    @property
    def limits(self) -> Limits:
        """What the audit could have missed of the number."""
        number, n = self.number, len(self.number.outcomes)
        made = [*(self.looks.made if self.looks is not None else ()), *(self.broken.attempts if self.broken else ())]
        if self.evidence is not None and self.billed:
            made += of_evidence(self.evidence)
        looks = family_looks(made, number.open, n)
        return Limits(n, number.survived, number.certified, looks, self.black_box)

    @property
    def passes(self) -> dict[str, int]:
        """What each probe and look cost that is billed to this number."""
        probes = self.evidence.passes if self.evidence is not None and self.billed else {}
        return {**probes, **(self.looks.passes if self.looks is not None else {})}


def written(folder: Path, judged: VerdictInputs) -> Verdict:
    """Return the verdict, and keep the images that the escalation broke in the run directory `folder`."""
    number, evidence, broken, findings = judged.number, judged.evidence, judged.broken, judged.findings
    head, n = number.head, len(number.outcomes)
    asked = int(judged.subject.survived.sum()) if broken is not None and judged.subject is not None else 0
    count = len(broken.at) if broken is not None else 0
    attempts = broken.attempts if broken is not None else ()
    stopped = broken is not None and broken.stopped
    limits, passes = judged.limits, judged.passes
    verdict = judge(findings, number.survived, asked, count, limits, stopped=stopped)
    verdict = SUSPECT if judged.weak else verdict
    limit = Run.open(folder).queries_limit(number.statuses) if judged.access != GRADIENT else None
    first = number.survived / n if n else 0.0
    settle = f"assay audit {folder} --preset {DEEPER.get(judged.preset, judged.preset)}"
    return Verdict(
        cells=_each(judged, verdict),
        model=head.model.label,
        data=head.data.label,
        threat=head.threat.label,
        unit=head.unit,
        eps=number.budget.value,
        eps_written=number.budget.written,
        goal=head.goal,
        preset=judged.preset,
        seed=judged.seed,
        checks=VERSION,
        verdict=verdict,
        why=reason(findings, attempts, verdict, limits, stopped=stopped, settle=settle, twin=_next(folder))
        if findings
        else _nothing_open(judged),
        n=n,
        survived=number.survived,
        asked=asked,
        broken=count,
        as_first_measured=first,
        after_escalation=(number.survived - number.open * count / asked) / n if asked else first,
        findings=findings,
        attempts=attempts,
        passes=sum(passes.values()),
        escalation=broken.passes if broken is not None else 0,
        evaluation_passes=round(judged.evaluation * n),
        per_check=passes,
        seconds=judged.seconds,
        curves=_curves(evidence) if evidence is not None else {},
        images=_keep(folder, judged),
        escalation_limit=round(judged.limit) if broken is not None and math.isfinite(judged.limit) else None,
        stopped=stopped,
        certified=number.certified,
        looks=limits.looks,
        resolution=limits.resolution if limits.looks else None,
        access=judged.access,
        queries_limit=limit,
        twin=judged.twin,
    )


def _next(folder: Path) -> str:
    """Return what would say more about a number of a black box."""
    return (
        "attack a white-box twin and judge its images here (--attack pgd:surrogate=MODEL beside the others), or "
        f"`assay audit {folder} --twin MODEL`"
    )


def _nothing_open(judged: VerdictInputs) -> str:
    if judged.number.certified:
        return ALL_PROVED
    if judged.black_box:
        return f"{NOTHING_LEFT[:-1]}. {BLACK_BOX[0].upper()}{BLACK_BOX[1:]}."
    return ONE_STEP if judged.weak else NOTHING_LEFT


def _each(judged: VerdictInputs, verdict: str) -> dict[str, str]:
    """Return the verdict on each cell's own number: other attacks of the run refute it as the escalation does."""
    number, ids = judged.number, judged.ids
    gone = {ids[i] for i in judged.broken.at.tolist()} if judged.broken is not None else set()
    told = {}
    for digest, statuses in number.statuses.items():
        own = [name for name, status in statuses.items() if status == SURVIVED]
        fell = sum(name in gone or number.outcome(name) == BROKEN for name in own)
        refuted = len(number.statuses) > 1 and own and fell >= refuting(len(own))
        rest = SUSPECT if verdict == REFUTED and len(number.statuses) > 1 else verdict
        told[digest] = REFUTED if refuted else rest
    return told


def _keep(folder: Path, judged: VerdictInputs) -> str | None:
    broken, subject = judged.broken, judged.subject
    if broken is None or subject is None or not len(broken.at):
        return None
    digest = hashlib.blake2b(repr(judged.number.key).encode(), digest_size=8).hexdigest()
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


def broken_before(folder: Path, verdict: Verdict, ids: Sequence[str], subject: Subject) -> Refutation:
    """Return what an earlier escalation broke of a number, as its images in the run directory `folder` show it.

    Images that are gone, damaged, or outside box and budget count as not found.
    """
    nothing = nothing_broken(subject)
    path = folder / FOLDER / Path(verdict.images or "none").name
    if verdict.images is None or not path.is_file():
        return nothing
    try:
        with safe_open(path, "pt") as file:
            images, classes = file.get_tensor("images"), file.get_tensor("predictions")
            names = json.loads(file.metadata()["ids"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return nothing
    places = {name: i for i, name in enumerate(ids)}
    known = [i for i, name in enumerate(names) if name in places]
    x = subject.problem.x
    if images.shape[1:] != x.shape[1:] or not len(images) == len(classes) == len(names):
        return nothing
    at = torch.tensor([places[names[i]] for i in known], dtype=torch.int64, device=x.device)
    own = Refutation(at, images[known].to(x), classes[known].to(x.device))
    threat = take(subject.problem, at).threat
    return own.taken(threat.allows(threat.size(own.images, x[at])) & threat.in_box(own.images) & subject.survived[at])


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
