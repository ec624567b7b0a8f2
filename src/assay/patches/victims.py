"""The models a patch meets: checked against each other, asked as one, and held still meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch

from assay.core.errors import BadInput
from assay.core.oracle import Oracle
from assay.core.over_data import Together
from assay.models import Classifier

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Victims:
    """One model or more that take the same images; `data_shape` stands in where no model says which.

    `batch` bounds the rows of a pass.

    Raises `BadInput` for models of different image sizes or classes, and where nobody knows the size.
    """

    models: tuple[Classifier, ...]
    data_shape: Shape | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        """Refuse models that cannot share a patch."""
        shapes = {model.input_shape: model.spec for model in self.models if model.input_shape}
        if len(shapes) > 1:
            told = " and ".join(f"{spec} {_by(shape)}" for shape, spec in shapes.items())
            raise BadInput(f"The models take images of different sizes: {told}. Train on models of one size.")
        if len({model.rejects for model in self.models}) > 1:
            raise BadInput("Some of the models refuse images and others do not. Train on models of one kind.")
        classes = {len(model.classes): model.spec for model in self.models if model.classes}
        if len(classes) > 1:
            told = " and ".join(f"{spec} {count}" for count, spec in classes.items())
            raise BadInput(f"The models have different classes: {told}. Train on models of the same classes.")

    @property
    def shape(self) -> Shape:
        """The (C, H, W) of the images."""
        shape = next((model.input_shape for model in self.models if model.input_shape), self.data_shape)
        if shape is None:
            raise BadInput("Neither the models nor the data say how large images are; give the model a ?size=.")
        return shape

    @property
    def device(self) -> torch.device:
        """Where the first model is."""
        return self.models[0].device

    @property
    def classes(self) -> tuple[str, ...] | None:
        """What the classes are called, where a model says so."""
        return next((model.classes for model in self.models if model.classes), None)

    @property
    def refusal(self) -> int | None:
        """The index of the logit that means "refused", for goals; None for models that refuse nothing."""
        return -1 if self.models[0].rejects else None

    def name_of(self, target: int | None) -> str:
        """Return what a class is called; "" for none."""
        return "" if target is None else self.classes[target] if self.classes else str(target)

    def check_target(self, target: int | None) -> None:
        """Raise `BadInput` for a class that the models do not have."""
        if target is not None and (target < 0 or (self.classes and target >= len(self.classes))):
            most = f" 0 to {len(self.classes) - 1}" if self.classes else " 0 or more"
            raise BadInput(f"The target class {target} does not exist; expected{most}.")

    def oracle(self) -> Oracle:
        """Return the model as an oracle, or several as their mean."""
        each = tuple(model.oracle(self.batch) for model in self.models)
        return each[0] if len(each) == 1 else Together(each)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold every model still: eval mode, parameters without gradients."""
        with contextlib.ExitStack() as stack:
            for model in self.models:
                stack.enter_context(model.held())
            yield


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
