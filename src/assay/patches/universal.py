"""Training of a universal perturbation: one `search` over a data set, in which the row is the change."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.attacks.gradient import MIFGSM
from assay.attacks.universal import added
from assay.core.draws import Draws
from assay.core.errors import BadInput, did_you_mean
from assay.core.goal import Targeted, Untargeted
from assay.core.oracle import Observation
from assay.core.over_data import OverData
from assay.core.problem import Problem
from assay.core.search import Keeps, Limits, Resume, search
from assay.core.threat import NORMS, UNBOXED, Threat
from assay.data import Data
from assay.models import Classifier
from assay.models.weights_file import read_safetensors, save_tensors
from assay.patches.victims import Victims
from assay.training.dataset_view import FromData, Kept

FORMAT = "assay universal perturbation 1"


@dataclasses.dataclass(frozen=True)
class Universal:
    """A change float32 `[C, H, W]`, the norm and size it was made for, and plain texts about where it comes from."""

    change: Tensor
    norm: str
    eps: float
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The name (16 hexadecimal digits) of the change."""
        content = hashlib.blake2b(f"{tuple(self.change.shape)}".encode(), digest_size=8)
        content.update(self.change.detach().float().cpu().contiguous().numpy().data)
        return "abcdef"[content.digest()[0] % 6] + content.hexdigest()[1:]

    def save(self, path: Path) -> None:
        """Write the change as safetensors, equal ones as equal bytes."""
        told = {"format": FORMAT, "norm": self.norm, "eps": repr(self.eps), "digest": self.digest}
        save_tensors(
            {"change": self.change.float()}, path, {**told, "facts": json.dumps(dict(self.facts), sort_keys=True)}
        )

    @classmethod
    def load(cls, path: str | Path) -> Universal:
        """Read a change. Raises `BadInput` for a file that is missing, none, or not what it says it is."""
        path = Path(path).expanduser()
        if not path.is_file():
            near = [one.name for one in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, near)
            raise BadInput(f"There is no universal perturbation {path}.{hint} `assay universal train` makes one.")
        tensors, told = read_safetensors(path)
        if told.get("format") != FORMAT or "change" not in tensors:
            raise BadInput(f"{path} is no universal perturbation (its format is {told.get('format')!r}).")
        found = cls(tensors["change"], told["norm"], float(told["eps"]), json.loads(told["facts"]))
        if found.digest != told["digest"]:
            raise BadInput(
                f"{path} was changed after it was written: its digest is {found.digest}, not {told['digest']}."
            )
        return found


@dataclasses.dataclass(frozen=True)
class UniversalRecipe:
    """How a change is found: momentum steps of `step_size` budgets on mini-batches of `batch` images.

    Without a target it climbs the labels' cross-entropy, with one the target's likelihood.
    """

    norm: str = "linf"
    eps: float = 0.1
    steps: int = 100
    batch: int = 100
    step_size: float = 0.1
    decay: float = 0.9
    target: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        if self.norm not in ("linf", "l2", "l1"):
            raise BadInput(f"norm is {self.norm!r}; expected linf, l2 or l1.")
        if not 0 < self.eps < math.inf:
            raise BadInput(f"eps is {self.eps}; expected a size above 0.")
        if self.steps < 1:
            raise BadInput(f"steps is {self.steps}; expected a whole number of at least 1.")


Progress = Callable[[int, float, float], None]


def train_universal(
    models: Sequence[Classifier],
    data: Data,
    recipe: UniversalRecipe,
    command: str = "",
    on_progress: Progress = lambda step, loss, fooled: None,
) -> Universal:
    """Find one change for all images of `data` against a model, or against the mean of several.

    `on_progress` is told the step, the batch's mean objective and the share of it that is fooled. Raises `BadInput` for
    models of other image sizes or classes, a target that they do not have, or fewer images than a batch.
    """
    victims = Victims(tuple(models), data.input_shape)
    victims.check_target(recipe.target)
    images = Kept(FromData(data, 0, len(data)))
    over = OverData(victims.oracle(), images, added, min(recipe.batch, len(data)), recipe.seed)
    nothing = torch.zeros(1, *victims.shape, device=victims.device)
    labels = torch.zeros(1, dtype=torch.int64, device=victims.device)
    goal = (
        Untargeted(labels, victims.refusal)
        if recipe.target is None
        else Targeted(labels, torch.full_like(labels, recipe.target))
    )
    problem = Problem(over, nothing, goal, Threat(NORMS[recipe.norm], recipe.eps, box=UNBOXED))
    draws = Draws.of(["universal"], recipe.seed)
    draws = dataclasses.replace(draws, ids=draws.ids.to(victims.device))

    def follow(look: int, state: Any, seen: Observation) -> None:
        on_progress(look, float(seen.loss[0]), float(seen.gap[0]) + 1.0)

    attack = MIFGSM(recipe.steps, recipe.step_size, recipe.decay)
    with victims.held():
        terms, course = Limits(judge_last=False), Resume(watch=follow)
        found = search(attack, problem, draws, keeps=Keeps.LAST, terms=terms, course=course)
    facts = {
        "command": command, "recipe": json.dumps(dataclasses.asdict(recipe)),
        "data": f"{data.source}, {len(data)} images",
        "models": json.dumps([{"spec": model.spec, "digest": model.digest} for model in victims.models]),
    }  # fmt: skip
    return Universal(found.x[0].cpu(), recipe.norm, recipe.eps, facts)
