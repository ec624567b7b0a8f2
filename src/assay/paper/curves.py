"""Figures made of lines: losses against epochs (7, 10), accuracy against eps (8, 11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from assay import wording as words
from assay.paper.inputs import Line, TrainingLog
from assay.paper.view import AS_PUBLISHED, PRINTED
from assay.report.theme import IN_PAGE, SHAPES, Look, Spec, dressed, eps_axes

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
