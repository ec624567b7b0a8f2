"""endpoints that a file describes."""

from __future__ import annotations

from assay.models.classifier import Classifier
from assay.models.spec import Request


def load(request: Request) -> Classifier:
    """Load it."""
    raise NotImplementedError


def load_v2(request: Request) -> Classifier:
    """Load it."""
    raise NotImplementedError


def load_v1(request: Request) -> Classifier:
    """Load it."""
    raise NotImplementedError
