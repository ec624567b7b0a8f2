"""Accuracy on corrupted data as people read it: an average case, apart from every number under attack."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.report.theme import IN_PAGE, Look, Spec, dressed

if TYPE_CHECKING:
    from rich.console import Console

    from assay.evaluation.analysis.corruptions import CorruptionResult, CorruptionTable

AVERAGE_CASE = "average case"
MEANING = (
    "Average case: corruptions are drawn without looking at the model. Nothing was attacked, no verdict is given, and "
    "none of these numbers says what an attack leaves."
)
NOT_PUBLISHED = (
    "Corrupted in memory. The published ImageNet-C are JPEG files, on which the same model scores differently: compare "
    "mCE with published ones on an imagenet-c: tree alone."
)
_ROW = 26


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: a corruption or a mean over some, its accuracies with intervals, and what sums them up."""

    name: str
    cells: tuple[str, ...]
    ranges: tuple[str, ...]
    after: tuple[str, ...]
    summary: bool = False


def title(table: CorruptionTable) -> str:
    """Return what a table is about."""
    return f"{table.model} on {table.data}"


def about(table: CorruptionTable) -> str:
    """Return what the accuracies are, of how many images, and the accuracy on the images themselves."""
    n = max((one.n for one in table.results), default=0)
    clean = table.clean
    end = "" if clean is None else f" · clean {_share(clean)} {_range(clean)}"
    return f"corruption accuracy, {AVERAGE_CASE} · {table.corruptions.name} · {words.plural(n, 'image')}{end}"


def columns(table: CorruptionTable) -> tuple[str, ...]:
    """Return the titles of the columns: one per severity, CE only where there is one."""
    if _is_flat(table):
        return ("corruption", "severity", "accuracy")
    levels = tuple(f"severity {level}" for level in table.severities)
    return ("corruption", *levels, "mean", *(("CE", "relative CE") if has_errors(table) else ()))


def _is_flat(table: CorruptionTable) -> bool:
    # each corruption at one severity of its own, as in MNIST-C's files
    return len(table.severities) > 1 and len(table.results) == len(table.kinds)


def has_errors(table: CorruptionTable) -> bool:
    """Whether any corruption has a corruption error."""
    return any(not math.isnan(table.error(kind)) for kind in table.kinds)


def rows(table: CorruptionTable) -> list[Row]:
    """Return the lines of a table: the standard corruptions and their mean, then those that validate."""
    made = [_row(table, kind) for kind in table.standard]
    if len(table.standard) > 1:
        made.append(_mean_row(table, mean_name(table), table.standard, errors=True))
    made += [_row(table, kind) for kind in table.validation]
    if len(table.validation) > 1:
        made.append(_mean_row(table, "mean of validation", table.validation, errors=False))
    return made


def mean(table: CorruptionTable) -> str:
    """Return the mean accuracy over the standard corruptions."""
    return words.percent(table.mean(table.standard), max((one.n for one in table.results), default=0))


def mean_name(table: CorruptionTable) -> str:
    """Return what the mean over the standard corruptions is called: of how many, where some are missing."""
    there, whole = len(table.standard), len(table.corruptions.standard)
    return f"mean of {there}" if there == whole else f"mean of {there} of the {whole}"


def _row(table: CorruptionTable, kind: str) -> Row:
    if _is_flat(table):
        (one,) = (one for one in table.results if one.corruption == kind)
        return Row(kind, (str(one.severity), _share(one)), ("", _range(one)), ())
    found = [table.at(kind, level) for level in table.severities]
    cells = tuple("" if one is None else _share(one) for one in found)
    ranges = tuple("" if one is None else _range(one) for one in found)
    n = max(one.n for one in found if one is not None)
    errors = tuple(_error(value) for value in (table.error(kind), table.relative_error(kind)))
    return Row(kind, cells, ranges, (words.percent(table.of(kind), n), *(errors if has_errors(table) else ())))


def _mean_row(table: CorruptionTable, name: str, kinds: Sequence[str], *, errors: bool) -> Row:
    n = max(one.n for one in table.results)
    mean = words.percent(table.mean(kinds), n)
    if _is_flat(table):
        return Row(name, ("", mean), ("", ""), (), summary=True)
    shares = []
    for level in table.severities:
        there = [one.accuracy for kind in kinds if (one := table.at(kind, level)) is not None]
        # where some corruptions lack a severity its mean is of others than beside it
        shares.append(words.percent(sum(there) / len(there), n) if len(there) == len(kinds) else "")
    known = errors and not math.isnan(table.mean_error)
    told = (f"mCE {_error(table.mean_error)}", _error(table.relative_mean_error)) if known else ("", "")
    return Row(name, tuple(shares), ("",) * len(shares), (mean, *(told if has_errors(table) else ())), summary=True)


def _share(one: CorruptionResult) -> str:
    return words.percent(one.accuracy, one.n)


def _range(one: CorruptionResult) -> str:
    return words.interval(one.low, one.high, 1)


