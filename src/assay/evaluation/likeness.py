# shape: a loader and whoever checks pairs share it, and neither may import the other
"""What a model's name leaves open, taken from another one: a file that is deployed rarely says how it is fed."""

from __future__ import annotations

import dataclasses

from assay.models import Classifier
from assay.models.classifier import Preprocess


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a classifier says of itself besides its weights; each None where it says nothing."""

    input_shape: tuple[int, int, int] | None
    channels: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    preprocess: Preprocess | None
    classes: tuple[str, ...] | None
    synsets: tuple[str, ...] | None

    @classmethod
    def of(cls, model: Classifier) -> Facts:
        """Return those of a model."""
        return cls(**{field.name: getattr(model, field.name) for field in dataclasses.fields(cls)})


def completed(model: Classifier, other: Facts) -> Classifier:
    """Return the model with what it does not say itself as `other` says it; its digest stays as it is."""
    told = {name: value for name, value in vars(other).items() if getattr(model, name) is None and value is not None}
    if model.mean is not None or model.std is not None:
        # one normalisation, or the other
        told = {name: value for name, value in told.items() if name not in ("mean", "std")}
    return dataclasses.replace(model, **told)
