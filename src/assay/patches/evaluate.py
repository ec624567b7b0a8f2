"""What a patch does: its success over images, placements and models, with an interval that knows about both."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from assay.attacks.patch import Place, Room
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Goal, Targeted, Untargeted, rank_of, scored
from assay.core.objective import margin
from assay.core.oracle import Access, Oracle
from assay.core.signals import apart
from assay.data import Data, Sample
from assay.models import Classifier
from assay.patches.patch import Patch
from assay.patches.placing import Placing
from assay.patches.transforms import Transforms
from assay.patches.victims import Victims
from assay.statistics import clustered

_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Where:
    """Which placements an evaluation tries: `placements` random ones per image, all of a grid, or one fixed place.

    `stride` is the grid's distance in pixels; `at` the (row, column) of a fixed top left corner. `published` restricts
    random places as `Room` says.
    """

    placements: int = 50
    stride: int | None = None
    at: Place | None = None
    published: bool = False

    def __post_init__(self) -> None:
        """Refuse no placements at all."""
        if self.placements < 1:
            raise BadInput(f"placements is {self.placements}; expected 1 or more.")

    def places(self, room: Room, draws: Draws) -> Tensor:
        """Return the places, int64 `[N, P, 2]`."""
        if self.at is not None:
            return room.random(draws, "placement", 1)
        if self.stride is not None:
            grid = torch.tensor(room.grid(self.stride), device=draws.ids.device)
            return grid.expand(len(draws.ids), *grid.shape)
        return room.random(draws, "placement", self.placements)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a patch did to `n` images at P placements each.

    `hits` bool `[n, P]`: the goal is reached (the target is the answer; or, without a target, the answer is wrong).
    `in_top5` bool `[n, P]`: the target is among the five likeliest classes; without a target, the label is not.
    `excluded` counts the images whose label is the target, `errors` those that could not be read or that the model has
    NaN or infinite scores for at some placement: they are left out. `ids` names the images that are not, `places` int64
    `[n, P, 2]` where the patch lay.
    """

    patch: str
    model: str
    data: str
    ids: tuple[str, ...]
    hits: Tensor
    in_top5: Tensor
    places: Tensor
    passes: int
    excluded: int = 0
    errors: int = 0

    @property
    def success(self) -> float:
        """The share of (image, placement) pairs that reached the goal."""
        return _share(self.hits)

    @property
    def success_top5(self) -> float:
        """The share of pairs with the target among the five likeliest."""
        return _share(self.in_top5)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `success`: placements on one picture are no independent observations."""
        return clustered(self.hits.sum(1).tolist(), self.hits.shape[1])

    @property
    def interval_top5(self) -> tuple[float, float]:
        """The same of `success_top5`."""
        return clustered(self.in_top5.sum(1).tolist(), self.in_top5.shape[1])

    @property
    def worst_place(self) -> float:
        """The share of images for which some placement reached the goal."""
        return _share(self.hits.any(1))


def measure(
    patch: Patch,
    model: Classifier,
    data: Data,
    where: Where,
    transforms: Transforms | None = None,
    seed: int = 0,
    batch: int | None = None,
) -> Measured:  # shape: every argument stands alone, and most are left out
    """Paste the patch over every image of `data` at every placement, and ask the model once about each.

    Places depend on the seed and the image's id alone. `batch` bounds the rows of a pass. Costs one forward per image
    and placement. Raises `BadInput` where the patch does not fit the images or its target is no class of the model.
    """
    victims = Victims((model,), data.input_shape, batch)
    victims.check_target(patch.target)
    channels, tall, wide = victims.shape
    if len(patch.pixels) != channels:
        raise BadInput(f"The patch has {len(patch.pixels)} channels, the images have {channels}.")
    height, width = patch.mask.shape
    room = Room(height, width, tall, wide, where.published, where.at)
    placing = Placing(room, patch.mask, transforms or Transforms())
    case = _Case(patch, victims.oracle(), placing, victims.device, victims.refusal)
    ids: list[str] = []
    seen: list[_Answers] = []
    others = [at for at, label in enumerate(data.labels) if label != patch.target]
    if not others:
        raise BadInput(f"All {len(data)} images of {data.source} are of the patch's target class. Use other data.")
    asked = 0
    with victims.held(), torch.no_grad():
        for sample in _samples(data, others):
            draws = Draws.of([sample.id], seed)
            draws = dataclasses.replace(draws, ids=draws.ids.to(victims.device))
            answers = case.ask(sample, where.places(room, draws)[0], draws)
            asked += len(answers.hits)
            if answers.judged:
                seen.append(answers)
                ids.append(sample.id)
    if not ids:
        raise BadInput(f"{data.source} has no image that could be read and judged. Use other data, or see the model.")
    hits, top5, places = (
        torch.stack([getattr(one, name) for one in seen]) for name in ("hits", "among_five", "places")
    )
    left_out, errors = len(data) - len(others), len(others) - len(ids)
    return Measured(patch.name, model.spec, data.source, tuple(ids), hits, top5, places, asked, left_out, errors)


@dataclasses.dataclass(frozen=True)
class _Answers:
    # about one image, per place: the goal reached, the same among five; `judged`: there were scores at every place
    hits: Tensor
    among_five: Tensor
    places: Tensor
    judged: bool


@dataclasses.dataclass(frozen=True)
class _Case:
    patch: Patch
    oracle: Oracle
    placing: Placing
    device: torch.device
    refusal: int | None

    def ask(self, sample: Sample, places: Tensor, draws: Draws) -> _Answers:
        """Return what the model says at every place, on the CPU."""
        image = sample.image.to(self.device)
        label = torch.tensor([sample.label], device=self.device)
        hits, top5, judged = [], [], True
        # the places of a fine grid do not fit into memory at once
        for number, some in enumerate(torch.split(places, _AT_ONCE)):
            placing = dataclasses.replace(self.placing, places=some)
            pixels = self.patch.pixels[None].to(self.device, image.dtype)
            pasted = placing(pixels, image.expand(len(some), *image.shape), draws.fold(number))[0]
            goal = _goal(self.patch.target, label.expand(len(some)), self.refusal)
            asked = Draws(draws.ids.expand(len(some)), draws.key)
            logits = self.oracle.look(pasted, goal, margin, Access.LABELS, asked).logits
            hits.append(goal.reached(logits).cpu())
            top5.append(_among_five(goal, apart(logits, self.refusal is not None).logits).cpu())
            judged &= bool(scored(logits).all())
        return _Answers(torch.cat(hits), torch.cat(top5), places.cpu(), judged)


def _samples(data: Data, positions: Sequence[int]) -> Iterator[Sample]:
    for at in positions:
        (sample,) = data.load([at])
        if isinstance(sample, Sample):
            yield sample


def _goal(target: int | None, y: Tensor, refusal: int | None) -> Goal:
    return Untargeted(y, refusal) if target is None else Targeted(y, torch.full_like(y, target))


def _among_five(goal: Goal, logits: Tensor) -> Tensor:
    if isinstance(goal, Targeted):
        return rank_of(logits, goal.t) <= 5
    return rank_of(logits, goal.y) > 5


def _share(flags: Tensor) -> float:
    return float(flags.double().mean()) if flags.numel() else math.nan
