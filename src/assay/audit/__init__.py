"""Audits: what a robust number can be trusted for."""

from assay.audit.gradients import GradientProbe, probe_gradients

__all__ = ["GradientProbe", "probe_gradients"]
