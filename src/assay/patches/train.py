"""Training of a patch: one `search` over a data set, kept on disk after every epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.attacks.parts.optimisers import Moments, Rolling
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.goal import Goal, Targeted, Untargeted
from assay.core.oracle import Observation
from assay.core.over_data import OverData
from assay.core.problem import Problem
from assay.core.search import Keeps, Limits, Resume, search
from assay.core.threat import LINF, UNBOXED, Threat
from assay.data import Data
from assay.models import Classifier
from assay.patches.patch import Patch
from assay.patches.placing import FromVariable, Placing
from assay.patches.recipe import Recipe, pixels_of
from assay.patches.victims import Victims
from assay.training.checkpoint import Checkpoint
from assay.training.dataset_view import FromData, Kept


class PatchFailed(AssayError):
    """A patch training that cannot go on, because its loss is no longer a number."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class PatchProgress:
    """After batch `batch` of `batches` in epoch `epoch` of `epochs` (all from 1): its loss and its success.

    `loss` is what the patch descends: the cross-entropy to the target, or minus that of the labels where there is no
    target. `success` is the share of the batch that reached the goal.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    success: float


@dataclasses.dataclass(frozen=True)
class TrainedPatch:
    """A finished patch, the log (mean loss and success of each epoch, its seconds), and what it cost.

    `passes` counts the images that went forward and backward through a model.
    """

    patch: Patch
    log: tuple[dict[str, Any], ...]
    passes: int


def train_patch(
    models: Sequence[Classifier],
    data: Data,
    recipe: Recipe,
    folder: Path,
    command: str = "",
    on_progress: Callable[[PatchProgress], None] = lambda progress: None,
) -> TrainedPatch:
    """Train a patch against one model, or against several at once: the mean of their objectives.

    `folder` receives the checkpoint and `log.jsonl`; the same call goes on where it was interrupted, with the same
    result. With no epochs the patch is its start, untouched. Raises `BadInput` for models of other image sizes or
    classes, a target that is no class of theirs, a patch that does not fit, fewer images than a batch, or a folder that
    holds another training; `PatchFailed` when a loss is not finite.
    """
    victims = Victims(tuple(models), data.input_shape)
    victims.check_target(recipe.target)
    placing = Placing(recipe.room(victims.shape), recipe.mask, recipe.transforms)
    facts = {**recipe.plain(), **_sources(victims, data), "command": command}
    if not recipe.epochs:
        return TrainedPatch(_patch(recipe, recipe.untouched, victims, facts), (), 0)
    images = Kept(FromData(data, 0, len(data)))
    over = OverData(victims.oracle(), images, FromVariable(placing), recipe.batch, recipe.seed)
    begin = recipe.beginning[None].to(victims.device)
    problem = Problem(over, begin, _goal(recipe.target, begin, victims.refusal), Threat(LINF, box=UNBOXED))
    journey = _Journey(recipe, over.looks, on_progress)
    checkpoint = Checkpoint(
        folder, {"journey": journey}, {**recipe.plain(), **_sources(victims, data), **_pixels(recipe)}
    )
    journey.rows = checkpoint.restore()
    draws = Draws.of(["patch"], recipe.seed)
    draws = dataclasses.replace(draws, ids=draws.ids.to(begin.device))
    attack, course = recipe.attack(recipe.epochs * over.looks), journey.course(checkpoint, begin.device)
    with victims.held():
        final = search(attack, problem, draws, keeps=Keeps.LAST, terms=Limits(judge_last=False), course=course).x
    passes = recipe.epochs * over.looks * recipe.batch * len(models)
    return TrainedPatch(_patch(recipe, pixels_of(final[0]).cpu(), victims, facts), tuple(journey.rows), passes)


@dataclasses.dataclass
class _Journey:
    """Follows a search: sums up epochs, tells progress, and saves the state at the end of each epoch."""

    recipe: Recipe
    looks: int
    on_progress: Callable[[PatchProgress], None]
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    state: Any = None
    sums: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    began: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimiser, for a checkpoint."""
        return {"state": tuple(self.state)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take up a saved state."""
        kind: Any = Rolling if self.recipe.optimizer == "sgd" else Moments
        self.state = kind(*saved["state"])

    def course(self, checkpoint: Checkpoint, device: torch.device) -> Resume:
        """Return where the search goes on, and this as its follower."""
        self.began = time.perf_counter()
        if self.state is not None:
            self.state = type(self.state)(*(v.to(device) if isinstance(v, Tensor) else v for v in self.state))

        def follow(look: int, state: Any, seen: Observation) -> None:
            self._add(look, seen)
            if look % self.looks == 0:
                self._close_epoch(state, checkpoint)

        return Resume(len(self.rows) * self.looks, self.state, follow)

    def _add(self, look: int, seen: Observation) -> None:
        loss, success = -float(seen.loss[0]), float(seen.gap[0]) + 1.0
        epoch, batch = divmod(look - 1, self.looks)
        if not math.isfinite(loss):
            raise PatchFailed(
                f"The loss of the patch is {loss} in epoch {epoch + 1}, batch {batch + 1}; expected a finite number. "
                f"Try a rate below {self.recipe.rate:g}, and see that the model gives finite scores."
            )
        self.sums.append((loss, success))
        self.on_progress(PatchProgress(epoch + 1, self.recipe.epochs, batch + 1, self.looks, loss, success))

    def _close_epoch(self, state: Any, checkpoint: Checkpoint) -> None:
        loss, success = (sum(values) / len(self.sums) for values in zip(*self.sums, strict=True))
        now = time.perf_counter()
        row = {"epoch": len(self.rows) + 1, "loss": loss, "success": success, "seconds": now - self.began}
        self.began, self.sums, self.state = now, [], state
        self.rows.append(row)
        checkpoint.save(self.rows)


def _goal(target: int | None, begin: Tensor, refusal: int | None) -> Goal:
    # labels are the images' own; here stands one per variable, which nobody reads
    none = torch.zeros(1, dtype=torch.int64, device=begin.device)
    return Untargeted(none, refusal) if target is None else Targeted(none, torch.full_like(none, target))


def _patch(recipe: Recipe, pixels: Tensor, victims: Victims, facts: dict[str, str]) -> Patch:
    return Patch(pixels, recipe.mask, recipe.target, victims.name_of(recipe.target), facts)


def _sources(victims: Victims, data: Data) -> dict[str, str]:
    told = [{"spec": model.spec, "digest": model.digest} for model in victims.models]
    return {"models": json.dumps(told), "data": f"{data.source}, {len(data)} images", "fingerprint": data.fingerprint}


def _pixels(recipe: Recipe) -> dict[str, str]:
    content = hashlib.blake2b(digest_size=8)
    for part in (recipe.mask, recipe.beginning):
        content.update(part.contiguous().numpy().data)
    return {"mask and start": content.hexdigest()}
