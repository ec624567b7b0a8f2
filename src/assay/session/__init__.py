"""One session: a study is planned, its models looked at, run and audited, in a directory held from first to last."""

from assay.session.reporting import Reporter, Tracker, Unreported
from assay.session.session import AuditSettings, Finished, Session, audit_directory

__all__ = ["AuditSettings", "Finished", "Reporter", "Session", "Tracker", "Unreported", "audit_directory"]
