"""Results as people read them: tables, charts, pictures, and one page that holds them all."""

from __future__ import annotations

from assay.report.export import figures
from assay.report.formats import csv, latex, markdown, notebook
from assay.report.page import page
from assay.report.tables import terminal

__all__ = ["csv", "figures", "latex", "markdown", "notebook", "page", "terminal"]
