"""The charts as Vega-Lite: one specification for the page, for SVG, PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.evaluation.records.verdicts import REFUTED, Verdict
from assay.report.breakdown import Breakdown
from assay.report.groups import NORMALIZED, Group, Line
from assay.report.theme import IN_PAGE, PAGE, SHAPES, Look, Palette, Spec, dressed, eps_axes

if TYPE_CHECKING:
    import altair as alt


_REACH = 500  # square pixels around a mark where a pointer already meets it
_ROW = 26
_CROSS = "M-.7-.7L.7 .7M-.7 .7L.7-.7"


def curve(group: Group, look: Look = IN_PAGE) -> Spec:
    """Draw accuracy against eps: a line per attack, the worst case bold, intervals shaded, grey levels on top."""
    import altair as alt

    rows = [row for line in group.shown for row in _points(group, line)]
    base = alt.Chart(alt.InlineData(values=rows))
    near = alt.selection_point(name="near", on="pointerover", clear="pointerout", empty=False)
    bottom, top, bare = _eps_axes(group)
    title = group.measure
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title=title, tickCount=5))
    color = _color(group, look)
    lit = "focus == '' || datum.attack == focus"
    fade = alt.condition(lit, alt.value(1), alt.value(0.12))
    band = base.mark_area(interpolate="linear").encode(
        x=bottom, y=alt.Y("low:Q"), y2="high:Q", color=color,
        opacity=alt.condition(lit, alt.value(0.13), alt.value(0.03)),
    )  # fmt: skip
    line = base.mark_line(interpolate="linear", strokeJoin="round").encode(
        x=top, y=y, color=color, opacity=fade,
        strokeWidth=alt.condition("datum.worst", alt.value(3.5), alt.value(1.75)),
    )  # fmt: skip
    shape = alt.Shape("attack:N", legend=None, scale=alt.Scale(domain=_labels(group), range=list(_shapes(group))))
    dots = base.mark_point(filled=True, opacity=1).encode(
        x=bare, y=y, color=color, shape=shape, opacity=fade,
        size=alt.condition(near, alt.value(150), alt.value(48)), tooltip=_tips(group),
    ).add_params(near)  # fmt: skip
    whisker = base.transform_filter("datum.lone").mark_rule(strokeWidth=5).encode(
        x=bare, y=alt.Y("low:Q"), y2="high:Q", color=color,
        opacity=alt.condition(lit, alt.value(0.25), alt.value(0.06)),
    )  # fmt: skip
    reach = base.mark_point(filled=True, opacity=0, size=_REACH).encode(x=bare, y=y, tooltip=_tips(group))
    layers = [*_strict(group, bare, look), band, line, whisker, reach, dots, *_escalated(group, bare, y, look)]
    chart = alt.layer(*layers).resolve_axis(x="independent")
    chart = chart.add_params(alt.param(name="focus", value=""))
    return dressed(chart.properties(height=340), look, f"{group.model} · {group.data} · {group.kind}")


def strict(group: Group) -> list[dict[str, Any]]:
    """Return points of the strict robust accuracy and the robust accuracy with rejection, where both are known.

    They are those of the worst case over several attacks, or else of every attack.
    """
    rows: list[dict[str, Any]] = []
    for line in [group.worst] if group.worst else group.lines:
        known = [(result, told) for result in line.results if (told := group.strict_left(result)) is not None]
        rows += [
            {
                "attack": line.label, "eps": result.eps, "strict": told.accuracy, "accuracy": result.robust_accuracy,
                "budget": words.bare(result.eps_written), "kept": str(told),
                "counted": "measured by attacks that want refusals" if told.measured else "an upper bound",
            }
            for result, told in known
        ]  # fmt: skip
        begins = {row["eps"] for row in _points(group, line)} - {row["eps"] for row in rows}
        first = line.results[0].clean_accuracy
        rows += [
            {"attack": line.label, "eps": 0.0, "strict": first, "accuracy": first, "budget": "0", "kept": group.clean,
             "counted": "without an attack"}
            for eps in begins if eps == 0.0 and known
        ]  # fmt: skip
    return sorted(rows, key=lambda row: row["eps"])


def _strict(group: Group, x: Any, look: Look) -> list[Any]:
    """Draw the strict robust accuracy dashed, and shade what lies between it and the one with rejection."""
    import altair as alt

    rows = strict(group)
    if not rows:
        return []
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, color=_color(group, look))
    lit = "focus == '' || datum.attack == focus"
    shade = alt.condition(lit, alt.value(0.18), alt.value(0.03))
    between = base.mark_area(interpolate="linear").encode(y=alt.Y("strict:Q"), y2="accuracy:Q", opacity=shade)
    fade = alt.condition(lit, alt.value(1), alt.value(0.12))
    line = base.mark_line(strokeDash=[5, 4], strokeWidth=1.5).encode(y=alt.Y("strict:Q"), opacity=fade)
    titles = {"attack": "attack", "budget": "eps", "kept": "strict robust accuracy", "counted": "which is"}
    tips = [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]
    reach = base.mark_point(filled=True, opacity=0, size=_REACH).encode(y=alt.Y("strict:Q"), tooltip=tips)
    return [between, line, reach]


def refuted(group: Group) -> list[dict[str, Any]]:
    """Return what the escalation left of the numbers that it refuted."""
    return [
        {
            "eps": one.eps, "accuracy": one.as_first_measured, "left": one.after_escalation,
            "budget": words.bare(one.eps_written), "kept": words.percent(one.after_escalation, one.n),
            "first": words.percent(one.as_first_measured, one.n),
        }
        for one in group.verdicts
        if one.verdict == REFUTED
    ]  # fmt: skip


def _escalated(group: Group, x: Any, y: Any, look: Look) -> list[Any]:
    """Draw a cross where an audit refuted a number, hanging from what was measured first."""
    import altair as alt

    rows = refuted(group)
    if not rows:
        return []
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x)
    tips = [alt.Tooltip(f"{field}:N", title=title) for field, title in
            {"budget": "eps", "kept": "after escalation", "first": "as first measured"}.items()]  # fmt: skip
    hanging = base.mark_rule(color=look.palette.broken, strokeDash=[3, 3]).encode(y=y, y2="left:Q")
    cross = base.mark_point(shape=_CROSS, size=90, strokeWidth=2.2, opacity=1, color=look.palette.broken)
    return [hanging, cross.encode(y=alt.Y("left:Q"), tooltip=tips)]


def legend(group: Group) -> list[dict[str, str]]:
    """Return what the page's own legend lists: each line's label, marker, and place among the series' colours."""
    many = len(PAGE.series)
    return [
        {
            "label": line.label, "shape": shape, "place": str(at % many + 1), "worst": "yes" if line.worst else "",
            # of a black box, how often it was asked
            "asked": "" if line.queries is None else words.queries(line.queries),
        }
        for at, (line, shape) in enumerate(zip(group.shown, _shapes(group), strict=True))
    ]  # fmt: skip


