"""The paper's figures: training logs, curves, and the charts drawn of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from assay import wording as words
from assay.paper import figures as curves
from assay.paper import masking, pictures
from assay.paper.inputs import Line, PaperContents, TrainingLog
from assay.paper.tables import AS_PUBLISHED, PRINTED
from assay.report.export import write_charts
from assay.report.theme import IN_FILE, IN_PAGE, SHAPES, Look, Spec, dressed, eps_axes

FIGURE_7 = ("mnist-cnn",)
FIGURE_10 = ("mnist-teacher-t100", "mnist-distilled-t100", "mnist-distilled-t100-as-published")
_TITLES = {
    "mnist-cnn": "plain network",
    "mnist-teacher-t100": "teacher at T = 100",
    "mnist-distilled-t100": "student of its soft labels",
    "mnist-distilled-t100-as-published": "as published: hard labels at T = 100",
}


def training_logs() -> tuple[TrainingLog, ...]:
    """Return the training of every shipped MNIST network."""
    return tuple(_log(network, title) for network, title in _TITLES.items())


def _log(network: str, title: str) -> TrainingLog:
    text = (files("assay.paper") / "training" / f"zoo-{network}.jsonl").read_text("utf-8")
    return TrainingLog(network, title, tuple(json.loads(line) for line in text.splitlines() if line.strip()))


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


TRAINING, VALIDATION = "training", "validation"
_KINDS: dict[str, tuple[str, int, str]] = {
    TRAINING: ("train_loss", 1, "circle"),
    VALIDATION: ("validation_loss", 2, "square"),
}
_FILE_WIDTH = 230
_DASHES = {PRINTED: [2, 3], AS_PUBLISHED: [7, 3]}
_TIPS = {"line": " ", "budget": "eps", "grey": "grey levels", "kept": "accuracy", "counts": "images"}
_REACH = 400  # square pixels around a mark where a pointer already meets it


def losses_legend() -> list[dict[str, str]]:
    """Return what the page's own legend lists for the losses: label, marker, place among the series' colours."""
    return [
        {"label": f"{kind} loss", "shape": shape, "place": str(place), "worst": ""}
        for kind, (_, place, shape) in _KINDS.items()
    ]


def losses(log: TrainingLog, look: Look = IN_PAGE, top: float | None = None) -> Spec:
    """Draw the training and the validation loss of one network against the epoch; `top` ends the axis of losses."""
    return dressed(_losses(log, look, top).properties(height=220), look, log.title)


def losses_side_by_side(logs: Sequence[TrainingLog], title: str, look: Look) -> Spec:
    """Draw the losses of several networks beside each other, on one scale."""
    import altair as alt

    top = highest(logs)
    parts = [_losses(log, look, top).properties(width=_FILE_WIDTH, height=200, title=log.title) for log in logs]
    return dressed(alt.hconcat(*parts, spacing=24), look, title, fixed=True)


def highest(logs: Iterable[TrainingLog]) -> float:
    """Return the largest loss of any epoch, where an axis that serves all of them ends."""
    return max((epoch[field] for log in logs for epoch in log.epochs for field, *_ in _KINDS.values()), default=1.0)


def _losses(log: TrainingLog, look: Look, top: float | None) -> Any:
    import altair as alt

    rows: list[dict[str, Any]] = [
        {"epoch": epoch["epoch"], "loss": epoch[field], "of": f"{kind} loss",
         "accuracy": f"{100 * epoch['validation_accuracy']:.2f} %", "value": f"{epoch[field]:.4f}"}
        for epoch in log.epochs
        for kind, (field, *_) in _KINDS.items()
    ]  # fmt: skip
    names = [f"{kind} loss" for kind in _KINDS]
    series = [look.palette.series[place - 1] for _, place, _ in _KINDS.values()]
    legend = alt.Legend(title=None, orient="bottom") if look.alone else None
    color = alt.Color("of:N", legend=legend, scale=alt.Scale(domain=names, range=series))
    shape = alt.Shape("of:N", legend=legend, scale=alt.Scale(domain=names, range=[kind[2] for kind in _KINDS.values()]))
    last = max((row["epoch"] for row in rows), default=1)
    x = alt.X("epoch:Q", scale=alt.Scale(domain=[1, max(last, 2)], nice=False),
              axis=alt.Axis(title="epoch", format="d", grid=False, tickMinStep=1))  # fmt: skip
    y = alt.Y("loss:Q", axis=alt.Axis(title="loss", tickCount=4),
              scale=alt.Scale(domain=[0, top if top is not None else highest([log])]))  # fmt: skip
    tips = [alt.Tooltip("of:N", title=" "), alt.Tooltip("epoch:Q"), alt.Tooltip("value:N", title="loss"),
            alt.Tooltip("accuracy:N", title="validation accuracy")]  # fmt: skip
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, y=y, color=color)
    reach = base.mark_point(opacity=0, filled=True, size=_REACH).encode(tooltip=tips)
    return alt.layer(
        base.mark_line(strokeWidth=1.75), reach,
        base.mark_point(filled=True, opacity=1, size=44).encode(shape=shape, tooltip=tips),
    )  # fmt: skip


def accuracy_legend(lines: Sequence[Line]) -> list[dict[str, str]]:
    """Return what the page's own legend lists for lines of accuracy: label, marker, place, and whether it is bold."""
    places = _places(lines)
    return [
        {"label": line.label, "shape": shape, "place": str(place), "worst": ""}
        for line, (place, shape) in zip(lines, places, strict=True)
    ]


