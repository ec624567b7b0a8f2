"""Audits: what a robust number can be trusted for."""

from assay.audit.audit import audit_run
from assay.audit.gradients import GradientProbe, probe_gradients
from assay.audit.histogram import Histogram

__all__ = ["GradientProbe", "Histogram", "audit_run", "probe_gradients"]
