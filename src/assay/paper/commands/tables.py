"""The paper's tables in a terminal: what was printed, what was measured, and the difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from assay.console.output import out, write

if TYPE_CHECKING:
    from rich.table import Table

    from assay.paper.tables import Row, TableView

Values = Sequence[float | None]


def print_view(view: TableView) -> None:
    """Print a table to standard output, with its sentences below."""
    from rich.table import Table
    from rich.text import Text

    console = out()
    title = f"Table {view.number}  {view.title}" + (f", {_UNITS[view.unit]}" if _is_plain(view) else "")
    console.print(Text(title, style="bold"))
    if view.stand_in:
        console.print(Text("Stand-in: not comparable with the paper.", style="yellow"))
    across = _across(view)
    # measured as if there were room, or the answer would be the width that there is
    wide = console.measure(across, options=console.options.update(max_width=10 * console.width)).maximum
    if not _is_plain(view) or wide <= console.width:
        console.print(across)
    else:
        for row in view.rows:
            console.print(Text(row.name, style="italic"))
            console.print(_down(view, row))
    below = Table.grid(padding=(0, 1, 0, 0))
    for sentence in [*view.sentences, *view.notes, *([view.missing] if view.missing else [])]:
        below.add_row(Text("·"), Text(sentence))
    console.print(below)
    write("")


_UNITS = {"percent": "%", "fraction": "share of images"}
_WORDS = {"as_published": "as published", "corrected": "corrected"}


def _is_plain(view: TableView) -> bool:
    return not any(row.labels for row in view.rows)


def _across(view: TableView) -> Table:
    """Return the table as it is printed: a column for each of its columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("", no_wrap=_is_plain(view))
    table.add_column(Text(view.axis, style="dim"), no_wrap=True)
    for column in view.columns:
        table.add_column(column, justify="right" if _is_plain(view) else "left", no_wrap=_is_plain(view))
    for row in view.rows:
        for i, (what, cells) in enumerate(_lines(view, row)):
            style = "dim" if what == "difference" else ""
            table.add_row(Text(row.name if i == 0 else ""), Text(what), *(Text(cell) for cell in cells), style=style)
        table.add_section()
    return table


def _down(view: TableView, row: Row) -> Table:
    """Return one row of the table turned on its side, for narrow terminals."""
    from rich import box
    from rich.table import Table

    lines = list(_lines(view, row))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(view.axis, style="dim")
    for words, _ in lines:
        table.add_column(words, justify="right")
    for at, column in enumerate(view.columns):
        table.add_row(column, *(cells[at] for _, cells in lines))
    return table


def _lines(view: TableView, row: Row) -> Iterator[tuple[str, list[str]]]:
    """Yield the lines of a row: printed, and for each mode what was measured and how far it is from printed."""
    printed = any(value is not None for value in row.printed)
    if printed:
        yield "printed", _written(view, row.printed, row.labels.get("printed", ()))
    for words, mode in _modes(view, row):
        values = row.measured[mode]
        yield words, _written(view, values, row.labels.get(mode, ()))
        if printed and not row.labels and not view.stand_in:
            yield "difference", [_difference(view, *pair) for pair in zip(row.printed, values, strict=False)]


def _modes(view: TableView, row: Row) -> list[tuple[str, str]]:
    """Return what was measured, in words and by mode; one run of both modes is told once."""
    if len(view.runs) > 1 and len(set(view.runs.values())) == 1:
        return [("measured", mode) for mode in list(row.measured)[:1]]
    return [(_WORDS[mode], mode) for mode in row.measured]


def _written(view: TableView, values: Values, labels: Sequence[str]) -> list[str]:
    if labels:
        shares = [_share(value) for value in values]
        return [f"{label} {share}" for label, share in zip(labels, shares, strict=False)]
    return ["" if value is None else _number(view, value) for value in values]


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}\u00a0%"


def _number(view: TableView, value: float) -> str:
    return f"{value:.2f}" if view.unit == "percent" else f"{value:.4f}".removeprefix("0")


def _difference(view: TableView, printed: float | None, measured: float | None) -> str:
    if printed is None or measured is None:
        return ""
    difference = measured - printed
    return f"{difference:+.2f}" if view.unit == "percent" else f"{difference:+.4f}".replace("0.", ".", 1)
