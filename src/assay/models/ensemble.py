"""Several networks as one, the usual surrogate of a transfer attack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from assay.core.answers import checked_logits, gives_one_score
from assay.core.errors import BadInput, did_you_mean
from assay.models.classifier import Classifier


def together(models: Sequence[Classifier]) -> Classifier:
    """Return the models as one whose logits are the mean of theirs; one alone is itself.

    Raises `BadInput` where some of them may refuse an image and others may not.
    """
    if len(models) == 1:
        return models[0]
    rejects = models[0].rejects
    if any(model.rejects != rejects for model in models):
        raise BadInput(
            f"Of the models {' + '.join(model.spec or 'without a name' for model in models)} some refuse images and "
            "others do not: their answers have no mean. Join models of one kind."
        )
    module = Ensemble([model.module for model in models])
    access = min(model.access for model in models)
    return Classifier(module, access=access, runs_on=models[0].runs_on, rejects=rejects)


FUSED = ("logits", "probabilities")


class Ensemble(nn.Module):
    """The mean of several networks' logits, or the logarithm of the mean of their probabilities, weighted if told.

    Dong et al. 2018 (MI-FGSM) found fused logits the best surrogate. All take the same images and return `[N, K]`. A
    pass through the ensemble is one through each network, counted once. Raises `BadInput` for no networks, for
    weights that do not fit them, for an unknown way to fuse, and, when asked, for networks of different classes.
    """

    weights: Tensor

    def __init__(
        self, networks: Sequence[nn.Module], weights: Sequence[float] | None = None, fuse: str = "logits"
    ) -> None:
        super().__init__()
        given = [1.0] * len(networks) if weights is None else list(weights)
        if not networks or len(given) != len(networks) or min(given) < 0 or not sum(given) > 0:
            raise BadInput(
                f"An ensemble of {len(networks)} networks with weights {given}; expected one network or more, and as "
                "many weights of 0 or more that are not all 0."
            )
        if fuse not in FUSED:
            raise BadInput(f"fuse is {fuse!r}, expected one of {', '.join(FUSED)}.{did_you_mean(fuse, FUSED)}")
        self.networks = nn.ModuleList(networks)
        self.fuse = fuse
        self.register_buffer("weights", torch.tensor(given, dtype=torch.float64) / sum(given), persistent=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the fused logits `[N, K]` of images `x`."""
        each = [_of_two(network(x), len(x)) for network in self.networks]
        shapes = {tuple(one.shape) for one in each}
        if len(shapes) > 1:
            classes = " and ".join(str(shape[-1]) for shape in sorted(shapes))
            raise BadInput(f"The networks of the ensemble have {classes} classes; expected the same classes.")
        if self.fuse == "logits":
            return _weighted(each, self.weights)
        logs = torch.stack([one.log_softmax(1) for one in each])
        return (logs + self.weights.to(logs).log().view(-1, 1, 1)).logsumexp(0)


def _of_two(output: Tensor, n: int) -> Tensor:
    # one score per image has no softmax of its own
    return checked_logits(output, n) if gives_one_score(output, n) else output


def _weighted(each: Sequence[Tensor], weights: Tensor) -> Tensor:
    return sum((weight * one for weight, one in zip(weights.tolist(), each, strict=True)), torch.zeros_like(each[0]))
