"""Charts of gradient masking: gaps of logits, gradients that are exactly zero, and what the temperature does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.audit.gradients import ROUNDED, ZERO
from assay.paper.inputs import Probe, TemperatureRow
from assay.report.look import IN_PAGE, Look, Spec, dressed

_ROW, _RIDGE = 42, 76
_GAP_TITLE = "gap between the two highest logits (logarithmic axis)"
_FILLED = 0.86  # of its row that the tallest bar of a histogram fills
NAIVE, SCALED, VANISHED = "FGSM", "FGSM at the temperature of training", "gradients exactly zero"
_SERIES = {NAIVE: (1, "circle"), SCALED: (2, "square"), VANISHED: (6, "triangle-up")}


def gaps(probes: Sequence[Probe], look: Look = IN_PAGE) -> Spec:
    """Draw how many images have which gap between their two highest logits: a histogram per network, one axis.

    The axis is logarithmic; vertical rules stand where float32 begins to round the gradient, and where none is left.
    """
    import altair as alt

    shown = [probe for probe in probes if any(probe.counts)]
    tallest = max((max(probe.counts) / max(1, probe.n) for probe in shown), default=1.0)
    rows = [row for at, probe in enumerate(reversed(shown)) for row in _bins(probe, at, tallest)]
    ends = [edge for probe in shown for edge in probe.edges if edge > 0] or [1.0, 1000.0]
    x = alt.X("low:Q", scale=alt.Scale(type="log", domain=[min(ends), max(ends)], nice=False),
              axis=alt.Axis(title=_GAP_TITLE, grid=False, tickCount=6))  # fmt: skip
    y = alt.Y("bottom:Q", axis=None, scale=alt.Scale(domain=[0, max(1, len(shown))], nice=False))
    tips = [alt.Tooltip("network:N"), alt.Tooltip("span:N", title="gap"), alt.Tooltip("count:Q", title="images"),
            alt.Tooltip("share:Q", title="share", format=".1%")]  # fmt: skip
    bars = alt.Chart(alt.InlineData(values=rows)).mark_rect(color=look.palette.accent, opacity=0.75).encode(
        x=x, x2="high:Q", y=y, y2="top:Q", tooltip=tips
    )  # fmt: skip
    names = [{"network": probe.network, "at": at} for at, probe in enumerate(reversed(shown))]
    base = alt.Chart(alt.InlineData(values=names))
    ground = base.mark_rule(color=look.palette.line).encode(y=alt.Y("at:Q", axis=None))
    name = base.mark_text(align="left", dx=2, dy=-10, fontSize=12, color=look.palette.ink).encode(
        x=alt.value(0), y=alt.Y("at:Q", axis=None), text="network:N"
    )
    marks = alt.Chart(alt.InlineData(values=[
        {"gap": ROUNDED, "says": f"{ROUNDED:.1f}: rounded"}, {"gap": ZERO, "says": f"{ZERO:.0f}: all zero"}
    ]))  # fmt: skip
    rule = marks.mark_rule(strokeDash=[4, 3], color=look.palette.broken, strokeWidth=1.2).encode(x=alt.X("gap:Q"))
    text = marks.mark_text(align="left", dx=4, dy=-6, color=look.palette.broken, fontSize=11.5).encode(
        x=alt.X("gap:Q"), y=alt.value(0), text="says:N"
    )
    chart = alt.layer(ground, bars, name, rule, text).properties(height=_RIDGE * max(1, len(shown)))
    return dressed(chart, look, "Gap between the two highest logits")


def _bins(probe: Probe, at: int, tallest: float) -> list[dict[str, Any]]:
    total = max(1, probe.n)
    # a logarithmic axis has no zero
    return [
        {"network": probe.network, "low": low, "high": high, "count": count, "share": count / total,
         "bottom": at, "top": at + _FILLED * count / total / tallest, "span": f"{low:.3g} to {high:.3g}"}
        for low, high, count in zip(probe.edges[:-1], probe.edges[1:], probe.counts, strict=True)
        if low > 0 and count
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
    y = alt.Y("network:N", sort=names, title=None, axis=alt.Axis(labelLimit=190, grid=False, ticks=False))
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
