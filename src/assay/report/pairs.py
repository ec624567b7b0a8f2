"""A model and its judge side by side: what attacks leave the one, and the other of the images made for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.report.theme import IN_PAGE, Look, Spec, dressed, eps_axes
from assay.statistics import wilson

if TYPE_CHECKING:
    from rich.console import Console

    from assay.evaluation.analysis.pairs import Pair, PairTable

MEANING = (
    "Every image is attacked on the model, white-box where it gives gradients, and the judge is asked about what came "
    "out. Both numbers count the same images, so that their difference is paired."
)
COLUMNS = ("eps", "model", "judge", "difference", "95 % interval", "judge alone", "model alone", "carried", "p")
_MINUS = "\u2212"


def title(table: PairTable) -> str:
    """Return what a table is about."""
    return f"{table.judge} judges {table.model}"


def about(table: PairTable) -> str:
    """Return the images, the kind of change and the attack."""
    n = max((one.n for one in table.pairs), default=0)
    goal = "" if table.goal == "untargeted" else f", {table.goal}"
    return f"{table.data} · {words.plural(n, 'image')} · {words.norm(table.threat.split()[0])}{goal} · {table.attack}"


def texts(table: PairTable) -> list[list[str]]:
    """Return the table as rows of text, the titles first."""
    return [list(COLUMNS), *(_row(one) for one in table.pairs)]


def _row(one: Pair) -> list[str]:
    p = "<.001" if one.p_value < 0.001 else f"{one.p_value:.3f}".removeprefix("0")
    carried = f"{words.count(one.carried)}/{words.count(one.broke)}"
    return [
        words.bare(one.eps_written), words.percent(one.model_accuracy, one.n),
        words.percent(one.judge_accuracy, one.n), points(one), ends(one), words.count(one.only_judge),
        words.count(one.only_model), carried, p,
    ]  # fmt: skip


def points(one: Pair) -> str:
    """Return the difference in percentage points, with its sign."""
    return _signed(one.difference, one.n)


def ends(one: Pair) -> str:
    """Return the interval of the difference, in brackets."""
    return f"[{_signed(one.low, one.n)}, {_signed(one.high, one.n)}]"


def _signed(value: float, n: int) -> str:
    text = words.number(abs(value), n)
    if words.missing(value) or not float(text):
        return text
    return f"{_MINUS if value < 0 else '+'}{text}"


def bound(table: PairTable) -> str:
    """Say what the judge's number is, and is not."""
    if table.question == "as_attacked":
        return f"The very images that {table.attack} makes of each image, whether or not they break the model."
    return (
        "For the judge images go as far as the budget lets them. Its number is an upper bound all the same: they know "
        "nothing of its own answers, and an attack on the judge itself may leave less."
    )


def lines(table: PairTable) -> list[str]:
    """Return what must be known before the numbers are quoted."""
    told = [
        MEANING,
        "Difference: the judge's accuracy minus the model's, in percentage points of all images, with Tango's interval "
        "and the exact McNemar test. Judge alone, model alone: images that only this side still has right. Carried: of "
        "the images that both had right before and that broke the model, those that broke the judge.",
        bound(table),
    ]
    first = table.pairs[0]
    if first.model_right != first.judge_right:
        clean = [words.percent(right / first.n, first.n) for right in (first.model_right, first.judge_right)]
        told.append(
            f"Without an attack the model has {clean[0]} right, the judge {clean[1]}: the difference is not all of the "
            "attack's making."
        )
    return told


def with_notes(tables: Sequence[PairTable]) -> list[tuple[PairTable, list[str]]]:
    """Return tables with what must be known of them, said once, below the last of each model and judge."""
    last = {(table.model, table.judge, table.question): place for place, table in enumerate(tables)}
    return [(table, lines(table) if place in last.values() else []) for place, table in enumerate(tables)]


def terminal(tables: Sequence[PairTable], console: Console) -> None:
    """Print tables, in percent and percentage points."""
    for table, notes in with_notes(tables):
        _print(table, notes, console)


def _print(table: PairTable, notes: Sequence[str], console: Console) -> None:
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print(title(table), style="bold", markup=False, highlight=False)
    console.print(about(table), markup=False, highlight=False)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
    head, *body = texts(table)
    for place, name in enumerate(head):
        drawn.add_column(Text(name), justify="right" if place else "left", no_wrap=place not in (5, 6), min_width=6)
    for row in body:
        drawn.add_row(*(cell.replace("\u00a0%", "") for cell in row))
    console.print(drawn)
    for line in notes:
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False), style="dim")
    console.print()


