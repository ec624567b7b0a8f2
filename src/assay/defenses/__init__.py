"""Defences by name: so far the broken ones, each of which looks robust to a gradient attack, and none of which is.

They are what an audit must not be taken in by, and what to learn the signs from. By name:
`assay.audit.zoo.mnist:rounding` and `assay.audit.zoo.lite0:rounding`; around any other classifier: `wrap` of
`assay.audit.zoo`.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from assay.defenses.table import BROKEN, BrokenDefense

_TRAINING = (
    "CrossEntropy", "Distilled", "Ensemble", "EpochLog", "Fast", "FitLog", "FitProgress", "FitSettings", "Loss",
    "Madry", "Probe", "Surrogate", "Trades", "Trained", "Training", "TrainingFailed", "distill",
    "distill_as_published", "fit", "new_network", "soft_labels", "train_standard",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    # training lived here until 0.2
    if name not in _TRAINING:
        raise AttributeError(f"module 'assay.defenses' has no attribute {name!r}")
    warnings.warn(f"assay.defenses.{name} moved to assay.training.{name}.", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module("assay.training"), name)


__all__ = ["BROKEN", "BrokenDefense"]
