"""What the page of the paper is made of: runs, temperatures, tables as they were measured."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.paper.smallest import Smallest
from assay.paper.tables import PRINTED, TableView
from assay.report.gallery import Bar
from assay.report.provenance import Source
from assay.statistics import wilson

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class TemperatureRow:
    """One student of distillation at `temperature`, measured on the test images in eval mode.

    `fgsm` is the accuracy under FGSM by budget (pixels in [0, 1]), `at_temperature` the same on the loss of
    `logits / temperature`. `zero` is the share of float32 gradients that are exactly zero, `gaps` are quantiles of the
    gap between the two highest logits. All shares are fractions.
    """

    temperature: float
    seed: int
    clean: float
    fgsm: Mapping[float, float]
    at_temperature: Mapping[float, float]
    zero: float
    gaps: Mapping[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold; `from_dict` gives the row back."""
        return {
            name: {repr(key): number for key, number in value.items()} if isinstance(value, Mapping) else value
            for name, value in vars(self).items()
        }

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> TemperatureRow:
        """Return the row that `to_dict` wrote."""
        numbers: dict[str, Any] = {
            name: {float(key): number for key, number in value.items()} if isinstance(value, Mapping) else value
            for name, value in plain.items()
        }
        return TemperatureRow(**numbers)


def temperatures() -> tuple[TemperatureRow, ...]:
    """Return the measured rows that come with Assay; the file beside this one says by which commands."""
    return read_rows((files("assay.paper") / "temperatures.json").read_text(encoding="utf-8"))


def read_rows(text: str) -> tuple[TemperatureRow, ...]:
    """Return the rows in the text of a file of them."""
    return tuple(TemperatureRow.from_dict(row) for row in json.loads(text)["rows"])


def written_rows(rows: Iterable[TemperatureRow], facts: Mapping[str, Any]) -> str:
    """Return the text of a file of rows: the facts (command, learning rate, ...), then one row a line."""
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in facts.items())
    body = ",\n".join(f"  {json.dumps(row.to_dict())}" for row in rows)
    return f'{{\n{head} "rows": [\n{body}\n ]\n}}\n'


Count = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Panel:
    """Pictures of one image, and the classes found likeliest: Figures 1, 2 and 4 to 6.

    `images` maps what a picture is to the picture, `[C, H, W]` in [0, 1]; what lies outside is clipped when shown.
    `network` says who looked.
    """

    title: str
    images: Mapping[str, Tensor]
    bars: tuple[Bar, ...]
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """A digit `[1, 28, 28]` after an attack, its true label and the predicted one: Figure 9."""

    image: Tensor
    true: int
    predicted: int


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """The epochs of a training: each with epoch, train_loss, validation_loss, validation_accuracy (a fraction)."""

    network: str
    title: str
    epochs: tuple[Mapping[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Point:
    """An accuracy (a fraction) at a budget; `count` holds (right, n) where it is known."""

    eps: float
    accuracy: float
    count: Count | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval, where the count is known."""
        return None if self.count is None or not self.count[1] else wilson(*self.count)


@dataclasses.dataclass(frozen=True)
class Line:
    """Accuracies over budgets. `mode` is `printed`, `as_published` or `corrected`; `row` names the table's row."""

    mode: str
    row: str
    points: tuple[Point, ...]

    def at(self, eps: float) -> Point | None:
        """Return the point at a budget, if there is one."""
        return next((point for point in self.points if point.eps == eps), None)

    @property
    def label(self) -> str:
        """The line in words."""
        name = self.mode.replace("_", " ")
        return name if self.mode == PRINTED else f"{name}, {self.row}"


@dataclasses.dataclass(frozen=True)
class Probe:
    """What gradients show of a network on `n` images; shares are fractions of them.

    `zero` and `zero_in_double` are the shares of gradients that are exactly zero in float32 and in float64 (None
    where the network cannot compute in it). `gaps` holds quantiles of the difference of the two highest logits;
    `counts[i]` images have one from `edges[i]` to `edges[i + 1]`.
    """

    network: str
    n: int
    accuracy: float
    zero: float
    zero_in_double: float | None
    gaps: Mapping[float, float]
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


def _none() -> Mapping[Any, Any]:
    return {}


@dataclasses.dataclass(frozen=True)
class PaperContents:
    """Everything that the page of the paper and its figures show; whatever is left out, the page says how to get.

    `panels` holds the panels of Figures 1, 2 and 4 to 6 by number, `patches` Figure 3 by (target class, side in
    pixels), `examples` Figure 9 by eps, `smallest` the digits beside Table XIV's attacks. `errata` are facts about the
    printed text by table. `unfit` says why a run directory's numbers are not reportable. `out` is where the runs are,
    as the reader would type it.
    """

    views: tuple[TableView, ...] = ()
    errata: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=_none)
    panels: Mapping[int, tuple[Panel, ...]] = dataclasses.field(default_factory=_none)
    patches: Mapping[tuple[str, int], Tensor] = dataclasses.field(default_factory=_none)
    logs: tuple[TrainingLog, ...] = ()
    examples: Mapping[float, tuple[Example, ...]] = dataclasses.field(default_factory=_none)
    smallest: tuple[Smallest, ...] = ()
    probes: tuple[Probe, ...] = ()
    temperatures: tuple[TemperatureRow, ...] = ()
    unfit: Mapping[Path, tuple[str, ...]] = dataclasses.field(default_factory=_none)
    sources: tuple[Source, ...] = ()
    commands: tuple[str, ...] = ()
    out: Path | None = None

    def view(self, number: str) -> TableView | None:
        """Return a table, if it is there."""
        return next((view for view in self.views if view.number == number), None)

    def why_unfit(self, number: str) -> tuple[str, ...]:
        """Return why the measured numbers of a table are not reportable, each reason once."""
        view = self.view(number)
        runs = view.runs.values() if view else ()
        return tuple(dict.fromkeys(reason for run in runs for reason in self.unfit.get(run, ())))

    def lines(self, number: str) -> tuple[Line, ...]:
        """Return the lines of an accuracy table over budgets (XIII, XIV): printed first, then as measured."""
        view = self.view(number)
        return lines_of(view) if view else ()


def lines_of(view: TableView) -> tuple[Line, ...]:
    """Return the accuracies of a table whose columns are budgets; none for another table."""
    try:
        budgets = [float(column) for column in view.columns]
    except ValueError:
        return ()
    scale = 100.0 if view.unit == "percent" else 1.0
    found = []
    for row in view.rows:
        for mode, values in ((PRINTED, row.printed), *row.measured.items()):
            counts = row.counts.get(mode) or (None,) * len(budgets)
            points = tuple(
                Point(eps, value / scale, count)
                for eps, value, count in zip(budgets, values, counts, strict=False)
                if value is not None and math.isfinite(value)
            )
            if points:
                found.append(Line(mode, row.name, points))
    return tuple(sorted(found, key=lambda line: line.mode != PRINTED))