def plain(table: PairTable) -> dict[str, Any]:
    """Return a table as plain values; accuracies and the difference are fractions, what was not measured is None."""
    return {
        "model": table.model, "judge": table.judge, "data": table.data, "threat": table.threat, "unit": table.unit,
        "question": table.question, "goal": table.goal, "attack": table.attack,
        "cells": {"model": list(table.cells[0]), "judge": list(table.cells[1])},
        "pairs": [
            {
                "eps": one.eps, "n": one.n, "model_right": one.model_right, "judge_right": one.judge_right,
                "model_accuracy": _known(one.model_accuracy), "judge_accuracy": _known(one.judge_accuracy),
                "difference": _known(one.difference), "low": one.low, "high": one.high, "p_value": one.p_value,
                "both": one.both, "only_model": one.only_model, "only_judge": one.only_judge, "broke": one.broke,
                "carried": one.carried,
            }
            for one in table.pairs
        ],
    }  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def csv_rows(tables: Sequence[PairTable]) -> list[Mapping[str, Any]]:
    """Return one mapping per budget of a pair, for the columns of a CSV file."""
    return [
        {
            "model": table.model, "data": table.data, "attack": table.attack, "threat": table.threat, "eps": one.eps,
            "eps_written": one.eps_written, "unit": table.unit, "question": table.question, "goal": table.goal,
            "n": one.n, "judge": table.judge, "model_accuracy": one.model_accuracy,
            "judge_accuracy": one.judge_accuracy, "difference": one.difference, "difference_low": one.low,
            "difference_high": one.high, "only_judge": one.only_judge, "only_model": one.only_model,
            "broke": one.broke, "carried": one.carried, "p_value": one.p_value,
        }
        for table in tables
        for one in table.pairs
    ]  # fmt: skip


def curve(table: PairTable, look: Look = IN_PAGE) -> Spec:
    """Draw both accuracies against eps; the shaded gap is the difference."""
    import altair as alt

    values = _points(table)
    palette = look.palette
    sides = ("model", "judge")
    base = alt.Chart(alt.InlineData(values=[row for row in values if row["side"] == "judge"]))
    budgets = {row["eps"]: row["budget"] for row in values}
    bottom, _, bare = eps_axes(budgets, None, words.norm(table.threat.split()[0]))
    axis = alt.Axis(format="%", title="accuracy", tickCount=5)
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1]), axis=axis)
    color = alt.Color(
        "side:N", scale=alt.Scale(domain=sides, range=[palette.series[0], palette.accent]),
        legend=alt.Legend(title=None, orient="bottom"),
    )  # fmt: skip
    shape = alt.Shape("side:N", scale=alt.Scale(domain=sides, range=["circle", "square"]), legend=None)
    titles = {"name": "which", "budget": "eps", "kept": "accuracy", "gap": "difference"}
    tips = [alt.Tooltip(f"{field}:N", title=text) for field, text in titles.items()]
    both = alt.Chart(alt.InlineData(values=values))
    gap = base.mark_area(opacity=0.16, color=palette.accent).encode(x=bottom, y=y, y2="other:Q")
    whisker = both.mark_rule(strokeWidth=4, opacity=0.25).encode(x=bare, y=alt.Y("low:Q"), y2="high:Q", color=color)
    line = both.mark_line(strokeWidth=2).encode(x=bare, y=y, color=color)
    dots = both.mark_point(filled=True, size=60, opacity=1).encode(x=bare, y=y, color=color, shape=shape, tooltip=tips)
    return dressed(alt.layer(gap, whisker, line, dots).properties(height=260), look, f"{title(table)} · {table.attack}")


def _points(table: PairTable) -> list[dict[str, Any]]:
    """Return both sides at every budget, from no change on, where both lines begin."""
    first = table.pairs[0]
    rows = []
    if all(one.eps > 0 for one in table.pairs):
        gap = _signed((first.judge_right - first.model_right) / first.n, first.n)
        rows += _both(table, first, (0.0, "0", gap), (first.model_right, first.judge_right))
    for one in table.pairs:
        left = (one.both + one.only_model, one.both + one.only_judge)
        rows += _both(table, one, (one.eps, words.bare(one.eps_written), f"{points(one)} {ends(one)}"), left)
    return rows


def _both(table: PairTable, one: Pair, where: tuple[float, str, str], right: tuple[int, int]) -> list[dict[str, Any]]:
    eps, budget, gap = where
    names, ends = (table.model, table.judge), [wilson(count, one.n) for count in right]
    return [
        {
            "side": side, "name": name, "eps": eps, "budget": budget, "gap": gap, "accuracy": count / one.n,
            "low": low, "high": high, "other": right[0] / one.n,
            "kept": f"{words.percent(count / one.n, one.n)} {words.interval(low, high, one.n)}",
        }
        for side, name, count, (low, high) in zip(("model", "judge"), names, right, ends, strict=True)
    ]  # fmt: skip


__all__ = ["COLUMNS", "MEANING", "about", "bound", "csv_rows", "curve", "ends", "lines", "plain", "points", "terminal",
           "texts", "title", "with_notes"]  # fmt: skip
