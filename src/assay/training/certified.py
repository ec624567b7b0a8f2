"""Certified training: the loss at the worst logits that bounds leave possible, not at a point that an attack finds.

Bounds speak of the network in eval mode (no dropout, the running statistics of batch norm), for that is what is
certified later; the loss at the images themselves is taken in the network's own mode.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.certification.bounds.crown import Lines, Work, label_rows, lowest, other_classes
from assay.certification.bounds.graph import Graph, Recording, check_graph, record
from assay.certification.bounds.interval import Interval, interval_bounds, interval_margins
from assay.certification.bounds.operations import Relu
from assay.certification.bounds.region import Region, judged
from assay.certification.bounds.rows import Rows
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.norms import LINF
from assay.core.oracle import frozen
from assay.core.threat import Threat
from assay.training.adversarial import labels_of
from assay.training.dataset_view import Examples
from assay.training.robustness_probe import Probed

METHODS = ("ibp", "crown-ibp")


@dataclasses.dataclass(frozen=True)
class CertifiedTraining:
    """Cross-entropy at the worst logits inside bounds, mixed with that at the image.

    kappa CE(f(x)) + (1 - kappa) CE(worst), for changes of up to `eps` of each value (L-infinity, inside [0, 1]). The
    method `ibp` takes interval bounds (Gowal et al. 2018), `crown-ibp` a mixture of these with the linear bounds that
    CROWN draws from them: CROWN's alone at first, intervals alone at the end (Zhang et al. 2020). For the first share
    `warmup` of the training the loss is that at the image; over the next share `ramp` the size grows from 0 to `eps`,
    and the weight of the image falls from 1 to `kappa`. Cost per sample: 3 forwards and backwards, and with
    `crown-ibp` a backward per class while the size grows.

    Raises `BadInput` for a method, size or share that training cannot use, and when called for a network that bounds
    know nothing of.
    """

    eps: float
    method: str = "ibp"
    warmup: float = 0.05
    ramp: float = 0.4
    kappa: float = 0.5
    grown: float = dataclasses.field(default=1.0, repr=False)
    recordings: WeakKeyDictionary[nn.Module, Recording] = dataclasses.field(
        default_factory=WeakKeyDictionary, repr=False, compare=False
    )
    """The operations of a network, read off it when it is first asked."""

    passes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        """Refuse methods, sizes and shares that are none."""
        if self.method not in METHODS:
            raise BadInput(f"method is {self.method!r}; expected {' or '.join(METHODS)}.")
        if not 0 < self.eps < math.inf:
            raise BadInput(f"eps is {self.eps}, expected a size above 0 in pixel units, such as 0.1.")
        for name in ("warmup", "ramp", "kappa"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}, expected a share from 0 to 1.")
        if self.warmup + self.ramp > 1:
            raise BadInput(
                f"warmup is {self.warmup} and ramp {self.ramp}, together more than the whole training. Leave a part of "
                "it at the full size, such as warmup 0.05 and ramp 0.4."
            )

    def during(self, share: float, /) -> CertifiedTraining:
        """Return the loss with the size it has grown to."""
        past = share - self.warmup
        grown = float(past >= 0) if not self.ramp else min(1.0, max(0.0, past / self.ramp))
        return dataclasses.replace(self, grown=grown)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`; nothing is drawn."""
        # before the first step, so that a network without bounds is refused before it is trained
        if model not in self.recordings:
            self.recordings[model] = recorded(model, x)
        at_image = F.cross_entropy(model(x), y, reduction="none")
        weight = (1 - self.kappa) * self.grown
        if not weight:
            return at_image
        crown = 1 - self.grown if self.method == "crown-ibp" else 0.0
        lead = margins(self.recordings[model], x, labels_of(y), self.eps * self.grown, crown=crown)
        # the logits that lead the label by as much as they can
        return (1 - weight) * at_image + weight * F.cross_entropy(-lead, y, reduction="none")


def margins(recording: Recording, x: Tensor, y: Tensor, eps: float, *, crown: float = 0.0) -> Tensor:
    """Return lower bounds `[N, K]` of how far the label's logit leads each other one, for changes of up to `eps`.

    By intervals, and to a share of `crown` by the linear bounds that CROWN draws from them. In the network's own
    precision: what rounding can do is not in them.
    """
    graph = recording.graph()
    low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
    known = interval_bounds(graph, low, high)
    lead = interval_margins(graph, known, y)
    if not crown:
        return lead
    region = Region(x, low, high, LINF, x.new_full((len(x),), eps), torch.ones_like(x[:1]))
    return torch.lerp(lead, _linear_margins(graph, known, region, y), crown)


def _linear_margins(graph: Graph, known: list[Interval], region: Region, y: Tensor) -> Tensor:
    # CROWN, with the inputs of every ReLU bounded by intervals
    lines = {
        number: Lines.around(known[node.inputs[0]])
        for number, node in enumerate(graph.nodes, 1)
        if isinstance(node.operation, Relu)
    }
    rows = label_rows(graph, y)
    rows = Rows(rows.values.to(region.x.dtype), rows.image)
    least = lowest(graph, region, lines, (len(graph.nodes), rows), Work.on(y))
    others = other_classes(y, graph.classes)
    return least.new_zeros(len(y), graph.classes).scatter(1, others, least.view_as(others))


def recorded(model: nn.Module, x: Tensor) -> Recording:
    """Return the operations of `model` in eval mode, checked on the images `x`. Raises `BadInput` for unknown ones."""
    with frozen(model):
        recording = record(model, x)
        check_graph(recording, model, x)
    return recording


@dataclasses.dataclass(frozen=True)
class CertifiedProbe:
    """The share of the first `count` validation images that intervals certify at `eps`, with the judge's tolerance.

    In the network's own precision: good for telling epochs apart; `assay certify` proves it of the stored weights. Cost
    per image: 2 forwards.
    """

    eps: float
    count: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not 0 < self.eps < math.inf:
            raise BadInput(f"eps is {self.eps}, expected a size above 0 in pixel units, such as 0.1.")
        if self.count < 1:
            raise BadInput(f"count is {self.count}, expected a whole number of at least 1.")

    def __call__(self, model: nn.Module, examples: Examples, seed: int) -> Probed:
        """Return the certified accuracy of `model`, in eval mode."""
        device = next(model.parameters()).device
        proved, count = 0, min(self.count, len(examples))
        with torch.no_grad():
            for at in torch.split(torch.arange(count), 500):
                x, y = (part.to(device) for part in examples.batch(at))
                y = labels_of(y)
                lead = margins(recorded(model, x), x, y, float(judged(Threat(LINF, self.eps), x)))
                proved += int((lead.scatter(1, y[:, None], torch.inf) > 0).all(1).sum())
        return Probed(certified=proved / count)