def per_class(found: Breakdown, look: Look = IN_PAGE) -> Spec:
    """Draw each class's accuracy before (hollow) and after the attack (filled)."""
    import altair as alt

    base = _chosen(found, found.per_class)
    y = alt.Y("class:N", sort=list(found.classes), title=None, axis=alt.Axis(labelLimit=150, grid=False))
    axis = alt.Axis(format="%", title="accuracy", tickCount=5, orient="top")
    scale = alt.Scale(domain=[0, 1])
    tips = [alt.Tooltip("class:N", title="class"), alt.Tooltip("counts:N", title="images")]
    palette = look.palette
    rule = base.mark_rule(strokeWidth=2, color=palette.line).encode(y=y, x=alt.X("kept:Q"), x2="clean:Q")
    before = base.mark_point(filled=False, size=70, strokeWidth=1.5, color=palette.muted, opacity=1).encode(
        y=y, x=alt.X("clean:Q", axis=axis, scale=scale), tooltip=tips
    )
    after = base.mark_point(filled=True, size=90, color=palette.accent, opacity=1).encode(
        y=y, x=alt.X("kept:Q", axis=axis, scale=scale), tooltip=tips
    )
    chart = alt.layer(rule, before, after).properties(height=_ROW * len(found.classes))
    return dressed(chart.add_params(_choice(found)), look, found.choices[found.default].title)


