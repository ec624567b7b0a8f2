"""Other questions to the same network: a linear head of two classes for each image, on the network's own features.

Features are what goes into the network's last linear layer. The heads are looked up by the samples' draws, so that
they follow their rows through every attack and composition.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from assay.core.answers import gives_one_score
from assay.core.draws import Draws
from assay.core.errors import BadInput, ModelError
from assay.core.goal import Goal, Untargeted
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Cost, Observation, TorchOracle
from assay.core.signals import Signals, excess_of, with_refusal
from assay.core.tensors import counts, take


@dataclasses.dataclass(frozen=True)
class Heads:
    """One head per row: `score` is 0 at the `origin` (features `[N, D]`), and the second class begins at `border`.

    `gap` is how far the first class leads at the origin, in logits; `weight` is `[N, D]`, the rest `[N]`. Of a network
    that may refuse, the last of its features `[N, D + 1]` is how far it is from that, and the head refuses from
    `refusal` on.
    """

    origin: Tensor
    weight: Tensor
    border: Tensor
    gap: Tensor
    refusal: Tensor | None = None

    def score(self, features: Tensor) -> Tensor:
        """Return `[N]`: how far the features lie along the weights."""
        # the difference first: far from zero, float32 has no digits left for it
        return ((self.seen(features) - self.origin) * self.weight).sum(1)

    def seen(self, features: Tensor) -> Tensor:
        """Return the features that the classes are made of."""
        return features if self.refusal is None else features[:, :-1]

    def logits(self, features: Tensor) -> Tensor:
        """Return the two logits `[N, 2]`, and that of a refusal behind them."""
        half = (self.border - self.score(features)) * (self.gap / self.border) / 2
        classes = torch.stack([half, -half], 1)
        return classes if self.refusal is None else with_refusal(Signals(classes, features[:, -1] - self.refusal))


@dataclasses.dataclass(frozen=True)
class Headed:
    """The oracle whose network `features` ends in the head of each row; `ids` are those of the rows' draws, sorted."""

    features: TorchOracle
    heads: Heads
    ids: Tensor

    @staticmethod
    def of(features: TorchOracle, heads: Heads, draws: Draws) -> Headed:
        """Return the oracle for heads in the order of the draws. Raises `BadInput` where two samples share an id."""
        ids, order = draws.ids.sort()
        if bool((ids[1:] == ids[:-1]).any()):
            raise BadInput("Two of the samples have the same id, expected one of its own for each: name them apart.")
        return Headed(features, take(heads, order), ids)

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask the heads; see `Oracle`. Raises `BadInput` for rows that are none of the samples."""
        at = torch.searchsorted(self.ids, draws.ids).clamp_max(len(self.ids) - 1)
        if len(at) != len(points) or not torch.equal(self.ids[at], draws.ids):
            raise BadInput(
                "The attack asks about rows that belong to none of the images, which have no head. Only attacks that "
                "work image by image can be asked to find planted solutions."
            )
        heads = take(self.heads, at)
        seen = self.features.look(points, _Judged(goal, heads), _Climbed(objective), access, draws)
        return seen._replace(logits=heads.logits(seen.logits))


@dataclasses.dataclass(frozen=True)
class _Judged:
    # a goal of the heads' answers, in terms of features
    goal: Goal
    heads: Heads

    @property
    def y(self) -> Tensor:
        return self.goal.y

    def reached(self, logits: Tensor) -> Tensor:
        return self.goal.reached(self.heads.logits(logits))

    def gap(self, logits: Tensor) -> Tensor:
        return self.goal.gap(self.heads.logits(logits))

    def lead(self, logits: Tensor) -> Tensor:
        return self.goal.lead(self.heads.logits(logits))

    def surprise(self, logits: Tensor) -> Tensor:
        return self.goal.surprise(self.heads.logits(logits))


@dataclasses.dataclass(frozen=True)
class _Climbed:
    objective: Objective

    def __call__(self, logits: Tensor, goal: Any) -> Tensor:
        return self.objective(goal.heads.logits(logits), goal.goal)


class _Tap(nn.Module):
    """`module` up to the input of its linear `layer`, with how far it is from a refusal where it `rejects`."""

    def __init__(self, module: nn.Module, layer: nn.Module, rejects: bool) -> None:
        super().__init__()
        self.module, self.rejects = module, rejects
        # in a tuple, so that it is no second child
        self.layer = (layer,)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        hook = self.layer[0].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            answer = self.module(x)
        finally:
            hook.remove()
        if not kept:
            raise ModelError(
                "The model's last linear layer ran for the first image and not for the others: its forward takes a "
                "path of its own for each input. Its features cannot be compared, and no solutions can be planted."
            )
        # a detector may show the network other images besides, after the image itself
        return torch.cat([kept[0], excess_of(answer)[:, None]], 1) if self.rejects else kept[-1]


class _Answer(nn.Module):
    """The logits of the classes of a `module` that may refuse, and how far it is from that."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        answer = self.module(x)
        return torch.cat([answer[:, :-1], excess_of(answer)[:, None]], 1)


