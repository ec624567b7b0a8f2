"""PatchCleanser's certificate: no patch changes an answer that all images under two masks agree with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from assay.certification.certificate import Certificates
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.oracle import Cost
from assay.core.problem import Problem
from assay.core.tensors import counts
from assay.defenses.double_masking import DoubleMasking
from assay.models import Classifier

# Answers to one masked image differ by a few millionths of their size between batches: a lead below this is no proof.
_LEAST = 1e-4
# how many pairs of masks an image is shown before it is looked whether it still stands; each block is twice as long
_FIRST_BLOCK = 12


@dataclasses.dataclass(frozen=True)
class DoubleMaskingCertificate:
    """All images under one and under two of the masks are the label's: then no patch changes the answer.

    Xiang et al. 2022. Of M masks, M (M + 1) / 2 images are asked about: 666 for 6 x 6 masks. Wherever a patch
    of at most the defence's `patch` lies, some mask hides it, and what that mask and any second one leave is the image
    without the patch: label under all of them, so that mask is never outvoted and outvotes every other answer. The
    proof asks for nothing else: values in the patch, the rest of the network and ties of the majority do not matter.
    A label that leads by less than 1e-4 (of the largest logit, where that is above 1) counts as not proven: in another
    batch the same image may be answered otherwise. Pairs of masks under which the label leads least come first, and an
    image is given up at its first wrong pair. Budgets above `patch` are not certified. Deterministic.
    """

    alpha: ClassVar[float] = 0.0

    def check(self, model: Classifier, problem: Problem) -> None:
        """Raise `BadInput` for a model without the defence outermost, another norm, coarse numbers and small images."""
        if problem.threat.norm.name != "patch":
            raise BadInput(
                f"double-masking certifies in the norm patch, and the threat is in {problem.threat.norm.name}."
            )
        module = _masking(model)
        if model.random:
            raise BadInput("double-masking compares answers to the same image, and the model draws numbers.")
        module.hidden(problem.x)
        dtype = model.oracle().form(problem.x).dtype
        tf32 = problem.x.is_cuda and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
        if dtype.itemsize < 4 or tf32:
            told = "TF32, which torch.backends.cudnn.allow_tf32 = False turns off" if tf32 else str(dtype)
            raise BadInput(
                f"double-masking compares leads of {_LEAST:g}, and the model computes in {told}: the same image may be "
                "answered otherwise in another batch. Use float32."
            )

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return what is proved of the images of `problem`; nothing is drawn."""
        y = problem.goal.y
        module, oracle = _masking(model), model.oracle()
        with model.held(), torch.no_grad(), oracle.ready(problem.x) as images:
            answers = module.one_mask_answers(images)
            lead, sure = _leads(answers, y[:, None])
            proven, spent = _pairs(module, images, y, lead, sure.all(1))
            spent += answers.shape[1]
            prediction = y.clone()
            seen, rest = problem.seen_at_x, (~proven).nonzero().squeeze(1)
            if seen is not None:
                prediction[rest] = seen.logits.argmax(1)[rest]
            else:
                decision = module.decide(images[rest], answers[rest].argmax(2))
                prediction[rest] = decision.label
                spent[rest] += decision.spent
        right = prediction == y
        certified = torch.stack([right if eps == 0 else proven & (eps <= module.patch) for eps in budgets])
        radius = torch.where(proven, float(module.patch), 0.0).double()
        return Certificates(certified, prediction, None, radius, Cost(spent, counts(y), counts(y, 1)))


def _masking(model: Classifier) -> DoubleMasking:
    if not isinstance(model.module, DoubleMasking):
        name = model.spec or "a model"
        raise BadInput(
            f"double-masking certifies what stands behind that defence, the first of its chain, and {name} does not. "
            f"Write {name.partition('|')[0]}|double-masking:patch=5."
        )
    return model.module


def _leads(answers: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much the label leads logits `[..., K]`, and whether that is a proof (NaN is none)."""
    at = y.expand(answers.shape[:-1])[..., None]
    lead = answers.gather(-1, at).squeeze(-1) - answers.scatter(-1, at, -torch.inf).amax(-1)
    return lead, lead >= _LEAST * answers.abs().amax(-1).clamp_min(1)


def _pairs(module: DoubleMasking, x: Tensor, y: Tensor, lead: Tensor, standing: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows (bool `[N]`) of those `standing` stand under all pairs of two masks, and the forwards of each.

    `lead` `[N, M]` is that of the label under each mask.
    """
    standing, spent = standing.clone(), counts(y)
    first, second = torch.triu_indices(lead.shape[1], lead.shape[1], 1, device=x.device)
    order = (lead[:, first] + lead[:, second]).argsort(1)
    at, block = 0, _FIRST_BLOCK
    while at < len(first) and bool(standing.any()):
        row = standing.nonzero().squeeze(1)
        pair = order[row, at : at + block]
        row = row[:, None].expand_as(pair).flatten()
        answers = module.pair_answers(x, row, first[pair.flatten()], second[pair.flatten()])
        spent.index_add_(0, row, torch.ones_like(row))
        standing[row[~_leads(answers, y[row])[1]]] = False
        at, block = at + block, 2 * block
    return standing, spent
