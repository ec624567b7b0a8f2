"""From a finished run to the lines of a table: values in its unit, the counts behind them, and the classes named."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.paper.patches import interval, success
from assay.paper.printed import PrintedTable
from assay.paper.studies import imagenet_number
from assay.paper.tables import Kind, Protocol
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
