"""What refuses images: whether its score has a gradient, follows from the image alone, and can be forced."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.bypass import Accepting, ClassesAlone, accepted
from assay.audit.subject import CleanRefusals, Subject
from assay.core.compose import run
from assay.core.errors import ModelError
from assay.core.goal import Goal
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.signals import excess_of
from assay.core.tensors import flat, rows

STEPS = 20
# scores of one image differ by rounding with the batch: by far less than this share of how far images are from refusal
_APART = 0.02


@dataclasses.dataclass(frozen=True)
class Refusals:
    """What `n` accepted images showed of a model that may refuse.

    `zero` is the share whose score has no gradient at all: at an image that the classes alone get wrong, where the
    model refuses it, and else at the image itself. `company` is the share whose score differs in other company.
    An attack on the classes alone made `wrong` of the images wrong, and of those the model refuses `refused`. One that
    takes refusals for successes forced `forced` of them. `clean` is what the clean images of the run show.
    """

    n: int
    zero: float
    company: float
    wrong: int
    refused: int
    forced: int
    clean: CleanRefusals | None = None


def refusals(subject: Subject) -> Refusals | None:
    """Attack the classes alone and then the refusal alone: 46 passes for each of up to 32 images; None without one."""
    if not subject.rejects:
        return None
    few = subject.some("refusals", 2 * STEPS + 6, 32)
    x = few.problem.x
    own, each = _excess(few, x), torch.arange(len(x), device=x.device)
    alone = torch.cat([_excess(few.taken(each[i : i + 1]), x[i : i + 1]) for i in range(len(x))])
    wrong, images = _without_detector(few)
    refused = wrong & (_excess(few, images) > 0)
    # every other image among attacked ones
    even = each % 2 == 0
    among = _excess(few, torch.where(rows(even, x), x, images))
    near = _APART * own.abs().median()
    apart = ((own - alone).abs() > near) | (even & ((own - among).abs() > near))
    return Refusals(
        n=len(x),
        zero=_share(_blind(few, torch.where(rows(refused, x), images, x))),
        company=_share(apart),
        wrong=int(wrong.sum()),
        refused=int(refused.sum()),
        forced=_forced(few),
        clean=subject.clean,
    )


def _excess(subject: Subject, x: Tensor) -> Tensor:
    problem = subject.problem
    return excess_of(problem.oracle.look(x, problem.goal, margin, Access.SCORES, subject.draws).logits)


def _told(logits: Tensor, goal: Goal) -> Tensor:
    return excess_of(logits)


def _blind(subject: Subject, x: Tensor) -> Tensor:
    problem = subject.problem
    try:
        seen = problem.oracle.look(x, problem.goal, _told, Access.GRADIENT, subject.draws)
    except ModelError:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    assert seen.grad is not None, "the look asked for it"
    return flat(seen.grad == 0).all(1)


def _without_detector(subject: Subject) -> tuple[Tensor, Tensor]:
    # what an attack that ignores the detector makes, and which of it the classes alone get wrong
    bare = subject.meter.of(Accepting(subject.asking(ClassesAlone(subject.module))))
    return _attacked(subject, dataclasses.replace(subject.problem, oracle=bare, known=None), "classes alone")


def _forced(subject: Subject) -> int:
    problem = dataclasses.replace(subject.problem, goal=accepted(subject.problem.goal), known=None)
    reached, images = _attacked(subject, problem, "refusal")
    return int((reached & (_excess(subject, images) > 0)).sum())


def _attacked(subject: Subject, problem: Problem, name: str) -> tuple[Tensor, Tensor]:
    if subject.norm not in ATTACKS["pgd"].norms:
        return torch.zeros(len(problem.x), dtype=torch.bool, device=problem.x.device), problem.x
    try:
        found = run(build("pgd", steps=STEPS, objective="margin"), problem, subject.fold(name), keeps=Keeps.WORST)
    except ModelError:
        return torch.zeros(len(problem.x), dtype=torch.bool, device=problem.x.device), problem.x
    return found.success, found.x


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())
