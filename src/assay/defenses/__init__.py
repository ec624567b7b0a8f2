"""Defenses: training of networks, standard now and robust later, by one loop that can be interrupted."""

from assay.defenses.fit import EpochLog, FitLog, FitProgress, FitSettings, TrainingFailed, fit
from assay.defenses.losses import CrossEntropy, Loss
from assay.defenses.standard import Training, new_network, train_standard

__all__ = [
    "CrossEntropy",
    "EpochLog",
    "FitLog",
    "FitProgress",
    "FitSettings",
    "Loss",
    "Training",
    "TrainingFailed",
    "fit",
    "new_network",
    "train_standard",
]
