"""Colours and sizes of the charts: fixed ones for files, the page's own (light and dark) inside the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

_SERIES = 6


@dataclasses.dataclass(frozen=True)
class Palette:
    """Where a chart takes its colours from. The series are told apart by shape as well."""

    ink: str
    muted: str
    line: str
    paper: str
    accent: str
    broken: str
    series: tuple[str, ...]


FILE = Palette(
    "#1b1f24", "#5b6470", "#e2e5e9", "#ffffff", "#1f5fbf", "#c2410c",
    ("#c2680c", "#0f7f68", "#a1478c", "#4a90c9", "#8a6d00", "#5b6470"),
)  # fmt: skip

PAGE = Palette(
    "var(--ink)", "var(--muted)", "var(--line)", "var(--paper)", "var(--accent)", "var(--broken)",
    tuple(f"var(--series-{place})" for place in range(1, _SERIES + 1)),
)  # fmt: skip

SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")


_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_WIDE = 12  # budgets further apart than this factor stand on a square-root axis, or the small ones collapse

Spec = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Look:
    """How a chart is dressed: its colours, its width, and whether it explains itself (title and legend)."""

    palette: Palette
    width: int | str
    alone: bool


IN_PAGE = Look(PAGE, "container", alone=False)
IN_FILE = Look(FILE, 640, alone=True)


def eps_axes(budgets: Mapping[float, str], levels: Mapping[float, str] | None, about: str) -> tuple[Any, Any, Any]:
    """Return three x encodings of the field `eps`: with its axis below, with grey levels above it, and without axis.

    `budgets` and `levels` say what to write at each budget; without `levels` nothing stands above. `about` follows in
    brackets after "eps".
    """
    import altair as alt

    positive = [eps for eps in budgets if eps > 0] or [1.0]
    root = max(positive) > _WIDE * min(positive)
    scale = alt.Scale(type="sqrt" if root else "linear", domain=[0, max(positive)], nice=False)
    title = f"eps ({about}{', square-root axis' if root else ''})"
    common: dict[str, Any] = {
        "values": list(budgets),
        "labelOverlap": "greedy",
        "labelSeparation": 6,
        "labelFlush": False,
    }
    bottom = alt.Axis(orient="bottom", title=title, labelExpr=_lookup(budgets), **common)
    above = None
    if levels is not None:
        above = alt.Axis(orient="top", title="grey levels (of 255)", labelExpr=_lookup(levels), grid=False, **common)
    with_grey, bare = alt.X("eps:Q", scale=scale, axis=above), alt.X("eps:Q", scale=scale, axis=None)
    return alt.X("eps:Q", scale=scale, axis=bottom), with_grey, bare


def _lookup(texts: Mapping[float, str]) -> str:
    """Return a Vega expression that turns a tick's number into its text."""
    table = {f"{value:.6g}": text for value, text in texts.items()}
    return f"{json.dumps(table)}[format(datum.value, '.6~g')] || ''"


def dressed(chart: Any, look: Look, title: str, *, fixed: bool = False) -> Spec:
    """Return an Altair chart as a specification in the given look.

    `fixed` keeps the sizes that the chart has: for pictures and for charts of several parts, which cannot stretch.
    """
    palette = look.palette
    axis = {
        "domain": False, "gridColor": palette.line, "tickColor": palette.line, "labelColor": palette.muted,
        "titleColor": palette.muted, "titleFontWeight": "normal", "titleFontSize": 12.5, "labelFontSize": 12,
        "titlePadding": 10, "labelPadding": 6,
    }  # fmt: skip
    text = {"color": palette.ink, "subtitleColor": palette.muted, "anchor": "start", "fontWeight": 600}
    legend = {
        "labelColor": palette.ink, "titleColor": palette.muted, "titleFontWeight": "normal", "labelFontSize": 12,
        "symbolOpacity": 1, "labelLimit": 260,
    }  # fmt: skip
    if not fixed:
        chart = chart.properties(width=look.width)
    if look.alone and title:
        chart = chart.properties(title=title)
    chart = chart.configure(
        font=_FONT, axis=axis, title=text, legend=legend, view={"stroke": None},
        background="#ffffff" if look.alone else "transparent",
        **({} if fixed else {"autosize": {"type": "fit-x", "contains": "padding"}}),
    )  # fmt: skip
    spec: Spec = chart.to_dict()
    return spec
