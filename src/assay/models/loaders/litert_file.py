"""LiteRT (TFLite) files."""

from __future__ import annotations

from assay.models.classifier import Classifier
from assay.models.spec import Request


def load(request: Request) -> Classifier:
    """Load it."""
    raise NotImplementedError
