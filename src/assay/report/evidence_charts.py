"""The charts of an audit's evidence: what the probes saw, drawn as the other charts of the page are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assay.evaluation.records.verdicts import Verdict
from assay.report import words
from assay.report.look import IN_PAGE, Look, Spec, dressed
from assay.report.palette import SHAPES

ROUNDED = 16.6
"""Gap of logits above which float32 rounds the softmax to 0 and 1."""
_HEIGHT = 190
_ROW = 34
_REACH = 300  # square pixels around a mark where a pointer already meets it


def evidence_charts(verdict: Verdict, look: Look = IN_PAGE) -> dict[str, Spec]:
    """Return what can be drawn of a verdict's evidence: a title and a specification each."""
    drawn = {title: draw(verdict.curves, look) for title, draw in _CHARTS.items()}
    return {title: spec for title, spec in drawn.items() if spec is not None}


def _losses(curves: Mapping[str, Any], look: Look) -> Spec | None:
    rows = [
        {"objective": _spoken(name), "step": step, "loss": loss}
        for name, values in curves.get("losses", {}).items()
        for step, loss in enumerate(values)
    ]
    return _lines(rows, ("objective", "step", "loss"), ("step", "loss, from lowest to highest"), look)


def _growth(curves: Mapping[str, Any], look: Look) -> Spec | None:
    import altair as alt

    found = curves.get("growth", {"budgets": (), "success": ()})
    rows = [
        {"times": times, "success": success}
        for times, success in zip(found["budgets"], found["success"], strict=True)
        if success is not None
    ]
    if not rows:
        return None
    x = alt.X("times:Q", axis=alt.Axis(title="budget, in multiples of eps", tickCount=5))
    y = alt.Y("success:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title="success", tickCount=5))
    tips = [alt.Tooltip("times:Q", title="times eps"), alt.Tooltip("success:Q", format=".0%")]
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, y=y)
    line = base.mark_line(strokeWidth=2, color=look.palette.accent)
    dots = base.mark_point(filled=True, size=60, opacity=1, color=look.palette.accent).encode(tooltip=tips)
    return dressed(alt.layer(line, dots).properties(height=_HEIGHT), look, "")


