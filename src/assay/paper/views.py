"""The tables as they stand: printed numbers beside those of the finished runs in a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.paper.measured import Line, Lines, beside, measured
from assay.paper.printed import PrintedTable, printed_table, printed_tables
from assay.paper.runs import OUT, directory_of
from assay.paper.sentences import WORDS, Told, notes
from assay.paper.tables import Protocol, protocol
from assay.paper.view import MODES, PRINTED, Row, TableView

if TYPE_CHECKING:
    from assay.evaluation.run import Run

Values = tuple[float | None, ...]


def views(out: Path, stand_in: bool | None = None) -> tuple[TableView, ...]:
    """Return every table of the paper, in order."""
    return tuple(view(out, number, stand_in) for number in printed_tables())


def view(out: Path, number: str, stand_in: bool | None = None) -> TableView:
    """Return a table with what the finished runs in `out` measured of it; nothing is measured where there is none.

    `stand_in` of None takes the stand-in where the paper's own networks have not been measured. Raises `BadInput`
    for a number that no table has.
    """
    table, how = printed_table(number), protocol(number)
    runs, standing_in = _runs(out, how, stand_in)
    costly = _finished(out, how.beside, False)
    lines = {
        mode: measured(run, table, how) | (beside(costly[mode], table, how) if mode in costly else {})
        for mode, run in runs.items()
    }
    rows = _rows(table, lines)
    return TableView(
        number=table.number,
        title=table.title,
        unit=table.unit,
        columns=table.columns,
        rows=rows,
        runs={mode: run.path for mode, run in runs.items()},
        sentences=Told(table, how, rows, runs, standing_in).sentences(),
        missing=_missing(out, how, runs, standing_in),
        stand_in=standing_in,
        axis=table.axis,
        notes=tuple(note for mode, run in costly.items() if mode in runs for note in notes(mode, run)),
    )


def _runs(out: Path, how: Protocol, stand_in: bool | None) -> tuple[dict[str, Run], bool]:
    own = {} if stand_in and how.needs_imagenet else finished_runs(out, how, False)
    if own or stand_in is False or not how.needs_imagenet:
        return own, False
    others = finished_runs(out, how, True)
    return others, bool(others or stand_in)


def finished_runs(out: Path, how: Protocol, stand_in: bool) -> dict[str, Run]:
    """Return the finished runs of a table by mode."""
    return _finished(out, how.studies, stand_in)


def _finished(out: Path, studies: Mapping[str, str], stand_in: bool) -> dict[str, Run]:
    from assay.evaluation.records.manifest import SUCCESS

    found = {mode: opened(directory_of(out, studies[mode], stand_in)) for mode in MODES if mode in studies}
    return {mode: run for mode, run in found.items() if run is not None and run.status == SUCCESS}


def opened(directory: Path) -> Run | None:
    """Return the run in a directory, or None where there is none."""
    from assay.core.errors import BadInput
    from assay.evaluation.run import Run

    try:
        return Run.open(directory)
    except BadInput:
        return None


def _rows(table: PrintedTable, lines: Mapping[str, Lines]) -> tuple[Row, ...]:
    """Return the printed rows, then what was measured and not printed."""
    printed = {row.name: row for row in table.rows}
    others = dict.fromkeys(name for found in lines.values() for name in found if name not in printed)
    nothing: Values = (None,) * len(table.columns)
    rows = [_row(row.name, row.values, row.labels, lines) for row in printed.values()]
    return (*rows, *(_row(name, nothing, (), lines) for name in others))


def _row(name: str, printed: Values, named: tuple[str, ...], lines: Mapping[str, Lines]) -> Row:
    mine: dict[str, Line] = {mode: found[name] for mode, found in lines.items() if name in found}
    labels = {mode: line.labels for mode, line in mine.items() if line.labels}
    return Row(
        name=name,
        printed=printed,
        measured={mode: line.values for mode, line in mine.items()},
        counts={mode: line.counts for mode, line in mine.items() if line.counts},
        labels={**({PRINTED: named} if named else {}), **labels},
        intervals={mode: line.intervals for mode, line in mine.items() if line.intervals},
    )


def _missing(out: Path, how: Protocol, runs: Mapping[str, Run], stand_in: bool) -> str:
    """Return what to do about modes that are not measured; "" where none is."""
    absent = [mode for mode in MODES if mode not in runs]
    if not absent:
        return ""
    command = f"assay paper run --table {how.number}"
    command += f" --mode {absent[0]}" if len(absent) == 1 else ""
    command += " --stand-in" if stand_in else " --imagenet DIR" if how.needs_imagenet else ""
    command += f" --out {out}" if out != OUT else ""
    modes = "" if len(absent) == len(MODES) else f" {' and '.join(WORDS[mode] for mode in absent)}"
    begun = _begun(out, how, absent, stand_in)
    return f"Not measured{modes}{begun}: {command}"


def _begun(out: Path, how: Protocol, absent: Sequence[str], stand_in: bool) -> str:
    found = [opened(directory_of(out, how.studies[mode], stand_in)) for mode in absent]
    begun = [f"{run.path} {run.status}" for run in found if run is not None]
    return f" ({', '.join(begun)})" if begun else ""
