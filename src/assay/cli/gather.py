"""`assay gather`: what the shares of a run have done, what is missing, and the numbers of what is there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.exit_codes import Exit
from assay.console.flags import AllowPickle, AllowRandomData, Batch, Device
from assay.console.output import DisplayOption, chosen, out, say, spoken_command, stoppable, write
from assay.console.sessions import exit_code, run_session
from assay.console.shares import told, who_works
from assay.console.study_from_flags import StudyRequest
from assay.core.errors import BadInput
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.execution.options import Options
    from assay.evaluation.execution.parts import Standing
    from assay.evaluation.execution.share import Share
    from assay.evaluation.run import Run


@dataclasses.dataclass(frozen=True)
class FinishFlags:
    """How what is left is done."""

    finish: Annotated[bool, typer.Option("--finish", help="Do what nobody did, here and now.")] = False
    executor: Annotated[str, typer.Option(help="With --finish: serial, processes or ray.")] = "serial"
    workers: Annotated[int | None, typer.Option(help="With --finish: how many.", show_default=False)] = None
    device: Device = "cpu"
    batch: Batch = None
    allow_pickle: AllowPickle = False
    allow_random_data: AllowRandomData = False
    display: DisplayOption = None

    def options(self, command: str) -> Options:
        """Return the options of a run."""
        from assay.evaluation.execution.options import Options

        given = {name: value for name, value in vars(self).items() if name not in ("finish", "display")}
        return Options(command=command, **given)


def gather(
    ctx: typer.Context,
    directory: Annotated[str, typer.Argument(help="A run directory, such as runs/demo.")],
    how: FinishFlags,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what the shares of a run have done and what is missing, and score what is there.

    A run that is complete is finished: its manifest and its audit, where no share has done so. Exit code 6: records are
    missing.
    """
    from assay import report
    from assay.evaluation.run import Run
    from assay.report.numbers import as_plain

    run, command = Run.open(directory), spoken_command(ctx.obj or ())
    if run.far:
        raise BadInput(
            f"{directory} lies in a store, and shares of a run are worked on on a disk. Use: assay show {directory}"
        )
    found = _Gathered.of(run)
    at_work = any(one.at_work for one in found.shares)
    if how.finish or (not found.missing and run.status != "success" and not at_work):
        with stoppable(command):
            asked = StudyRequest(run.spec(), Path(directory), True)
            run = run_session(asked, how.options(command), chosen(how.display), doctor=False).run
        found = _Gathered.of(run)
    if as_json:
        write(json.dumps({"directory": directory, **found.plain(), **as_plain(run)}, indent=2, allow_nan=False))
    else:
        report.terminal(run, out())
        for line in found.in_words():
            say(line)
    raise typer.Exit(Exit.INCOMPLETE if found.missing else exit_code(run))


def _missing_by_share(run: Run, of: int, left: Collection[tuple[str, int]]) -> dict[Share, int]:
    """Return how many of the units `left` (a cell's digest and a chunk) belong to each of `of` shares."""
    # shares are dealt by what units cost, and that needs their attacks
    from assay.evaluation.cell import Cell, Unit
    from assay.evaluation.execution.share import Share, deal

    cells = [Cell.of(plain) for plain in run.manifest["cells"].values()]
    units = [Unit(cell, chunk) for cell in cells for chunk in range(cell.chunks)]
    counts = (sum((unit.cell.digest, unit.chunk) in left for unit in mine) for mine in deal(units, of))
    return {Share(number, of): count for number, count in enumerate(counts, 1) if count}


@dataclasses.dataclass(frozen=True)
class _Gathered:
    """What is there of a run: units, those missing (by share, where it is divided), and how the shares stand."""

    run: Run
    units: int
    missing: int
    by_share: dict[Share, int]
    shares: list[Standing]

    @classmethod
    def of(cls, run: Run) -> _Gathered:
        from assay.evaluation.execution.parts import read_division
        from assay.evaluation.planned import Planned

        cells = [Planned.of(digest, plain) for digest, plain in run.manifest["cells"].items()]
        done = run.store.done(cells)[0]
        left = {
            (cell.digest, chunk) for cell in cells for chunk in range(cell.chunks) if chunk not in done[cell.digest]
        }
        of = read_division(run.path)
        by_share = _missing_by_share(run, of, left) if of and left else {}
        units = sum(cell.chunks for cell in cells)
        return cls(run, units, len(left), by_share, who_works([run.path])[run.path])

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "complete": not self.missing,
            "units": self.units - self.missing,
            "units_planned": self.units,
            "missing": {str(share): count for share, count in self.by_share.items()},
            "shares": [one.plain() for one in self.shares],
        }

    def in_words(self) -> Iterator[str]:
        """Yield a line for what is there, what is missing, and who does it."""
        yield f"Units     {self.units - self.missing} of {self.units} are there"
        shown = [one for one in self.shares if one.at_work or one.share in self.by_share or one.errors]
        for line in told(shown, self.by_share):
            yield f"          {line}"
        if not self.missing:
            yield f"Page      assay report {self.run.path}"
        elif any(one.at_work for one in self.shares):
            yield "          The numbers above are of what is there. The last share finishes the run."
        else:
            yield (
                f"          The numbers above leave {plural(self.missing, 'unit')} out. Run these shares again, or do "
                f"the rest here: assay gather {self.run.path} --finish"
            )
