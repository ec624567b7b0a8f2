"""The figures of the paper by number, each as Vega-Lite: for the page, and as files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from assay.paper import curves, masking, pictures
from assay.paper.inputs import PaperContents, TrainingLog
from assay.paper.logs import FIGURE_7, FIGURE_10
from assay.report.export import write_charts
from assay.report.theme import IN_FILE, IN_PAGE, Spec

TITLES = {
    1: "Images and their five likeliest classes, no attack",
    2: "Images under FGSM and their five likeliest classes",
    3: "The trained patches",
    4: "Images with a patch, ResNet-101",
    5: "Images with a patch, AlexNet",
    6: "Images with a patch, RegNetY-400MF",
    7: "Losses of the MNIST network",
    8: "Accuracy of the MNIST network against eps",
    9: "Digits under FGSM: true → predicted label",
    10: "Losses of the distilled networks",
    11: "Accuracy of the distilled networks against eps",
}
_BESIDE: dict[str, tuple[int, ...]] = {
    "II": (1,), "III": (2,), "VII": (3, 4), "IX": (5,), "XI": (6,), "XIII": (7, 8, 9), "XIV": (10, 11),
}  # fmt: skip
TABLE_OF = {figure: table for table, beside in _BESIDE.items() for figure in beside}
_PANELS = (1, 2, 4, 5, 6)
_LOSSES = {7: FIGURE_7, 10: FIGURE_10}
_ACCURACIES = {8: "XIII", 11: "XIV"}

Legend = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One chart of a figure in the page: its name there, its title, whether its size is fixed, what else to say."""

    name: str
    title: str
    spec: Spec
    fixed: bool = False
    about: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure in the page. `missing` says what to run where there is nothing to draw.

    `layout` is `one`, `pair` (charts that share the width) or `panels` (as many beside each other as fit).
    """

    number: int
    title: str
    drawings: tuple[Drawing, ...] = ()
    legend: tuple[dict[str, str], ...] = ()
    layout: str = "one"
    note: str = ""
    missing: str = ""

    @property
    def lights(self) -> bool:
        """Whether its legend lights up lines."""
        return self.number in _ACCURACIES


def figure(contents: PaperContents, number: int) -> Figure:
    """Return a figure as the page shows it."""
    title, name = TITLES[number], f"figure-{number}"
    if number in _PANELS and contents.panels.get(number):
        shown = contents.panels[number]
        drawn = tuple(
            Drawing(f"{name}-{i}", one.title, pictures.panel(one), True, one.network) for i, one in enumerate(shown)
        )
        return Figure(number, title, drawn, layout="panels", note=pictures.colors(shown))
    if number == 3 and contents.patches:
        return Figure(number, title, (Drawing(name, title, pictures.patches(contents.patches), True),))
    if number == 9 and contents.examples:
        return Figure(number, title, (Drawing(name, title, pictures.digits(contents.examples), True),))
    if number in _LOSSES and (logs := _logs(contents, number)):
        top = curves.highest(logs)
        drawn = tuple(Drawing(f"{name}-{i}", log.title, curves.losses(log, IN_PAGE, top)) for i, log in enumerate(logs))
        return Figure(number, title, drawn, tuple(curves.losses_legend()), "pair")
    if number in _ACCURACIES and (lines := contents.lines(_ACCURACIES[number])):
        drawing = Drawing(name, title, curves.accuracy(lines, title))
        return Figure(number, title, (drawing,), tuple(curves.accuracy_legend(lines)))
    return Figure(number, title, missing=missing(number))


def missing(number: int) -> str:
    """Return what to do for a figure that cannot be drawn."""
    table = TABLE_OF[number]
    if number == 9:
        return "Figure 9 needs MNIST's test images, which could not be fetched. Once they are there: assay paper report"
    return f"Figure {number} is drawn from the run of Table {table}: assay paper run --table {table}"


def figures(contents: PaperContents, directory: str | Path, format: str = "svg") -> list[Path]:
    """Write every figure that can be drawn as a file (`figure-1.svg`, …, `masking-gaps.svg`); return the paths.

    Raises `BadInput` for a format other than svg, png and pdf.
    """
    return write_charts(list(specs(contents)), directory, format)


def specs(contents: PaperContents) -> Iterator[tuple[str, Spec]]:
    """Yield every figure that can be drawn, named, in the look of a file."""
    for number in TITLES:
        spec = _in_file(contents, number)
        if spec is not None:
            yield f"figure-{number}", spec
    if any(any(probe.counts) for probe in contents.probes):
        yield "masking-gaps", masking.gaps(contents.probes, IN_FILE)
    if contents.probes:
        yield "masking-zeros", masking.zeros(contents.probes, IN_FILE)
    if contents.temperatures:
        eps = masking.largest_eps(contents.temperatures)
        yield "masking-temperatures", masking.temperatures(contents.temperatures, eps, IN_FILE)


def _in_file(contents: PaperContents, number: int) -> Spec | None:
    title = f"Figure {number}. {TITLES[number]}"
    if number in _PANELS and contents.panels.get(number):
        return pictures.panels(contents.panels[number], title, IN_FILE)
    if number == 3 and contents.patches:
        return pictures.patches(contents.patches, IN_FILE, title)
    if number == 9 and contents.examples:
        return pictures.digits(contents.examples, IN_FILE, title)
    if number in _LOSSES and (logs := _logs(contents, number)):
        return curves.losses_side_by_side(logs, title, IN_FILE)
    if number in _ACCURACIES and (lines := contents.lines(_ACCURACIES[number])):
        return curves.accuracy(lines, title, IN_FILE)
    return None


def _logs(contents: PaperContents, number: int) -> list[TrainingLog]:
    by_network: dict[str, Any] = {log.network: log for log in contents.logs}
    return [by_network[network] for network in _LOSSES[number] if network in by_network]


def of_table(number: str) -> Sequence[int]:
    """Return the numbers of the figures that stand beside a table."""
    return _BESIDE.get(number, ())
