"""How far a session is, and each number as soon as it stands, for whoever watches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.display import Watch
from assay.evaluation.analysis import score
from assay.evaluation.cell import Cell
from assay.evaluation.execution.progress import AUDIT, OnProgress, Progress
from assay.evaluation.records.store import Store
from assay.meter import Meter
from assay.vocabulary import UNATTACKED
from assay.wording import measure, plural, rough_duration

if TYPE_CHECKING:
    from assay.audit.progress import AuditProgress


class AuditShown:
    """Shows how far an audit is, and says before an escalation what it takes at most."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._stage: tuple[str, str] | None = None

    def hear(self, now: AuditProgress) -> None:
        """Show a step of the audit."""
        stage = (now.about, now.stage)
        if stage != self._stage and now.stage == "escalation":
            left = "" if now.seconds_left is None else f", {rough_duration(now.seconds_left)}"
            self._watch.tell(f"Escalating {now.about}: at most {now.most:,} passes{left}. Ctrl-C keeps what is found.")
        self._stage = stage
        # some probes take a least number of passes, whatever is left for them
        most = f" of {now.most:,}" if now.passes <= now.most else ""
        self._watch.update(now.share, f"{now.doing}, {now.passes:,}{most} passes", now.seconds_left)


class Shown:
    """Shows how far a run is, and each cell's numbers as soon as it is finished."""

    def __init__(
        self, folder: Path, watch: Watch, on_progress: OnProgress, meter: Meter, audits: int,
        *, queries: Mapping[str, int] | None,
    ) -> None:  # fmt: skip
        """Show a run in `folder`, of which so many `audits` (of a model, data set and threat) follow.

        `queries` is how often an attack may ask a model that gives scores or labels alone, by the digest of its cell.
        Without it no numbers are shown: others do the rest of the cells.
        """
        self._queries = queries
        self._folder, self._watch, self._on_progress, self._meter = folder, watch, on_progress, meter
        self._audits, self._begun, self._stage = audits, 0, ("", "")
        self._last: Progress | None = None
        self.was_done = False

    def hear(self, now: Progress) -> None:
        """Show a step of the run, and a cell's numbers where it is finished."""
        self._on_progress(now)
        if self._last is None:
            self.was_done = now.units == now.units_planned
        self._last = now
        if self.was_done:
            return
        errors = f", {plural(now.errors, 'error')}" if now.errors else ""
        # the time left is that of all that is still to come, the share that of the attacks
        spent = "".join(f", {one.written}" for one in now.endpoints)
        note = f"{now.records:,} of {now.records_planned:,} records{errors}{spent}"
        share = self._meter.share_without(AUDIT)
        self._watch.update(share, note, now.remaining)
        if (
            self._queries is not None
            and now.cell is not None
            and now.cell_finished
            and (told := _numbers(self._folder, now.cell, self._queries.get(now.cell.digest)))
        ):
            self._watch.tell(told)

    def hear_audit(self, now: AuditProgress) -> None:
        """Tell `on_progress` what the audit does: of every model, data set and threat one stage after the other."""
        # whoever is told of an audit has loaded it
        from assay.audit.progress import STAGES

        self._begun += now.stage == STAGES[0] and self._stage != (now.about, now.stage)
        self._stage = (now.about, now.stage)
        within = (STAGES.index(now.stage) + now.share) / len(STAGES)
        self._meter.reach(min(1.0, (max(1, self._begun) - 1 + within) / max(1, self._audits)), AUDIT)
        self._tell_audit(now.doing)

    def end(self) -> None:
        """Tell `on_progress` that the audit is done as well."""
        self._tell_audit("")

    def _tell_audit(self, doing: str) -> None:
        if self._last is not None:
            share, left = self._meter.share, self._meter.seconds_left
            self._on_progress(dataclasses.replace(self._last, stage=AUDIT, doing=doing, share=share, remaining=left))


def _numbers(folder: Path, cell: Cell, queries: int | None) -> str:
    """Say what a finished cell's smallest and largest budget leave; "" where it has no records.

    `queries` is how often its attack may ask a model that gives scores or labels alone; None of others.
    """
    if cell.certificate is not None:
        return ""
    found = score.results(Store(folder).pieces([cell.digest], score.SCORED, coded=True))
    if not found:
        return ""
    if cell.attack.attack == UNATTACKED:
        return f"{cell.model.label}, {cell.data.label}: accuracy {100 * found[0].robust_accuracy:.1f} %, average case"
    clean = found[0].clean_accuracy
    accuracy = "labels predicted" if math.isnan(clean) else f"accuracy {100 * clean:.1f} %"
    changed = [one for one in found if one.eps > 0] or list(found)
    ends = [changed[0], changed[-1]] if len(changed) > 1 else changed
    left = " … ".join(f"{100 * one.robust_accuracy:.1f} % at {one.eps_written}" for one in ends)
    elsewhere = bool(cell.attack.options.get("surrogate"))
    called = f"{measure('scores', queries, elsewhere=elsewhere)} " if queries is not None else ""
    return f"{cell.model.label}, {cell.data.label}, {cell.attack.label}: {accuracy}; {called}{left}"
