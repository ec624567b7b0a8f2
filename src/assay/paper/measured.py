"""From finished runs to lines and tables: values in their unit, the counts behind them, the classes named."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.paper.patches import interval, success
from assay.paper.runs import OUT, directory_of
from assay.paper.sentences import WORDS, Statement, notes
from assay.paper.studies import imagenet_number
from assay.paper.tables import (
    MODES,
    PRINTED,
    Kind,
    PrintedTable,
    Protocol,
    Row,
    TableView,
    printed_table,
    printed_tables,
    protocol,
)
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.records.gallery import Picture
    from assay.evaluation.run import Run


Count = tuple[int, int]

TOP = 5

# what an attack of the studies is called in a table
_NAMES = {
    "fgsm": "FGSM",
    "fgsm(objective=cross_entropy/100)": "FGSM on the loss at T = 100",
    "carlini-wagner(inner=50, rounds=2)": "Carlini-Wagner",
    "autoattack": "AutoAttack",
    "autoattack(version=rand)": "AutoAttack",
    "fgsm(objective=margin)": "FGSM on the margin",
    "fgsm(objective=dlr)": "FGSM on DLR",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """What one line of a table measured, column by column; None where a column has nothing.

    `intervals` are fractions, and given where those of the counts would be too narrow.
    """

    values: tuple[float | None, ...]
    counts: tuple[Count | None, ...] = ()
    labels: tuple[str, ...] = ()
    intervals: tuple[tuple[float, float] | None, ...] = ()


Lines = dict[str, Line]


def measured(run: Run, table: PrintedTable, protocol: Protocol) -> Lines:
    """Return the lines of `table` that a run of its study measured, by name."""
    return _READERS[protocol.kind](run, table, protocol)


def _clean(run: Run, table: PrintedTable, protocol: Protocol) -> Lines:
    # in the order of the study's models, which is that of the columns
    by_model = {result.model: result for result in run.results()}
    return _errors(list(by_model.values()))


def _sweep(run: Run, table: PrintedTable, protocol: Protocol) -> Lines:
    # a column is a budget, smallest first, whatever unit the mode writes it in
    return _errors(sorted(run.results(), key=lambda result: result.eps))


def _errors(results: Sequence[Result]) -> Lines:
    top1 = [_wrong(result.top1_error, result.n) for result in results]
    top5 = [_wrong(result.top5_error, result.n) for result in results]
    return {"top-1 error": _percent(top1), "top-5 error": _percent(top5)}


def _wrong(share: float, n: int) -> Count | None:
    return None if math.isnan(share) else (round(share * n), n)


def _percent(counts: Iterable[Count | None]) -> Line:
    kept = tuple(counts)
    return Line(tuple(100 * one[0] / one[1] if one and one[1] else None for one in kept), kept)


def _digits(run: Run, table: PrintedTable, protocol: Protocol) -> Lines:
    found: dict[str, dict[float, Count]] = {}
    for result in run.results():
        found.setdefault(result.attack, {})[result.eps] = (result.survived, result.n)
    lines = {}
    for attack, by_eps in found.items():
        counts = tuple(by_eps.get(float(column)) for column in table.columns)
        values = tuple(one[0] / one[1] if one and one[1] else None for one in counts)
        lines[_NAMES.get(attack, attack)] = Line(values, counts)
    return lines


def _panels(run: Run, table: PrintedTable, protocol: Protocol) -> Lines:
    from assay.models.imagenet import imagenet_classes

    classes = imagenet_classes()
    lines: Lines = {}
    for picture in panels(run):
        name = classes[picture.label]
        line = _likeliest(picture, classes)
        # two images of one class are told apart by their ids
        lines[f"{name} ({picture.sample_id})" if name in lines else name] = line
    return lines


def panels(run: Run) -> list[Picture]:
    """Return the pictures of a run of single images, each once, in the order of the study."""
    cells = run.cells
    found = [picture for cell in cells for picture in run.gallery(cell)]
    order = [one for cell in cells.values() for one in cell["specs"]["data"].get("ids", ())]
    by_id = {picture.sample_id: picture for picture in found}
    return [by_id[name] for name in order or by_id if name in by_id]


def _likeliest(picture: Picture, classes: Sequence[str]) -> Line:
    shares, at = picture.logits.softmax(0).topk(TOP)
    return Line(tuple(shares.tolist()), (), tuple(classes[i] for i in at.tolist()))


def _patches(run: Run, table: PrintedTable, protocol: Protocol) -> Lines:
    from assay.evaluation.records.arrow import compute as pc
    from assay.evaluation.records.schema import SCHEMA

    if "target_rank" not in SCHEMA.names:
        return {}
    records = run.records(["cell", "sample_id", "label", "target_rank", "status"])
    cells = run.cells
    lines: Lines = {}
    for row in table.rows:
        counts: list[Count | None] = []
        spans: list[tuple[float, float] | None] = []
        for side in table.columns:
            mine = [name for name, cell in cells.items() if _is_of(cell, row.name, int(side))]
            rows = records.filter(pc.is_in(records["cell"], value_set=_array(mine)))
            hits = success(rows, imagenet_number(row.name), protocol.top)
            counts.append(hits if hits[1] else None)
            spans.append(interval(rows, imagenet_number(row.name), protocol.top))
        lines[row.name] = dataclasses.replace(_percent(counts), intervals=tuple(spans))
    return lines


def beside(run: Run, table: PrintedTable, protocol: Protocol) -> Lines:
    """Return the lines that a run of fewer images adds to `table`: each says of how many."""
    lines = _digits(run, table, protocol)
    return {f"{name}, {plural(_images(line), 'image')}": line for name, line in lines.items()}


def _images(line: Line) -> int:
    return max(count[1] for count in line.counts if count is not None)


def _array(values: Sequence[str]) -> object:
    import pyarrow as pa

    return pa.array(values, pa.string())


def _is_of(cell: Mapping[str, Any], target: str, side: int) -> bool:
    # models from files know no names, and their goals are written with numbers
    names = {f"targeted {target}", f"targeted {imagenet_number(target)}"}
    return cell["goal"] in names and float(cell["eps"][0]) == 3 * side * side


_READERS: Mapping[Kind, Callable[[Run, PrintedTable, Protocol], Lines]] = {
    Kind.CLEAN: _clean,
    Kind.PANELS: _panels,
    Kind.SWEEP: _sweep,
    Kind.PATCHES: _patches,
    Kind.DIGITS: _digits,
}


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
        sentences=Statement(table, how, rows, runs, standing_in).sentences(),
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
