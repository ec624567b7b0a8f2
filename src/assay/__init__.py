"""Assay measures how robust an image classifier really is, and says how far each number can be trusted.

Three lines are enough to begin:

    model = assay.load_model("torchvision:resnet50")
    data = assay.load_data("folder:photos", model=model)
    run = assay.evaluate(model, data, attacks=["fgsm", "pgd"], threat=assay.Linf("4/255"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.api.evaluations import Evaluation, certify, corrupt, doctor, evaluate
    from assay.api.tensors import Attacked, attack, sweep
    from assay.attacks.baselines import GaussianNoise, UniformNoise
    from assay.attacks.gradient import BIM, FFGSM, FGSM, MIFGSM, PGD, RFGSM
    from assay.core.compose import Cascade, EachTarget, Restarts, SmallestBudget
    from assay.core.errors import AssayError, AssayWarning, BadInput, ModelError
    from assay.core.goal import OutOfTop, Targeted, Toward, Untargeted
    from assay.core.multi_label import MultiLabel, MultiLabelTargeted
    from assay.core.threat import L0, L1, L2, Linf, Patch, Threat, YCbCr
    from assay.data import Data, load_data
    from assay.evaluation.run import Run
    from assay.evaluation.study.adaptive import adaptive
    from assay.evaluation.study.spec import Study
    from assay.models import Classifier, defend, load_model
    from assay.training.defense_fit import fit_defense

__version__ = "0.1.0"

# importing the package must not import torch: `assay --help` answers at once
_WHERE = {
    "assay.api.evaluations": ("Evaluation", "certify", "corrupt", "doctor", "evaluate"),
    "assay.api.tensors": ("Attacked", "attack", "sweep"),
    "assay.attacks.gradient": ("BIM", "FFGSM", "FGSM", "MIFGSM", "PGD", "RFGSM"),
    "assay.attacks.baselines": ("GaussianNoise", "UniformNoise"),
    "assay.core.compose": ("Cascade", "EachTarget", "Restarts", "SmallestBudget"),
    "assay.core.errors": ("AssayError", "AssayWarning", "BadInput", "ModelError"),
    "assay.core.goal": ("OutOfTop", "Targeted", "Toward", "Untargeted"),
    "assay.core.multi_label": ("MultiLabel", "MultiLabelTargeted"),
    "assay.core.threat": ("L0", "L1", "L2", "Linf", "Patch", "Threat", "YCbCr"),
    "assay.data": ("Data", "load_data"),
    "assay.evaluation.run": ("Run",),
    "assay.evaluation.study.adaptive": ("adaptive",),
    "assay.evaluation.study.spec": ("Study",),
    "assay.models": ("Classifier", "defend", "load_model"),
    "assay.training.defense_fit": ("fit_defense",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "BIM",
    "FFGSM",
    "FGSM",
    "L0",
    "L1",
    "L2",
    "MIFGSM",
    "PGD",
    "RFGSM",
    "AssayError",
    "AssayWarning",
    "Attacked",
    "BadInput",
    "Cascade",
    "Classifier",
    "Data",
    "EachTarget",
    "Evaluation",
    "GaussianNoise",
    "Linf",
    "ModelError",
    "MultiLabel",
    "MultiLabelTargeted",
    "OutOfTop",
    "Patch",
    "Restarts",
    "Run",
    "SmallestBudget",
    "Study",
    "Targeted",
    "Threat",
    "Toward",
    "UniformNoise",
    "Untargeted",
    "YCbCr",
    "__version__",
    "adaptive",
    "attack",
    "certify",
    "corrupt",
    "defend",
    "doctor",
    "evaluate",
    "fit_defense",
    "load_data",
    "load_model",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
