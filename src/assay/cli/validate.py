"""`assay validate`: whether a study can be run, without running or loading anything."""

from __future__ import annotations

from assay.cli.flagged_study import read_study
from assay.cli.flags import StudyFlags
from assay.cli.terminal import write
from assay.wording import plural


def validate(flags: StudyFlags) -> None:
    """Check a study file, and say line by line what is wrong with it and how to put it right."""
    study = read_study(flags).study
    cells = sum(len(g.models) * len(g.data) * len(g.threats) * len(g.attacks) for g in study.grids)
    budgets = sum(
        len(g.models) * len(g.data) * len(g.attacks) * sum(len(threat.eps) for threat in g.threats) for g in study.grids
    )
    name = flags.study or f"The study {study.study}"
    write(f"{name} is a study: {plural(cells, 'cell')}, {plural(budgets, 'number')} to measure.")
