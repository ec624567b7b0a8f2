"""The patch lab: adversarial patches are trained, kept as files, measured, pasted and printed."""

from assay.patches.evaluate import Measured, measure
from assay.patches.patch import Patch
from assay.patches.recipe import Recipe
from assay.patches.train import PatchProgress, TrainedPatch, train_patch
from assay.patches.transforms import Transforms

__all__ = [
    "Measured",
    "Patch",
    "PatchProgress",
    "Recipe",
    "TrainedPatch",
    "Transforms",
    "measure",
    "train_patch",
]
