"""Defenses: training of networks, standard now and robust later, by one loop that can be interrupted."""

from assay.defenses.distill import Distilled, distill, distill_as_published, soft_labels
from assay.defenses.fit import EpochLog, FitLog, FitProgress, FitSettings, TrainingFailed, fit
from assay.defenses.losses import CrossEntropy, Loss
from assay.defenses.standard import Trained, Training, new_network, train_standard

__all__ = [
    "CrossEntropy",
    "Distilled",
    "EpochLog",
    "FitLog",
    "FitProgress",
    "FitSettings",
    "Loss",
    "Trained",
    "Training",
    "TrainingFailed",
    "distill",
    "distill_as_published",
    "fit",
    "new_network",
    "soft_labels",
    "train_standard",
]
