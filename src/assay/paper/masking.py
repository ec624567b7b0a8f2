"""Charts of gradient masking: gaps of logits, gradients that are exactly zero, and what the temperature does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from assay.audit.gradients import ROUNDED, ZERO
from assay.paper.inputs import Probe, TemperatureRow
from assay.report.theme import IN_PAGE, Look, Spec, dressed

_ROW, _RIDGE = 42, 76
_BEND = 10.0  # where the axis of gaps turns from linear to logarithmic
_GAP_TITLE = "gap between the two highest logits (logarithmic from about 10 on)"
_FILLED = 0.86  # of its row that the tallest bar of a histogram fills
NAIVE, SCALED, VANISHED = "FGSM", "FGSM at the temperature of training", "gradients exactly zero"
_SERIES = {NAIVE: (1, "circle"), SCALED: (2, "square"), VANISHED: (6, "triangle-up")}


def gaps(probes: Sequence[Probe], look: Look = IN_PAGE) -> Spec:
    """Draw how many images have which gap between their two highest logits: a histogram per network, one axis.

    The axis is logarithmic from about 10 on, and areas are shares of images. Vertical rules stand where float32 begins
    to round the gradient, and where none is left.
    """
    import altair as alt

    shown = [probe for probe in probes if any(probe.counts)]
    drawn = [(probe, _bins(probe)) for probe in reversed(shown)]
    tallest = max((row["density"] for _, rows in drawn for row in rows), default=1.0)
    values = [
        row | {"network": probe.network, "bottom": at, "top": at + _FILLED * row["density"] / tallest}
        for at, (probe, rows) in enumerate(drawn)
        for row in rows
    ]
    end = max((row["high"] for row in values), default=1000.0)
    scale = alt.Scale(type="symlog", constant=_BEND, domain=[0, end], nice=False)
    ticks = [0.0, *(tick for power in range(1, 7) for tick in (10.0**power, 3 * 10.0**power) if tick <= end)]
    x = alt.X("low:Q", scale=scale, axis=alt.Axis(title=_GAP_TITLE, grid=False, values=ticks, format=",d"))
    y = alt.Y("bottom:Q", axis=None, scale=alt.Scale(domain=[0, max(1, len(shown))], nice=False))
    tips = [alt.Tooltip("network:N"), alt.Tooltip("span:N", title="gap"), alt.Tooltip("count:Q", title="images"),
            alt.Tooltip("share:Q", title="share", format=".1%")]  # fmt: skip
    bars = alt.Chart(alt.InlineData(values=values)).mark_rect(color=look.palette.accent, opacity=0.75).encode(
        x=x, x2="high:Q", y=y, y2="top:Q", tooltip=tips
    )  # fmt: skip
    names = [{"network": probe.network, "at": at} for at, (probe, _) in enumerate(drawn)]
    base = alt.Chart(alt.InlineData(values=names))
    ground = base.mark_rule(color=look.palette.line).encode(y=alt.Y("at:Q", axis=None))
    name = base.mark_text(align="right", dx=-2, dy=-_RIDGE + 16, fontSize=12, color=look.palette.ink).encode(
        x=alt.value("width"), y=alt.Y("at:Q", axis=None), text="network:N"
    )
    chart = alt.layer(ground, bars, name, *_thresholds(look)).properties(height=_RIDGE * max(1, len(shown)))
    return dressed(chart, look, "Gap between the two highest logits")


def _thresholds(look: Look) -> list[Any]:
    import altair as alt

    marks = [(ROUNDED, f"{ROUNDED:.1f}: rounded", -6), (ZERO, f"{ZERO:.0f}: all zero", 8)]  # one above the other
    layers: list[Any] = []
    for gap, says, dy in marks:
        base = alt.Chart(alt.InlineData(values=[{"gap": gap, "says": says}])).encode(x=alt.X("gap:Q"))
        text = base.mark_text(align="left", dx=4, dy=dy, color=look.palette.broken, fontSize=11.5)
        rule = base.mark_rule(strokeDash=[4, 3], color=look.palette.broken, strokeWidth=1.2)
        layers += [rule, text.encode(y=alt.value(0), text="says:N")]
    return layers


def _bins(probe: Probe) -> list[dict[str, Any]]:
    total = max(1, probe.n)
    # a bin's height is its share over its width on the axis: areas then are shares, whatever the bins
    return [
        {"low": low, "high": high, "count": count, "share": count / total, "span": f"{low:.3g} to {high:.3g}",
         "density": count / total / (math.log1p(high / _BEND) - math.log1p(low / _BEND))}
        for low, high, count in zip(probe.edges[:-1], probe.edges[1:], probe.counts, strict=True)
        if count
    ]  # fmt: skip


def zeros(probes: Sequence[Probe], look: Look = IN_PAGE) -> Spec:
    """Draw the share of gradients that are exactly zero, a bar in float32 and one in float64 per network."""
    import altair as alt

    rows = [
        {"network": probe.network, "in": kind, "share": share, "says": f"{100 * share:.1f} %", "images": probe.n}
        for probe in probes
        for kind, share in (("float32", probe.zero), ("float64", probe.zero_in_double))
        if share is not None
    ]
    names = list(dict.fromkeys(probe.network for probe in probes))
    palette = look.palette
    y = alt.Y("network:N", sort=names, title=None, axis=alt.Axis(labelLimit=240, grid=False, ticks=False))
    offset = alt.YOffset("in:N", sort=["float32", "float64"], scale=alt.Scale(paddingInner=0.12))
    x = alt.X("share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title=None, tickCount=5))
    color = alt.Color("in:N", scale=alt.Scale(domain=["float32", "float64"], range=[palette.broken, palette.muted]),
                      legend=alt.Legend(title=None, orient="bottom"))  # fmt: skip
    tips = [alt.Tooltip("network:N"), alt.Tooltip("in:N", title="computed in"),
            alt.Tooltip("says:N", title="exactly zero"), alt.Tooltip("images:Q", title="of images")]  # fmt: skip
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y, yOffset=offset)
    bars = base.mark_bar(cornerRadius=2).encode(x=x, color=color, tooltip=tips)
    low = base.transform_filter("datum.share <= 0.85").mark_text(align="left", dx=5, fontSize=11.5, color=palette.ink)
    high = base.transform_filter("datum.share > 0.85").mark_text(
        align="right", dx=-5, fontSize=11.5, color=palette.paper
    )
    chart = alt.layer(bars, low.encode(x=x, text="says:N"), high.encode(x=x, text="says:N"))
    return dressed(chart.properties(height=_ROW * max(1, len(names))), look, "Gradients that are exactly zero")


def largest_eps(rows: Sequence[TemperatureRow]) -> float:
    """Return the largest eps that every row was measured at; 0 where there is none in common."""
    common = set.intersection(*(set(row.fgsm) for row in rows)) if rows else set()
    return max(common, default=0.0)


def temperatures_legend() -> list[dict[str, str]]:
    """Return what the page's own legend lists for the temperatures."""
    return [
        {"label": name, "shape": shape, "place": str(place), "worst": ""} for name, (place, shape) in _SERIES.items()
    ]