def confusion(found: Breakdown, look: Look = IN_PAGE) -> Spec:
    """Draw what the images of each class became: on the diagonal what stayed right."""
    import altair as alt

    palette = look.palette
    base = _chosen(found, found.became)
    order = list(found.classes)
    also = sorted({row["became"] for row in found.became} - set(order))
    x = alt.X("became:N", sort=[*order, *also], title="became", scale=alt.Scale(domain=[*order, *also]),
              axis=alt.Axis(labelLimit=90, labelAngle=0 if _short(order) else -45, orient="top"))  # fmt: skip
    y = alt.Y("true:N", sort=order, title="true class", scale=alt.Scale(domain=order), axis=alt.Axis(labelLimit=110))
    tips = [
        alt.Tooltip("true:N", title="true class"), alt.Tooltip("became:N", title="became"),
        alt.Tooltip("count:Q", title="images"), alt.Tooltip("share:Q", title="share", format=".0%"),
    ]  # fmt: skip
    fill = alt.condition("datum.right", alt.value(palette.accent), alt.value(palette.broken))
    opacity = alt.Opacity("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.08, 1]))
    cells = base.mark_rect(cornerRadius=2).encode(x=x, y=y, color=fill, opacity=opacity, tooltip=tips)
    ink = alt.condition("datum.share > 0.55", alt.value(palette.paper), alt.value(palette.ink))
    text = base.mark_text(fontSize=11).encode(x=x, y=y, text="count:Q", color=ink, tooltip=tips)
    chart = alt.layer(cells, text).properties(height=_ROW * len(found.classes))
    return dressed(chart.add_params(_choice(found)), look, found.choices[found.default].title)


def _chosen(found: Breakdown, rows: tuple[dict[str, Any], ...]) -> alt.Chart:
    import altair as alt

    return alt.Chart(alt.InlineData(values=list(rows))).transform_filter("datum.choice == choice")


def _choice(found: Breakdown) -> Any:
    import altair as alt

    return alt.param(name="choice", value=found.default)


def _short(names: list[str]) -> bool:
    return all(len(name) <= 3 for name in names)


def _points(group: Group, line: Line) -> list[dict[str, Any]]:
    """Return a line's points, from no change on, where every line begins; one that skips small budgets begins later."""
    first = line.results[0]
    known = not words.missing(first.clean_accuracy)
    begins = known and first.eps > 0 and first.eps == min(result.eps for result in group.budgets if result.eps > 0)
    lone = len(line.results) == 1 and not begins
    rows: list[dict[str, Any]] = [] if not begins else [{
        "attack": line.label, "worst": line.worst, "lone": False, "eps": 0.0, "accuracy": first.clean_accuracy,
        "low": first.clean_low, "high": first.clean_high, "budget": "0", "grey": "0",
        "kept": group.clean, "counts": f"{words.count(first.clean_correct)} of {words.count(first.n)} right",
    }]  # fmt: skip
    for result in line.results:
        kept = words.percent(result.robust_accuracy, result.n)
        rows.append({
            "attack": line.label, "worst": line.worst, "lone": lone, "eps": result.eps,
            "accuracy": result.robust_accuracy, "low": result.robust_low, "high": result.robust_high,
            "budget": words.bare(result.eps_written), "grey": words.grey(result.grey_levels),
            "kept": f"{kept} {words.interval(result.robust_low, result.robust_high, result.n)}",
            "counts": f"{words.count(result.survived)} of {words.count(result.n)} survived, "
                      f"{words.count(result.broken)} broken",
        })  # fmt: skip
    return rows


def _tips(group: Group) -> list[Any]:
    import altair as alt

    kept = group.measure if group.black_box else "accuracy"
    shown = {"attack": "attack", "budget": "eps", "grey": "grey levels", "kept": kept, "counts": "images"}
    if group.norm != "linf":
        del shown["grey"]
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in shown.items()]


def _eps_axes(group: Group) -> tuple[Any, Any, Any]:
    """Return the x encodings: eps as written below; above it, where they mean something, grey levels; no axis."""
    budgets = {0.0: "0"} | {result.eps: words.bare(result.eps_written) for result in group.budgets}
    levels = {0.0: "0"} | {result.eps: words.grey(result.grey_levels) for result in group.budgets}
    unit = ", normalised units" if group.unit == NORMALIZED else ""
    return eps_axes(budgets, levels if group.norm == "linf" else None, f"{words.norm(group.norm)}{unit}")


def _labels(group: Group) -> list[str]:
    return [line.label for line in group.shown]


def _colors(group: Group, palette: Palette) -> list[str]:
    series = palette.series
    return [palette.accent if line.worst else series[at % len(series)] for at, line in enumerate(group.shown)]


def _shapes(group: Group) -> list[str]:
    return ["circle" if line.worst else SHAPES[(at + 1) % len(SHAPES)] for at, line in enumerate(group.shown)]


def _color(group: Group, look: Look) -> Any:
    import altair as alt

    scale = alt.Scale(domain=_labels(group), range=_colors(group, look.palette))
    return alt.Color("attack:N", scale=scale, legend=alt.Legend(title=None, orient="bottom") if look.alone else None)


ROUNDED = 16.6
"""Gap of logits above which float32 rounds the softmax to 0 and 1."""
_HEIGHT = 190
_BAR_ROW = 34
_BAR_REACH = 300  # square pixels around a mark where a pointer already meets it


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
    return dressed(alt.layer(bars, text, inside).properties(height=_BAR_ROW * len(rows)), look, "")


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
    reach = base.mark_point(filled=True, opacity=0, size=_BAR_REACH).encode(tooltip=tips)
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
