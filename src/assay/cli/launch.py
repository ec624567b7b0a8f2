"""A study on its way: loaded, looked at by the doctor, run with progress, and announced cell by cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.cli.console import Display, say
from assay.cli.doctor import LookedAt, check_before_run
from assay.cli.exit_codes import Exit
from assay.cli.flagged_study import Asked
from assay.cli.forecast import Forecast
from assay.cli.progress import Watch, progress
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.cell import Cell
    from assay.evaluation.cost import Speed
    from assay.evaluation.execution.options import Options
    from assay.evaluation.execution.progress import Progress
    from assay.evaluation.loader import Loader
    from assay.evaluation.plan import Plan
    from assay.evaluation.run import Run


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run that came to its end, whether there was anything left to do, and what loaded its models."""

    run: Run
    was_done: bool
    loader: Loader


@dataclasses.dataclass(frozen=True)
class Launch:
    """A study to run, and how."""

    asked: Asked
    options: Options
    display: Display
    doctor: bool = True

    def start(self) -> Finished:
        """Run what is not done. Raises what `run_study` raises, and `BadInput` for what the doctor refuses."""
        from assay.evaluation.plan import make_plan
        from assay.evaluation.records.manifest import add_warnings, read_manifest, write_manifest
        from assay.evaluation.run_study import run_study

        self.options.engine()  # an unknown executor is told before anything is loaded
        if self.display is not Display.NONE:
            say("Loading models and data …")
        loader = self.options.loader()
        plan = make_plan(self.asked.study, loader)
        launch, folder = self._placed(plan)
        before = read_manifest(folder)
        looked = launch._look_first(plan, before, loader)
        with progress("Attacking", self.display) as watch:
            teller = Teller(plan, folder, watch, looked.speeds)
            options = launch.options
            run = run_study(self.asked.study, self.asked.directory, options, on_progress=teller.hear, loader=loader)
        for warning in run.manifest["warnings"]:
            if warning not in before.get("warnings", []):
                say(f"Note: {warning}", style="yellow")
        if looked.warnings:
            add_warnings(run.manifest, looked.warnings)
            write_manifest(run.path, run.manifest)
        return Finished(run, teller.was_done, loader)

    def _placed(self, plan: Plan) -> tuple[Launch, Path]:
        """Return where the run will be; a directory nobody named gives way to a free one beside it."""
        from assay.evaluation.execution.ownership import belongs_elsewhere, claim

        why = "" if self.asked.chosen else belongs_elsewhere(self.asked.directory, plan)
        launch = dataclasses.replace(self, options=dataclasses.replace(self.options, fork=True)) if why else self
        folder, _ = claim(self.asked.directory, plan, launch.options.fork)
        if why:
            say(f"{self.asked.directory} belongs to another study ({why}); this one runs in {folder}.")
        return launch, folder

    def _look_first(self, plan: Plan, before: Mapping[str, Any], loader: Loader) -> LookedAt:
        done = before.get("status") == "success" and set(before["cells"]) == {cell.digest for cell in plan.cells}
        if done or not self.doctor:
            return LookedAt()
        looked = check_before_run(self.asked.study, loader)
        for warning in looked.warnings:
            say(f"Warning: {warning}", style="yellow")
        return looked


class Teller:
    """Shows how far a run is, and each cell's numbers as soon as it is finished."""

    def __init__(self, plan: Plan, folder: Path, watch: Watch, speeds: Mapping[str, Speed]) -> None:
        """Tell `watch` about the run of `plan` in `folder`; `speeds` are those of the models, by label."""
        self._plan, self._folder, self._watch, self._speeds = plan, folder, watch, speeds
        self._forecast: Forecast | None = None
        self._told: set[str] = set()
        self.was_done = False

    def hear(self, now: Progress) -> None:
        """Take in how far the run is."""
        if self._forecast is None:
            self.was_done = now.units == now.units_planned
            left = [unit for unit in self._plan.units if not self._is_stored(unit.cell, unit.chunk)]
            self._forecast = Forecast(self._plan.units, left, self._speeds)
        if self.was_done:
            return
        if now.cell is not None:
            self._forecast.finished(now.cell)
        errors = f", {plural(now.errors, 'error')}" if now.errors else ""
        note = f"{now.records:,} of {now.records_planned:,} records{errors}"
        self._watch.update(self._forecast.share, note, self._forecast.seconds_left)
        if now.cell is not None:
            self._tell_numbers(now.cell)

    def _tell_numbers(self, cell: Cell) -> None:
        from assay.evaluation.analysis import score
        from assay.evaluation.records.store import Store

        if cell.digest in self._told or not all(self._is_stored(cell, chunk) for chunk in range(cell.chunks)):
            return
        self._told.add(cell.digest)
        found = score.results(Store(self._folder).read([cell.digest], score.SCORED))
        if found:
            what = f"{cell.model.label}, {cell.data.label}, {cell.attack.label}"
            clean = found[0].clean_accuracy
            accuracy = "labels predicted" if math.isnan(clean) else f"accuracy {100 * clean:.1f} %"
            self._watch.tell(f"{what}: {accuracy}; {_left(found)}")

    def _is_stored(self, cell: Cell, chunk: int) -> bool:
        from assay.evaluation.records.store import Store

        return Store(self._folder).shard(cell.digest, chunk).exists()


def _left(found: Sequence[Result]) -> str:
    """Say what the smallest and the largest budget leave."""
    changed = [one for one in found if one.eps > 0] or list(found)
    ends = [changed[0], changed[-1]] if len(changed) > 1 else changed
    return " … ".join(f"{100 * one.robust_accuracy:.1f} % at {one.eps_written}" for one in ends)


def closing_words(finished: Finished, command: str) -> Iterator[str]:
    """Yield where everything is, and what to type next."""
    run = finished.run
    rows = plural(run.records(["cell"]).num_rows, "row")
    yield f"Records   {run.path}/results  ({rows}; assay show {run.path})"
    yield f"Page      assay report {run.path}"
    yield f"Again     {command}" + ("  (nothing was left to do)" if finished.was_done else "")


def tell_gaps(run: Run) -> None:
    """Say what a run lacks: its numbers are then of fewer samples than were planned."""
    gaps = run.gaps()
    if gaps:
        more = f", and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        told = "; ".join(gaps[:3])
        say(
            f"Warning: {told}{more}. The numbers leave these samples out; `assay run {run.path}` makes them.",
            style="yellow",
        )


def errors_of(run: Run) -> int:
    """Return how many samples have an error instead of a result, counted once per cell."""
    return sum({result.cell: result.errors for result in run.results()}.values())


def exit_code(run: Run) -> Exit:
    """Return what the shell gets for a finished run."""
    return Exit.SOME_ERRORS if errors_of(run) else Exit.DONE
