"""The numbers as a table in the terminal: budgets as columns where they fit, else as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.report import words
from assay.report.effort import after_stages
from assay.report.headline import telling
from assay.report.view import NORMALIZED, WORST, Group, Line, groups

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from assay.evaluate.effort import Stage
    from assay.evaluate.run_directory import Run
    from assay.evaluate.score import Result

_LABEL = 18
_GREY = "grey levels"


def terminal(run: Run, console: Console) -> None:
    """Print the run's numbers, grouped by model and data set, with what a reader must know before quoting them."""
    from rich.padding import Padding

    found = groups(run)
    stages = run.stages()
    for group in found:
        _heading(console, group)
        console.print(_table(group, console.width))
        for note in notes(group, stages):
            console.print(Padding(_plain(note), (0, 0, 0, 2), expand=False), style="dim")
        console.print()
    for reason in run.manifest.get("not_reportable_because", []):
        console.print(f"Not reportable: {reason}", style="yellow", markup=False, highlight=False)
    if not found:
        console.print("No results yet.", style="dim")


def notes(group: Group, stages: list[Stage]) -> list[str]:
    """Return what must be known before a group's numbers are quoted, and what each stage of its attacks left."""
    single = [line.label for line in group.lines if line.note]
    written = []
    if single:
        written.append(f"{', '.join(single)}: {words.ONE_ATTACK}")
    if group.worst:
        written.append(f"{WORST}: image by image, over {', '.join(group.merged)}")
    budget = telling(group)
    for line in group.lines:
        told = after_stages(stages, line, budget[-1].eps) if budget else ""
        if told:
            written.append(f"{line.label} at {words.bare(budget[-1].eps_written)}, after each stage: {told}")
    errors = max(line.results[0].errors for line in group.lines)
    if errors:
        written.append(f"{words.plural(errors, 'image')} could not be judged: in none of these numbers")
    tried = "; ".join(f"{line.label} {line.passes}" for line in group.lines)
    written.append(f"forward + backward passes per image, all budgets: {tried}")
    return written


def _heading(console: Console, group: Group) -> None:
    clean = words.percent(group.first.clean_accuracy, group.n, " ")
    ends = words.interval(group.first.clean_low, group.first.clean_high, group.n)
    console.print(f"{group.model} · {group.data}", style="bold", markup=False, highlight=False)
    facts = f"{words.plural(group.n, 'image')} · {group.kind} · clean {clean} {ends}"
    console.print(facts, markup=False, highlight=False)


def _table(group: Group, width: int) -> Table:
    across = _across(group)
    widths = [max(len(row[column]) for row in across) for column in range(len(across[0]))]
    if sum(widths) + len(widths) - 1 > width:
        return _down(group)
    even = max(widths[1:])
    roomy = widths[0] + (even + 2) * (len(widths) - 1) <= width
    table = _new_table()
    for column, title in enumerate(across[0]):
        least = even + 1 if roomy and column else 1
        table.add_column(_plain(title), justify="right" if column else "left", no_wrap=True, min_width=least)
    for place, row in enumerate(across[1:]):
        number = row[0] != "" and row[0] != _GREY
        bold = group.worst is not None and place >= len(across) - 3
        table.add_row(*map(_plain, row), style="dim" if not number else "bold" if bold else "")
    return table


def _across(group: Group) -> list[list[str]]:
    """Return rows with a column per budget: the title, grey levels, then each line's accuracies and intervals."""
    budgets = [result for result in group.budgets if result.eps > 0] or list(group.budgets)
    rows = [[_eps_title(group), *(words.bare(budget.eps_written) for budget in budgets)]]
    if group.norm == "linf":
        rows.append([_GREY, *(words.grey(budget.grey_levels) for budget in budgets)])
    for line in group.shown:
        cells = [line.at(budget.eps) for budget in budgets]
        rows.append([words.short(line.label, _LABEL), *map(_accuracy, cells)])
        rows.append(["", *map(_range, cells)])
    return rows


def _new_table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text)


def _down(group: Group) -> Table:
    """Return a table with a row per attack and budget."""
    table = _new_table()
    table.add_column("attack", overflow="fold", max_width=22)
    for title in (_eps_title(group), "grey", "accuracy %", "success %", "passes"):
        table.add_column(f" {title}", justify="right", no_wrap=True)
    for line in group.shown:
        for place, result in enumerate(line.results):
            kept = f"{_accuracy(result)} {words.interval(result.robust_low, result.robust_high, result.n)}"
            table.add_row(
                _plain(line.label if place == 0 else ""), words.bare(result.eps_written),
                words.grey(result.grey_levels) if group.norm == "linf" else words.EM_DASH,
                kept, words.number(result.attack_success, result.n), passes(line, result),
                style="bold" if line.worst else "", end_section=result is line.results[-1],
            )  # fmt: skip
    return table


def _eps_title(group: Group) -> str:
    return "eps, normalised" if group.unit == NORMALIZED else "eps"


def _accuracy(result: Result | None) -> str:
    return "" if result is None else words.number(result.robust_accuracy, result.n)


def _range(result: Result | None) -> str:
    return "" if result is None else words.interval(result.robust_low, result.robust_high, 1).strip("[]")


def passes(line: Line, result: Result) -> str:
    """Return forward and backward passes per image of one result; nothing for the worst case, which made none."""
    if line.worst or not result.n:
        return ""
    return f"{result.forwards / result.n:.3g} + {result.backwards / result.n:.3g}"
