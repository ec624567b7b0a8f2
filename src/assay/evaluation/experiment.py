"""What a cell means: its model, data, threat, method and goal, resolved once for whoever measures or estimates it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.core.compose import Method, Transferred, for_norm
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Goal, Untargeted
from assay.core.objective import Objective, cross_entropy
from assay.core.oracle import Access, Cost, Observation, Oracle
from assay.core.problem import Problem
from assay.core.threat import UNBOXED, Threat, threat_in
from assay.core.ycbcr import Components
from assay.data import Data, Sample
from assay.evaluation.cell import Cell
from assay.evaluation.loader import Bench, Loader
from assay.evaluation.study.attacks import method_of
from assay.evaluation.study.goals import make_goal
from assay.evaluation.study.masks import Chosen, mask_for
from assay.evaluation.study.surrogates import key_of


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A cell with the loader of what it names.

    Each part is resolved when it is first asked for: an estimate loads no model. `Experiment.of` keeps one per cell and
    loader, so that a worker reads and checks a file, such as a patch or a list of targets, once.
    """

    cell: Cell
    loader: Loader
    _methods: dict[tuple[int, int], Method] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, cell: Cell, loader: Loader) -> Experiment:
        """Return the experiment of a cell: the same one for the same loader."""
        kept = loader.experiments.get(cell.digest)
        # where a file lies is no part of the digest
        if kept is None or kept.cell != cell:
            kept = loader.experiments[cell.digest] = cls(cell, loader)
        return kept

    def load(self) -> Experiment:
        """Load model and data. Raises `BadInput` where they are not those of the plan."""
        _ = self.bench, self.data
        return self

    @property
    def bench(self) -> Bench:
        """The model, held still. One is held at a time: ask anew after another cell's turn."""
        return self.loader.bench(self.cell)

    @functools.cached_property
    def data(self) -> Data:
        """The data, with the targets of the goal."""
        return self.loader.samples(self.cell)

    @functools.cached_property
    def threat(self) -> Threat:
        """The threat at its largest budget, in the unit it is written in and without its mask."""
        threat = self.cell.threat
        box = (0.0, 1.0) if threat.box else UNBOXED
        components = None if threat.components is None else Components.of(threat.components)
        return threat_in(threat.norm, box=box, grid=threat.grid, components=components).at(self.cell.budgets[-1])

    def method(self, image: Sequence[int] | None = None) -> Method:
        """Return the attack for images of `image` (height, width) pixels, made on its surrogate where it has one.

        Without `image`, the one for images of the size that the plan goes by. Raises `BadInput` where a file that it
        needs is not that of the plan.
        """
        height, width = self.cell.image if image is None else image
        if (height, width) not in self._methods:
            attack = self.cell.attack
            method = for_norm(method_of(attack.attack, attack.options, (height, width)), self.cell.threat.norm)
            surrogate = key_of(attack.options)
            if surrogate:
                pushed = bool(attack.options.get("pushed", False))
                method = Transferred(method, _Surrogate(self, surrogate), pushed)
            self._methods[height, width] = method
        return self._methods[height, width]

    def problem(
        self, samples: Sequence[Sample], positions: Sequence[int], oracle: Oracle, seed: int
    ) -> tuple[Problem, Draws]:
        """Return samples as the model gets them, at the largest budget and under `Untargeted`, and their draws.

        `positions` are theirs in the data. Raises `BadInput` for images or labels that the model cannot take.
        """
        bench, ids = self.bench, [sample.id for sample in samples]
        images = stacked(samples, bench.classifier.input_shape)
        mask = mask_for(self.cell.threat, Chosen(ids, positions, tuple(images.shape[1:])), self.loader.masks)
        threat = dataclasses.replace(self.threat, mask=mask).in_units_of(bench.classifier.std)
        x = threat.on_grid(images.to(bench.device))
        y = torch.tensor([sample.label for sample in samples], device=bench.device)
        check_labels(y, ids, bench.classes(x[:1]))
        draws = Draws.of(ids, seed)
        return Problem(oracle, x, Untargeted(y, self._refusal), threat), dataclasses.replace(
            draws, ids=draws.ids.to(bench.device)
        )

    def goal(self, problem: Problem, draws: Draws, targets: Tensor) -> tuple[Goal, Cost | None]:
        """Return the goal for the labels of `problem`, and what it cost where the model was asked.

        `targets` (int64 `[N]`) are read where the goal gives each image its own.
        """
        y, classifier = problem.goal.y, self.bench.classifier
        classes = self.bench.classes(problem.x[:1])
        about: dict[str, Any] = {"classes": classifier.classes, "reject": self._refusal}
        if self.cell.goal != "targeted least-likely":
            logits = y.new_zeros(len(y), classes, dtype=torch.float32)
            return make_goal(self.cell.goal, y, logits, draws, targets=targets, **about), None
        # only this goal depends on the answer, so it costs a look of its own
        seen = problem.oracle.look(problem.x, problem.goal, cross_entropy, Access.SCORES, draws)
        return make_goal(self.cell.goal, y, seen.logits[:, :classes], draws, **about), seen.cost

    @property
    def _refusal(self) -> int | None:
        # the last of the logits of a model that may refuse
        return -1 if self.bench.classifier.rejects else None


@dataclasses.dataclass(frozen=True)
class _Surrogate:
    # the models of a surrogate, which are loaded when they are first asked
    experiment: Experiment
    name: str

    @property
    def rejects(self) -> bool:
        return self.experiment.bench.surrogates[self.name].rejects

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        return self.experiment.bench.surrogates[self.name].look(points, goal, objective, access, draws)


def stacked(samples: Sequence[Sample], expected: tuple[int, int, int] | None) -> Tensor:
    """Return the images as `[N, C, H, W]`. Raises `BadInput` where one has another size than the model or the rest."""
    shape = expected or tuple(samples[0].image.shape)
    for sample in samples:
        if tuple(sample.image.shape) != shape:
            whose = "the model expects" if expected else f"{samples[0].id!r} is"
            raise BadInput(
                f"The image {sample.id!r} is {_size(sample.image.shape)}, {whose} {_size(shape)}. Load the data with "
                "the model's own preprocessing, or choose data of that size."
            )
    return torch.stack([sample.image for sample in samples])


def check_labels(y: Tensor, ids: Sequence[str], classes: int) -> None:
    """Raise `BadInput` for a label that the model has no class for."""
    wrong = (y < 0) | (y >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise BadInput(
            f"The sample {ids[row]!r} has label {int(y[row])}, but the model has {classes} classes, 0 to "
            f"{classes - 1}. Choose data whose labels are the model's classes."
        )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
