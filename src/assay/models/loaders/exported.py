"""exported programs."""

from __future__ import annotations

from assay.models.classifier import Classifier
from assay.models.spec import Request


def load_program(request: Request) -> Classifier:
    """Load it."""
    raise NotImplementedError


def load_script(request: Request) -> Classifier:
    """Load it."""
    raise NotImplementedError
