"""Training of networks, standard, distilled, adversarial, certified, under noise and masks, by one loop."""

from assay.training.adversarial import Ensemble, Fast, Madry, Surrogate, Trades
from assay.training.certified import CertifiedProbe, CertifiedTraining
from assay.training.distillation import Distilled, distill, distill_as_published, soft_labels
from assay.training.fit import EpochLog, FitLog, FitProgress, FitSettings, TrainingFailed, fit
from assay.training.losses import CrossEntropy, GaussianAugmentation, Loss, Masked
from assay.training.recipes import Trained, Training, new_network, train_standard
from assay.training.robustness_probe import Probe

__all__ = [
    "CertifiedProbe",
    "CertifiedTraining",
    "CrossEntropy",
    "Distilled",
    "Ensemble",
    "EpochLog",
    "Fast",
    "FitLog",
    "FitProgress",
    "FitSettings",
    "GaussianAugmentation",
    "Loss",
    "Masked",
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
