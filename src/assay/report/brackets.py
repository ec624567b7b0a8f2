"""What is certified and what attacks left, side by side: certified <= truth <= robust."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.report.theme import IN_PAGE, Look, Spec, dressed

if TYPE_CHECKING:
    from rich.console import Console

    from assay.evaluation.analysis.brackets import Bracket, BracketTable

MEANING = "certified ≤ truth ≤ robust: a certificate bounds from below, attacks bound from above."
COLUMNS = ("eps", "certified", "at least", "robust", "at most", "open")


def title(table: BracketTable) -> str:
    """Return what a table is about."""
    return f"{table.model} on {table.data}"


def about(table: BracketTable) -> str:
    """Return how many images there are, the kind of change, and what certifies and attacks them."""
    n = max((one.n for one in table.brackets), default=0)
    by = ", ".join(table.certificates)
    tried = f", attacked by {', '.join(table.attacks)}" if table.attacks else ", not attacked"
    return f"{words.plural(n, 'image')} · {words.norm(table.threat.split()[0])} · certified by {by}{tried}"


def texts(table: BracketTable) -> list[list[str]]:
    """Return the table as rows of text, the titles first."""
    return [list(COLUMNS), *(_row(one) for one in table.brackets)]


def _row(one: Bracket) -> list[str]:
    certified = [words.bare(one.eps_written), words.percent(one.certified_accuracy, one.n), words.percent(one.low, 100)]
    if one.survived is None:
        return [*certified, words.EM_DASH, words.EM_DASH, words.EM_DASH]
    left = [words.percent(one.robust_accuracy, one.n), words.percent(one.high, 100)]
    return [*certified, *left, words.count(one.open or 0)]


def lines(table: BracketTable) -> list[str]:
    """Return what must be known before the numbers are quoted."""
    told = [
        f"{MEANING} Open: images that are neither proved nor broken. At least, at most: the ends of the interval for "
        "the whole population, in 95 of 100 cases.",
        "Certified means: right, and no change of this kind and size makes the answer another one, for this model in "
        "this precision and these images; nothing about other norms, other data, or parts of the model.",
    ]
    if table.attacks and table.wording != words.measure("gradient", None):
        told.append(
            f"Robust is here what was {table.wording}: the model can only be asked, and attacks with gradients may "
            "leave far less."
        )
    if table.alpha:
        told.append(
            f"Each statement about an image is false with a probability of at most {table.alpha:g}: the certificate is "
            "statistical."
        )
    if table.contradictions:
        told.append(
            f"{words.plural(len(table.contradictions), 'image')} certified and broken: of statistical statements so "
            "many may be false by chance."
        )
    return told


def terminal(table: BracketTable, console: Console) -> None:
    """Print a table."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print(f"{title(table)} · certified and robust", style="bold", markup=False, highlight=False)
    console.print(about(table), markup=False, highlight=False)
    head, *body = texts(table)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for place, name in enumerate(head):
        drawn.add_column(Text(name), justify="right" if place else "left", no_wrap=True, min_width=8)
    for row in body:
        drawn.add_row(*(cell.replace("\u00a0%", "") for cell in row))
    console.print(drawn)
    for line in lines(table):
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False), style="dim")
    console.print()


def plain(table: BracketTable) -> dict[str, Any]:
    """Return a table as plain values; accuracies are fractions, what was not measured is None."""
    return {
        "model": table.model, "data": table.data, "threat": table.threat, "unit": table.unit,
        "certificates": list(table.certificates), "attacks": list(table.attacks), "alpha": table.alpha,
        "brackets": [
            {
                "eps": one.eps, "n": one.n, "certified": one.certified,
                "certified_accuracy": _known(one.certified_accuracy), "certified_low": one.low,
                "survived": one.survived, "robust_accuracy": _known(one.robust_accuracy), "robust_high": one.high,
                "open": one.open, "contradictions": [each.sample for each in one.contradictions],
            }
            for one in table.brackets
        ],
    }  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def csv_rows(tables: Sequence[BracketTable]) -> list[Mapping[str, Any]]:
    """Return one mapping per budget of what was certified, for the columns of a CSV file."""
    return [
        {
            "model": table.model, "data": table.data, "threat": table.threat, "eps": one.eps,
            "eps_written": one.eps_written, "unit": table.unit, "n": one.n,
            "certificate": "; ".join(table.certificates),
            "certified": one.certified, "certified_accuracy": one.certified_accuracy, "certified_low": one.low,
            "bracket_high": one.high, "open": one.open,
        }
        for table in tables
        for one in table.brackets
    ]  # fmt: skip


def curve(table: BracketTable, look: Look = IN_PAGE) -> Spec:
    """Draw both bounds against eps; the shaded gap is what is not known."""
    import altair as alt

    values = [
        {
            "eps": one.eps, "certified": one.certified_accuracy,
            "robust": one.robust_accuracy if one.survived is not None else 1.0,
            "low": one.low, "high": one.high, "budget": words.bare(one.eps_written),
            "proved": words.percent(one.certified_accuracy, one.n),
            "left": words.percent(one.robust_accuracy, one.n) if one.survived is not None else "not attacked",
            "gap": words.plural(one.open, "image") if one.open is not None else words.EM_DASH,
        }
        for one in table.brackets
        if one.n
    ]  # fmt: skip
    palette = look.palette
    base = alt.Chart(alt.InlineData(values=values))
    x = alt.X("eps:Q", title="eps", scale=alt.Scale(zero=True))
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="%", title="accuracy", tickCount=5)
    tips = [
        alt.Tooltip(f"{field}:N", title=name)
        for field, name in {"budget": "eps", "proved": "certified", "left": "robust", "gap": "open"}.items()
    ]
    lower = alt.Y("certified:Q", scale=scale, axis=axis)
    upper = alt.Y("robust:Q", scale=scale, axis=axis)
    gap = base.mark_area(opacity=0.18, color=palette.accent, line=False).encode(x=x, y=lower, y2="robust:Q")
    lone = base.mark_rule(opacity=0.35, strokeWidth=9, color=palette.accent).encode(x=x, y=lower, y2="robust:Q")
    drawn = [gap if len(values) > 1 else lone]
    for y, shape in ((lower, "triangle-up"), (upper, "circle")):
        drawn.append(base.mark_line(strokeWidth=2, color=palette.accent).encode(x=x, y=y))
        drawn.append(base.mark_point(filled=True, size=70, shape=shape, opacity=1, color=palette.accent).encode(
            x=x, y=y, tooltip=tips))  # fmt: skip
    whole = alt.layer(*drawn).properties(height=260)
    return dressed(whole, look, f"{title(table)} · certified and robust accuracy")


__all__ = ["COLUMNS", "MEANING", "about", "csv_rows", "curve", "lines", "plain", "terminal", "texts", "title"]