def _gaps(curves: Mapping[str, Any], look: Look) -> Spec | None:
    import altair as alt

    found = curves.get("gaps", {"edges": (), "counts": ()})
    edges, counts = found["edges"], found["counts"]
    rows = [
        {"low": low, "high": high, "images": count, "gap": f"{low:.3g} to {high:.3g}"}
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    if not rows:
        return None
    x = alt.X("low:Q", axis=alt.Axis(title="gap between the two highest logits", tickCount=5, grid=False))
    y = alt.Y("images:Q", axis=alt.Axis(title="images", tickCount=4, tickMinStep=1))
    tips = [alt.Tooltip("gap:N"), alt.Tooltip("images:Q")]
    base = alt.Chart(alt.InlineData(values=rows))
    layers = [base.mark_bar(color=look.palette.accent).encode(x=x, x2="high:Q", y=y, y2=alt.datum(0), tooltip=tips)]
    if edges[-1] > ROUNDED:
        layers.append(_rule("x", ROUNDED, "float32 rounds the softmax beyond", look))
    return dressed(alt.layer(*layers).properties(height=_HEIGHT), look, "")


def _zero(curves: Mapping[str, Any], look: Look) -> Spec | None:
    import altair as alt

    rows = [
        {"objective": _spoken(name), "share": 1.0 if share is None else share,
         "said": "no gradient at all" if share is None else f"{100 * share:.0f} %"}
        for name, share in curves.get("zero", {}).items()
    ]  # fmt: skip
    if not rows:
        return None
    y = alt.Y("objective:N", sort=None, title=None, axis=alt.Axis(grid=False, labelLimit=140))
    x = alt.X("share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title="images", tickCount=5))
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y, x=x)
    tips = [alt.Tooltip("objective:N"), alt.Tooltip("said:N", title="zero")]
    bars = base.mark_bar(color=look.palette.broken, height=12).encode(tooltip=tips)
    # beside short bars, inside long ones
    short = base.transform_filter("datum.share < 0.6")
    text = short.mark_text(align="left", dx=6, fontSize=12, color=look.palette.muted).encode(text="said:N")
    long = base.transform_filter("datum.share >= 0.6")
    inside = long.mark_text(align="right", dx=-6, fontSize=11, color=look.palette.paper).encode(text="said:N")
    return dressed(alt.layer(bars, text, inside).properties(height=_ROW * len(rows)), look, "")


def _margins(curves: Mapping[str, Any], look: Look) -> Spec | None:
    found = curves.get("line", {"places": ()})
    rows = [
        {"way": way, "place": place, "margin": value}
        for way in found
        if way != "places"
        for place, value in zip(found["places"], found[way], strict=True)
    ]
    titles = ("distance, in multiples of eps", "margin")
    return _lines(rows, ("way", "place", "margin"), titles, look, [_rule("y", 0, "above: misclassified", look)])


def _lines(
    rows: list[dict[str, Any]], fields: tuple[str, str, str], titles: tuple[str, str], look: Look, more: Any = ()
) -> Spec | None:
    """Draw one line per value of the first field: the third against the second."""
    import altair as alt

    if not rows:
        return None
    what, across, up = fields
    names = list(dict.fromkeys(row[what] for row in rows))
    series = [look.palette.series[at % len(look.palette.series)] for at in range(len(names))]
    legend = alt.Legend(title=None, orient="bottom", columns=1)
    color = alt.Color(f"{what}:N", scale=alt.Scale(domain=names, range=series), legend=legend)
    shapes = [SHAPES[at % len(SHAPES)] for at in range(len(names))]
    shape = alt.Shape(f"{what}:N", scale=alt.Scale(domain=names, range=shapes), legend=legend)
    x = alt.X(f"{across}:Q", scale=alt.Scale(nice=False), axis=alt.Axis(title=titles[0], tickCount=5, grid=False))
    y = alt.Y(f"{up}:Q", axis=alt.Axis(title=titles[1], tickCount=4))
    tips = [alt.Tooltip(f"{what}:N", title=" "), alt.Tooltip(f"{across}:Q", format=".3g"),
            alt.Tooltip(f"{up}:Q", format=".3g")]  # fmt: skip
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, y=y, color=color)
    line = base.mark_line(strokeWidth=2)
    dots = base.mark_point(filled=True, size=26, opacity=1).encode(shape=shape)
    reach = base.mark_point(filled=True, opacity=0, size=_REACH).encode(tooltip=tips)
    return dressed(alt.layer(*more, line, dots, reach).properties(height=_HEIGHT), look, "")


def _rule(axis: str, at: float, said: str, look: Look) -> Any:
    """Draw a threshold with its name."""
    import altair as alt

    base = alt.Chart(alt.InlineData(values=[{"at": at, "said": said}]))
    where = alt.X("at:Q") if axis == "x" else alt.Y("at:Q")
    rule = base.mark_rule(color=look.palette.muted, strokeDash=[4, 3]).encode(where)
    placed: dict[str, Any] = {"align": "left", "dx": 4, "y": -7} if axis == "x" else {"align": "left", "dy": -6, "x": 4}
    return rule + base.mark_text(color=look.palette.muted, fontSize=11, **placed).encode(where, text="said:N")


def _spoken(name: str) -> str:
    return words.short(name.replace("_", " "), 30)


_CHARTS: Mapping[str, Callable[[Mapping[str, Any], Look], Spec | None]] = {
    "Loss while an attack climbs, on what was left standing": _losses,
    "Success as the budget grows": _growth,
    "Gap between the two highest logits": _gaps,
    "Images whose gradient is exactly zero": _zero,
    "Margin along the gradient and along a random direction": _margins,
}
