"""What bounds say is true: against closed forms, every point of a grid, and attacks; and slips in them are caught."""

import dataclasses

import pytest
import torch
from torch import nn

from assay.attacks import make_attack
from assay.certification import CERTIFICATES, make_certificate
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.norms import NORMS
from assay.core.problem import Problem
from assay.core.sweep import sweep
from assay.core.threat import Threat
from assay.models import Classifier
from tests.support.broken_certificates import BROKEN
from tests.support.certificate_checks import contradictions, exact_linear, grid_cases, linear_case, prove, worst_on_grid

METHODS = {"ibp": {}, "crown": {}, "crown, alpha": {"alpha_steps": 4}, "crown, real": {"grade": "real"}}


@pytest.mark.parametrize("written", METHODS)
def test_bounds_hold_at_every_point(written):
    assert contradictions(make_certificate(written.partition(",")[0], METHODS[written])) == []


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_certificate_is_caught(kind):
    assert contradictions(BROKEN[kind])