def accuracy(lines: Sequence[Line], title: str, look: Look = IN_PAGE) -> Spec:
    """Draw accuracies against eps: the printed one dotted, those as published dashed, with intervals where known."""
    import altair as alt

    rows = [row for line in lines for row in _points(line)]
    budgets = {point.eps: f"{point.eps:g}" for line in lines for point in line.points}
    levels = {eps: words.grey(255 * eps) for eps in budgets}
    bottom, top, bare = eps_axes(budgets, levels, words.norm("linf"))
    names, places = [line.label for line in lines], _places(lines)
    legend = alt.Legend(title=None, orient="bottom", columns=2, labelLimit=320) if look.alone else None
    scale = alt.Scale(domain=names, range=[look.palette.series[place - 1] for place, _ in places])
    color = alt.Color("line:N", scale=scale, legend=legend)
    shapes = alt.Scale(domain=names, range=[shape for _, shape in places])
    shape = alt.Shape("line:N", scale=shapes, legend=legend)
    dash = alt.StrokeDash("line:N", legend=legend, scale=alt.Scale(domain=names, range=[_dash(line) for line in lines]))
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title="accuracy", tickCount=5))
    lit = "focus == '' || datum.line == focus"
    fade = alt.condition(lit, alt.value(1), alt.value(0.12))
    base = alt.Chart(alt.InlineData(values=rows))
    tips = [alt.Tooltip(f"{field}:N", title=name) for field, name in _TIPS.items()]
    band = base.transform_filter("isValid(datum.low)").mark_area().encode(
        x=bare, y=alt.Y("low:Q"), y2="high:Q", color=color,
        opacity=alt.condition(lit, alt.value(0.13), alt.value(0.03)),
    )  # fmt: skip
    line = base.mark_line(strokeJoin="round", strokeWidth=1.9).encode(
        x=bottom, y=y, color=color, strokeDash=dash, opacity=fade
    )
    reach = base.mark_point(filled=True, opacity=0, size=_REACH).encode(x=top, y=y, tooltip=tips)
    dots = base.mark_point(filled=True, size=46).encode(
        x=bare, y=y, color=color, shape=shape, opacity=fade, tooltip=tips
    )
    chart = alt.layer(band, line, reach, dots).resolve_axis(x="independent")
    chart = chart.add_params(alt.param(name="focus", value="")).properties(height=340)
    return dressed(chart, look, title)


def _places(lines: Sequence[Line]) -> list[tuple[int, str]]:
    """Return colour (a place among the series) and shape per line: a colour per row, or per mode of a single row."""
    rows = list(dict.fromkeys(line.row for line in lines if line.mode != PRINTED))
    modes = list(dict.fromkeys(line.mode for line in lines if line.mode != PRINTED))
    many = 5  # the sixth series is grey, the colour of what is printed
    found = []
    for at, line in enumerate(lines):
        color = 6
        if line.mode != PRINTED:
            color = (rows.index(line.row) if len(rows) > 1 else modes.index(line.mode)) % many + 1
        found.append((color, SHAPES[at % len(SHAPES)]))
    return found


def _dash(line: Line) -> list[int]:
    return _DASHES.get(line.mode, [1, 0])


def _points(line: Line) -> list[dict[str, Any]]:
    rows = []
    for point in sorted(line.points, key=lambda point: point.eps):
        n = point.count[1] if point.count else 10_000
        span = point.interval
        written = f"{words.percent(point.accuracy, n)} {words.interval(*span, n) if span else ''}".strip()
        row = {
            "line": line.label, "eps": point.eps, "accuracy": point.accuracy, "budget": f"{point.eps:g}",
            "grey": words.grey(255 * point.eps), "kept": written,
            "counts": " of ".join(map(words.count, point.count)) if point.count else words.EM_DASH,
        }  # fmt: skip
        rows.append(row | ({"low": span[0], "high": span[1]} if span else {}))
    return rows
