"""The page of the extension "defenses": what a naive attack leaves of each defence, and one that knows it."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from assay import __version__
from assay import wording as words
from assay.paper.angles import ANGLES, Number, Row, budgets, rows
from assay.report.html import Chart, chart, environment, sealed
from assay.report.theme import IN_PAGE, Look, Spec, dressed
from assay.report.verdicts import LEGEND, MARKS

if TYPE_CHECKING:
    from assay.evaluation.run import Run

TEMPLATES = Path(__file__).parent / "templates"
_ROW = 26
NORMS = {"linf": "L\N{INFINITY}", "l2": "L₂", "l1": "L₁"}


@dataclasses.dataclass(frozen=True)
class Part:
    """All defences at one budget, with their chart."""

    name: str
    title: str
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    chart: Chart


def page(run: Run, path: Path) -> Path:
    """Write the page of a run to `path`; it works from `file://`, without a network."""
    with ThreadPoolExecutor(1) as beside:
        bundled = beside.submit(sealed, (TEMPLATES / "paper.css").read_text("utf-8"))
        found = rows(run)
        parts = [_part(found, norm, eps) for norm, eps in budgets(found)]
        html = environment(TEMPLATES).get_template("angles.html").render(
            parts=parts, head=headline(found), run=run, mark=MARKS, legend=LEGEND, version=__version__, number=number,
            charts=[part.chart for part in parts], sealed=bundled.result(),
        )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")
    return path


def headline(found: list[Row]) -> tuple[str, str, str]:
    """Return the sentence around the number that matters: the largest step from a naive to an adaptive number."""
    measured = [(row.gap, row) for row in found if row.gap is not None and "|" in row.model]
    if not measured:
        return "Nothing has been measured yet.", "", ""
    gap, row = max(measured, key=lambda one: one[0])
    assert row.naive is not None and row.adaptive is not None, "a gap has both"
    where = f"{NORMS.get(row.norm, row.norm)} {row.eps_written}"
    if gap <= 0:
        return "No attack that knows its defence did better than one that does not.", "", ""
    return (
        f"Against images made on the undefended network, {row.defense} keeps {percent(row.naive)} at {where}; against "
        "an attack that knows it",
        percent(row.adaptive), ".",
    )  # fmt: skip


def number(one: Number | None) -> str:
    """Return a number as a table tells it."""
    return words.EM_DASH if one is None else f"{percent(one)} {words.interval(one.low, one.high, one.n)}"


def percent(one: Number) -> str:
    """Return a number without its interval."""
    return words.percent(one.share, one.n)


def _part(found: list[Row], norm: str, eps: str) -> Part:
    mine = [row for row in found if (row.norm, row.eps_written) == (norm, eps)]
    groups = tuple((angle, tuple(row for row in mine if row.angle == angle)) for angle in ANGLES)
    title = f"{NORMS.get(norm, norm)}, eps {eps}"
    name = f"angles-{norm}-{eps}".replace(".", "-").replace("/", "-")
    drawn = chart(name, title, dumbbells(mine))
    return Part(name, title, tuple((angle, part) for angle, part in groups if part), drawn)


def dumbbells(mine: list[Row], look: Look = IN_PAGE) -> Spec:
    """Draw a line per defence: clean (a tick), naive (hollow) and adaptive (filled) accuracy."""
    import altair as alt

    values = [
        {"defense": row.defense, "angle": row.angle, "of": of, "share": one.share, "low": one.low, "high": one.high,
         "says": number(one)}
        for row in mine
        for of, one in (("clean", row.clean), ("naive attack", row.naive), ("adaptive attack", row.adaptive))
        if one is not None
    ]  # fmt: skip
    spans = [
        {"defense": row.defense, "naive": row.naive.share, "adaptive": row.adaptive.share}
        for row in mine
        if row.naive is not None and row.adaptive is not None
    ]
    order = [row.defense for row in mine]
    palette = look.palette
    y = alt.Y("defense:N", sort=order, title=None, axis=alt.Axis(labelLimit=230, grid=False, ticks=False))
    scale = alt.Scale(domain=[0, 1])
    x = alt.X("share:Q", scale=scale, axis=alt.Axis(format="%", title="accuracy", orient="top", tickCount=5))
    tips = [alt.Tooltip("defense:N"), alt.Tooltip("of:N", title=" "), alt.Tooltip("says:N", title="accuracy")]
    rule = alt.Chart(alt.InlineData(values=spans)).mark_rule(strokeWidth=2, color=palette.line).encode(
        y=y, x=alt.X("adaptive:Q", scale=scale), x2="naive:Q"
    )  # fmt: skip
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x, y=y, tooltip=tips)
    clean = base.transform_filter("datum.of == 'clean'").mark_tick(color=palette.muted, thickness=2, height=12)
    naive = base.transform_filter("datum.of == 'naive attack'").mark_point(
        filled=False, size=80, strokeWidth=1.6, color=palette.muted, opacity=1
    )
    known = base.transform_filter("datum.of == 'adaptive attack'")
    spread = known.mark_rule(strokeWidth=5, opacity=0.25, color=palette.broken).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q", tooltip=tips
    )
    adaptive = known.mark_point(filled=True, size=95, color=palette.broken, opacity=1)
    chart = alt.layer(rule, spread, clean, naive, adaptive).properties(height=_ROW * max(1, len(order)))
    return dressed(chart, look, "What a naive attack leaves, and one that knows the defence")
