"""Models: from a name, a file or the user's code to a `Classifier` with all the facts that numbers depend on."""

from assay.models.bpda import Bpda, Straight
from assay.models.classifier import Classifier, Preprocess
from assay.models.ensemble import Ensemble, together
from assay.models.function import Function, Predictions
from assay.models.load import Listed, defend, list_models, load_model
from assay.models.normalized import LogProbabilities, Normalized

__all__ = [
    "Bpda",
    "Classifier",
    "Ensemble",
    "Function",
    "Listed",
    "LogProbabilities",
    "Normalized",
    "Predictions",
    "Preprocess",
    "Straight",
    "defend",
    "list_models",
    "load_model",
    "together",
]