def temperatures(rows: Sequence[TemperatureRow], eps: float, look: Look = IN_PAGE) -> Spec:
    """Draw, against the temperature of distillation, both accuracies at `eps` and the share of zero gradients."""
    import altair as alt

    values = [value for row in rows for value in _measures(row, eps)]
    names = list(_SERIES)
    legend = alt.Legend(title=None, orient="bottom") if look.alone else None
    series = [look.palette.series[place - 1] for place, _ in _SERIES.values()]
    color = alt.Color("of:N", legend=legend, scale=alt.Scale(domain=names, range=series))
    shape = alt.Shape("of:N", legend=legend, scale=alt.Scale(domain=names, range=[one[1] for one in _SERIES.values()]))
    at = sorted({row.temperature for row in rows})
    scale = alt.Scale(type="log", domain=[min(at), max(at)], nice=False) if min(at) < max(at) else alt.Scale()
    x = alt.X("temperature:Q", scale=scale, axis=alt.Axis(
        title="temperature of distillation (logarithmic axis)", values=at, format="~g", grid=False))  # fmt: skip
    y = alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title=None, tickCount=5))
    tips = [alt.Tooltip("of:N", title=" "), alt.Tooltip("temperature:Q", title="T"), alt.Tooltip("seed:Q"),
            alt.Tooltip("share:Q", title="share", format=".1%")]  # fmt: skip
    lit = "focus == '' || datum.of == focus"
    fade = alt.condition(lit, alt.value(1), alt.value(0.12))
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x, color=color, opacity=fade)
    mean = base.mark_line(strokeWidth=1.9).encode(y=alt.Y("mean(share):Q"))
    dots = base.mark_point(filled=True, size=52).encode(y=y, shape=shape, tooltip=tips)
    chart = alt.layer(mean, dots).add_params(alt.param(name="focus", value="")).properties(height=260)
    return dressed(chart, look, f"Students by temperature of distillation, eps {eps:g}")


def _measures(row: TemperatureRow, eps: float) -> list[dict[str, Any]]:
    shares = {NAIVE: row.fgsm.get(eps), SCALED: row.at_temperature.get(eps), VANISHED: row.zero}
    return [
        {"temperature": row.temperature, "seed": row.seed, "of": name, "share": share}
        for name, share in shares.items()
        if share is not None
    ]
