"""Scores that each are a decision, for two classes or for every label: or are they undeclared probabilities?"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.answers import ONE_SCORE
from assay.core.errors import BadInput
from assay.core.oracle import TorchOracle
from assay.models.normalized import Thresholded

_ASKED = 16

SIGMOID = (
    "The model returns one score per image, and all of them lie from 0 to 1, as probabilities do (a sigmoid). Scores "
    "mean class 1 above 0, and with these every image would be of class 1. Return the score before the sigmoid, or "
    "pass --outputs probabilities (outputs: probabilities in a study, load_model(net, outputs='probabilities')); if "
    "they are no probabilities, return the two logits [-score / 2, score / 2]."
)

SIGMOIDS = (
    "The model's scores all lie from 0 to 1, as probabilities do (a sigmoid for each label). Scores mean that a label "
    "is present above 0, and with these every label would be. Return the scores before the sigmoid, or load it as "
    "load_model(net, outputs='probabilities')."
)


def check_one_score(oracle: TorchOracle, x: Tensor, logits: Tensor, outputs: str) -> None:
    """Raise `BadInput` where the single scores in `logits` `[N, 2]` of images `x` look like undeclared probabilities.

    For models that give one score per image and have answered `x`; others pass. Of few images the answers may lie in
    [0, 1] by chance: then the model is asked about their negatives, black, white and random images too.
    """
    if outputs != "logits" or ONE_SCORE not in oracle.told or not _like_probabilities(oracle, logits):
        return
    if len(x) < _ASKED and not _like_probabilities(oracle, oracle.answers(_others(x))):
        return
    raise BadInput(SIGMOID)


def check_several(oracle: TorchOracle, x: Tensor, logits: Tensor, labels: int) -> None:
    """Raise `BadInput` for other than a score `[N, K]` per label, and for scores that look like probabilities."""
    if logits.shape[1] != labels or ONE_SCORE in oracle.told:
        given = "one score" if ONE_SCORE in oracle.told else f"{logits.shape[1]} scores"
        raise BadInput(
            f"The model gives {given} per image and the labels are {labels}, expected a score for each label. Use "
            "labels [N, K] in the order of the model's outputs."
        )
    if _inside(logits) and (len(x) >= _ASKED or _inside(oracle.answers(_others(x)))):
        raise BadInput(SIGMOIDS)


def _like_probabilities(oracle: TorchOracle, logits: Tensor) -> bool:
    threshold = oracle.model.threshold if isinstance(oracle.model, Thresholded) else 0.0
    return _inside(logits[:, 1] + threshold)


def _inside(score: Tensor) -> bool:
    # adding a threshold again rounds
    return bool(((score >= -1e-6) & (score <= 1 + 1e-6)).all())


def _others(x: Tensor) -> Tensor:
    few = x[:_ASKED]
    flips = torch.rand(_ASKED, *x.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.5
    ends = torch.stack([torch.zeros_like(x[0]), torch.ones_like(x[0])])
    return torch.cat([1 - few, ends, flips.to(x)])
