"""Defences by name, and chains of them: transformations of the input, and detectors that refuse images.

Those that only look robust, for an audit to learn from, are in `assay.audit.broken`.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from assay.defenses.entry import Defense
from assay.defenses.table import DEFENSES

_TRAINING = (
    "CrossEntropy", "Distilled", "Ensemble", "EpochLog", "Fast", "FitLog", "FitProgress", "FitSettings", "Loss",
    "Madry", "Probe", "Surrogate", "Trades", "Trained", "Training", "TrainingFailed", "distill",
    "distill_as_published", "fit", "new_network", "soft_labels", "train_standard",
)  # fmt: skip
_MOVED = {
    **dict.fromkeys(_TRAINING, "assay.training"),
    **dict.fromkeys(("BROKEN", "BrokenDefense"), "assay.audit.broken"),
}


def __getattr__(name: str) -> Any:
    # these lived here until 0.2
    if name not in _MOVED:
        raise AttributeError(f"module 'assay.defenses' has no attribute {name!r}")
    warnings.warn(f"assay.defenses.{name} moved to {_MOVED[name]}.{name}.", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(_MOVED[name]), name)


__all__ = ["DEFENSES", "Defense"]
