"""Defenses: training of networks, standard, distilled and adversarial, by one loop that can be interrupted."""

from assay.defenses.adversarial import Ensemble, Fast, Madry, Surrogate, Trades
from assay.defenses.distill import Distilled, distill, distill_as_published, soft_labels
from assay.defenses.fit import EpochLog, FitLog, FitProgress, FitSettings, TrainingFailed, fit
from assay.defenses.losses import CrossEntropy, Loss
from assay.defenses.probe import Probe
from assay.defenses.standard import Trained, Training, new_network, train_standard

__all__ = [
    "CrossEntropy",
    "Distilled",
    "Ensemble",
    "EpochLog",
    "Fast",
    "FitLog",
    "FitProgress",
    "FitSettings",
    "Loss",
    "Madry",
    "Probe",
    "Surrogate",
    "Trades",
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
