"""What bounds say is true: against closed forms, every point of a grid, and attacks; and slips in them are caught."""

import pytest

from assay.certification import make_certificate
from tests.support.broken_certificates import BROKEN
from tests.support.certificate_checks import contradictions

METHODS = {"ibp": {}, "crown": {}, "crown, alpha": {"alpha_steps": 4}, "crown, real": {"grade": "real"}}


@pytest.mark.parametrize("written", METHODS)
def test_bounds_hold_at_every_point(written):
    assert list(contradictions(make_certificate(written.partition(",")[0], METHODS[written]))) == []


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_certificate_is_caught(kind):
    assert next(contradictions(BROKEN[kind]), None)
