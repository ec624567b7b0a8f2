"""Audits: what a robust number can be trusted for."""

from assay.audit.gradients import GradientProbe, probe_gradients
from assay.audit.histogram import Histogram

__all__ = ["GradientProbe", "Histogram", "probe_gradients"]