def _error(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def lines(table: CorruptionTable) -> list[str]:
    """Return what must be known before the numbers are quoted."""
    told = [MEANING]
    if has_errors(table):
        told.append(
            "CE is the error over AlexNet's published one, by corruption, times 100; mCE its mean over all fifteen; "
            "relative CE counts the errors beyond those on clean images."
        )
        if not table.data.startswith("imagenet-c:"):
            told.append(NOT_PUBLISHED)
    errors = max((one.errors for one in table.results), default=0)
    if errors:
        told.append(f"{words.plural(errors, 'image')} could not be evaluated: in none of these numbers.")
    return told


def texts(table: CorruptionTable) -> list[list[str]]:
    """Return the table as rows of text, the titles first; each accuracy with its interval behind it."""
    made = [list(columns(table))]
    for row in rows(table):
        cells = [f"{cell} {ends}".strip() for cell, ends in zip(row.cells, row.ranges, strict=True)]
        made.append([row.name, *cells, *row.after])
    return made


def terminal(table: CorruptionTable, console: Console) -> None:
    """Print a table, in percent; below each accuracy its interval."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print(f"{table.model} · {table.data}", style="bold", markup=False, highlight=False)
    console.print(about(table), markup=False, highlight=False)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
    for place, name in enumerate(columns(table)):
        drawn.add_column(Text(name.replace("severity ", "sev. ")), justify="right" if place else "left", no_wrap=True,
                         min_width=9 if place else 1)  # fmt: skip
    for row in rows(table):
        cells = [cell.replace("\u00a0%", "") for cell in (*row.cells, *row.after)]
        drawn.add_row(row.name, *cells, style="bold" if row.summary else "")
        if any(row.ranges):
            drawn.add_row("", *(one.strip("[]") for one in row.ranges), style="dim")
    console.print(drawn)
    for line in lines(table):
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False), style="dim")
    console.print()


def plain(table: CorruptionTable) -> dict[str, Any]:
    """Return a table as plain values; accuracies are fractions, what there is not is None."""
    return {
        "model": table.model, "data": table.data, "set": table.corruptions.name, "measure": AVERAGE_CASE,
        "clean": None if table.clean is None else _plain_result(table.clean),
        "results": [_plain_result(one) for one in table.results],
        "mean_accuracy": _known(table.mean(table.standard)), "mean_over": list(table.standard),
        "validation_mean_accuracy": _known(table.mean(table.validation)), "validation_over": list(table.validation),
        "ce": _by_kind(table.standard, table.error),
        "mce": _known(table.mean_error),
        "relative_ce": _by_kind(table.standard, table.relative_error),
        "relative_mce": _known(table.relative_mean_error),
    }  # fmt: skip


def _plain_result(one: CorruptionResult) -> dict[str, Any]:
    return {
        "cell": one.cell, "corruption": one.corruption or None, "severity": one.severity, "n": one.n,
        "accuracy": _known(one.accuracy), "low": one.low, "high": one.high, "errors": one.errors,
    }  # fmt: skip


def _by_kind(kinds: Sequence[str], value: Callable[[str], float]) -> dict[str, float]:
    return {kind: found for kind in kinds if math.isfinite(found := value(kind))}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def csv_rows(tables: Sequence[CorruptionTable]) -> list[Mapping[str, Any]]:
    """Return one mapping per result, for the columns of a CSV file."""
    return [
        {
            "cell": one.cell, "model": one.model, "data": one.data, "n": one.n, "errors": one.errors,
            "corruption": one.corruption or "none", "severity": one.severity, "corruption_accuracy": one.accuracy,
            "corruption_low": one.low, "corruption_high": one.high, "measure": AVERAGE_CASE,
        }
        for table in tables
        for one in (*([table.clean] if table.clean else ()), *table.results)
    ]  # fmt: skip


def heat_map(table: CorruptionTable, look: Look = IN_PAGE) -> Spec:
    """Draw the accuracy of every corruption at every severity; the fuller a field, the higher."""
    import altair as alt

    values = [
        {
            "corruption": one.corruption, "severity": str(one.severity), "accuracy": one.accuracy,
            "told": words.number(one.accuracy, 1), "kept": f"{_share(one)} {_range(one)}",
            "counts": f"{words.count(one.accuracy * one.n)} of {words.count(one.n)} right, {AVERAGE_CASE}",
        }
        for one in table.results
        if one.n
    ]  # fmt: skip
    palette = look.palette
    base = alt.Chart(alt.InlineData(values=values))
    x = alt.X("severity:N", title="severity", sort=None, axis=alt.Axis(labelAngle=0, orient="top"))
    y = alt.Y("corruption:N", title=None, sort=list(table.kinds), axis=alt.Axis(labelLimit=150))
    shown = {"corruption": "corruption", "severity": "severity", "kept": "accuracy", "counts": "images"}
    tips = [alt.Tooltip(f"{field}:N", title=name) for field, name in shown.items()]
    opacity = alt.Opacity("accuracy:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.05, 1]))
    fields = base.mark_rect(cornerRadius=2, color=palette.accent).encode(x=x, y=y, opacity=opacity, tooltip=tips)
    ink = alt.condition("datum.accuracy > 0.55", alt.value(palette.paper), alt.value(palette.ink))
    told = base.mark_text(fontSize=11.5).encode(x=x, y=y, text="told:N", color=ink, tooltip=tips)
    chart = alt.layer(fields, told).properties(height=_ROW * len(table.kinds))
    return dressed(chart, look, f"{title(table)} · corruption accuracy in %, {AVERAGE_CASE}")