@dataclasses.dataclass
class _Watched:
    # linear layers that ran on one row and gave as many values as there are classes, and whether the output had a
    # gradient: what one pass shows of a network
    layers: list[nn.Module]
    graded: bool = False


class _Watch(nn.Module):
    """`module`, noting which layers may be its last."""

    def __init__(self, module: nn.Module, classes: int, seen: _Watched) -> None:
        super().__init__()
        self.module, self.classes, self.seen = module, classes, seen

    def forward(self, x: Tensor) -> Tensor:
        ran: list[tuple[nn.Module, Tensor, int]] = []

        def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            # one score per image stands for two classes
            if inputs and output.shape in ((len(x), self.classes), (len(x), 1)) and inputs[0].shape[1] > 1:
                ran.append((layer, inputs[0], output.shape[1]))

        hooks = [one.register_forward_hook(note) for one in self.module.modules() if isinstance(one, nn.Linear)]
        try:
            logits: Tensor = self.module(x)
        finally:
            for hook in hooks:
                hook.remove()
        self.seen.graded = logits.requires_grad
        # where the gradient comes by another way than through the features, they do not show what attacks see
        width = 1 if gives_one_score(logits, len(x)) else self.classes
        made = [(layer, inputs) for layer, inputs, values in ran if values == width]
        self.seen.layers = [layer for layer, inputs in made if inputs.requires_grad or not logits.requires_grad]
        return logits


@dataclasses.dataclass(frozen=True)
class Network:
    """A network cut open: the oracle of its features, and whether they have a gradient.

    `cost` is what finding that out took: one forward, and at most one backward, of the first row.
    """

    features: TorchOracle
    graded: bool
    cost: Cost

    SHARED: ClassVar[tuple[str, ...]] = ("features",)

    @staticmethod
    def opened(oracle: TorchOracle, x: Tensor, classes: int, draws: Draws, *, rejects: bool = False) -> Network:
        """Return the network behind an oracle, seen on the first of the images `x`.

        Features are the logits where no linear layer makes them, or more than one does (ensembles, several passes).
        Where it `rejects`, the last of them says how far it is from a refusal, and the passes that a detector makes
        besides do not count.
        """
        first = torch.arange(1, device=x.device)
        goal = Untargeted(torch.zeros_like(first))
        seen = _Watched([])
        cost = Cost(counts(first, 1), counts(first, 0), counts(first, 1))
        watch = dataclasses.replace(oracle, model=_Watch(oracle.model, classes, seen))
        # a model without a gradient can still be asked for its scores
        with contextlib.suppress(ModelError):
            cost = watch.look(x[:1], goal, margin, Access.GRADIENT, draws.take(first)).cost
        layers = list(dict.fromkeys(seen.layers)) if rejects else seen.layers
        whole = _Answer(oracle.model) if rejects else oracle.model
        cut = whole if len(layers) != 1 else _Tap(oracle.model, layers[0], rejects)
        return Network(dataclasses.replace(oracle, model=cut), seen.graded, cost)
