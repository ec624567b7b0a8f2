"""The numbers as a table in the terminal: budgets as columns where they fit, else as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay import wording as words
from assay.evaluation.asked import asked_lines
from assay.evaluation.records.verdicts import REFUTED
from assay.report import brackets, corruptions, pairs, verdicts
from assay.report.effort import after_stages
from assay.report.groups import NORMALIZED, NOT_ADAPTIVE, WORST, Group, Line, groups
from assay.report.headline import telling

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from assay.evaluation.analysis.query_curves import Stage
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.run import Run

_LABEL = 18
_GREY = "grey levels"
_VERDICT = "verdict"
_STRICT, _TPR, _SR = "strict", "TPR at 5 % FPR", "SR at 5 % FPR"
_BESIDE = (
    "",
    _GREY,
    _VERDICT,
    verdicts.AS_FIRST,
    NOT_ADAPTIVE,
    _STRICT,
    _TPR,
    _SR,
)  # rows that say more about the number above them


def terminal(run: Run, console: Console) -> None:
    """Print the run's numbers, grouped by model and data set, with what a reader must know before quoting them."""
    from rich.padding import Padding

    found = groups(run)
    stages = run.stages()
    for group in found:
        _heading(console, group)
        console.print(_table(group, console.width))
        for note in [*notes(group, stages), *verdicts.lines(group)]:
            console.print(Padding(_plain(note), (0, 0, 0, 2), expand=False), style="dim")
        console.print()
    bounded = run.brackets()
    for bracket in bounded:
        brackets.terminal(bracket, console)
    pairs.terminal(run.pairs(), console)
    corrupted = run.corruptions()
    for table in corrupted:
        corruptions.terminal(table, console)
    for model, counts in asked_lines(run.endpoints()):
        console.print(f"Endpoint {model}: {counts}", style="dim", markup=False, highlight=False, soft_wrap=True)
    for reason in run.manifest.get("not_reportable_because", []):
        console.print(f"Not reportable: {reason}", style="yellow", markup=False, highlight=False)
    if not (found or bounded or corrupted):
        console.print("No results yet.", style="dim")


def notes(group: Group, stages: list[Stage]) -> list[str]:
    """Return what must be known before a group's numbers are quoted, and what each stage of its attacks left."""
    single = [line.label for line in group.lines if line.note and line.adaptive]
    written = []
    if single:
        written.append(f"{', '.join(single)}: {words.ONE_ATTACK}")
    written += [
        f"{line.label.removesuffix(f', {NOT_ADAPTIVE}')}: {line.note}" for line in group.lines if not line.adaptive
    ]
    if group.worst:
        written.append(f"{WORST}: image by image, over {', '.join(group.merged)}")
    budget = telling(group)
    written += [*group.asked, *verdicts.refusals(group)]
    for line in group.lines:
        told = after_stages(stages, line, budget[-1].eps) if budget else ""
        if told:
            written.append(f"{line.label} at {words.bare(budget[-1].eps_written)}, after each stage: {told}")
    errors = max(line.results[0].errors for line in group.lines)
    if errors:
        written.append(f"{words.plural(errors, 'image')} could not be judged: in none of these numbers")
    excluded = max(line.results[0].excluded for line in group.lines)
    if excluded:
        whose = f"{words.plural(excluded, 'image')} left out, whose label is the target: in none of these numbers"
        written.append(whose)
    tried = "; ".join(f"{line.label} {line.passes}" for line in group.lines)
    written.append(f"forward + backward passes per image, all budgets: {tried}")
    return written


def _heading(console: Console, group: Group) -> None:
    clean = words.percent(group.first.clean_accuracy, group.n, " ")
    ends = words.interval(group.first.clean_low, group.first.clean_high, group.n)
    if words.missing(group.first.clean_accuracy):
        clean, ends = group.clean, ""
    console.print(f"{group.model} · {group.data}", style="bold", markup=False, highlight=False)
    facts = f"{words.plural(group.n, 'image')} · {group.kind} · clean {clean} {ends}".rstrip()
    if group.measure != "accuracy":
        facts += f" · numbers: {group.measure}"
    console.print(facts, markup=False, highlight=False)


def _table(group: Group, width: int) -> Table:
    fitting = (rows for spoken in (True, False) if _wide(rows := _across(group, spoken=spoken)) <= width)
    across = next(fitting, None)
    if across is None:
        return _down(group)
    widths = _widths(across)
    even = max(widths[1:])
    roomy = widths[0] + (even + 2) * (len(widths) - 1) <= width
    table = _new_table()
    for column, title in enumerate(across[0]):
        least = even + 1 if roomy and column else 1
        table.add_column(_plain(title), justify="right" if column else "left", no_wrap=True, min_width=least)
    for row in across[1:]:
        bold = group.worst is not None and row[0] == WORST
        table.add_row(*map(_plain, row), style="dim" if row[0] in _BESIDE else "bold" if bold else "")
    return table


def _widths(rows: list[list[str]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def _wide(rows: list[list[str]]) -> int:
    return sum(_widths(rows)) + len(rows[0]) - 1


def _across(group: Group, *, spoken: bool) -> list[list[str]]:
    """Return rows with a column per budget: the title, grey levels, then each line's accuracies and intervals.

    Below them, where there are any, verdicts (`spoken` as words, else as marks) and what was measured first.
    """
    budgets = [result for result in group.budgets if result.eps > 0] or list(group.budgets)
    rows = [[_eps_title(group), *(words.bare(budget.eps_written) for budget in budgets)]]
    if group.norm == "linf":
        rows.append([_GREY, *(words.grey(budget.grey_levels) for budget in budgets)])
    for line in group.shown:
        cells = [line.at(budget.eps) for budget in budgets]
        told = [None if cell is None else verdicts.told(group, cell) for cell in cells]
        name = line.label.removesuffix(f", {NOT_ADAPTIVE}")
        rows.append([words.short(words.without_surrogate(name), _LABEL), *map(_accuracy, told)])
        rows.append(["" if line.adaptive else NOT_ADAPTIVE, *map(_range, told)])
        rows += _refused(group, cells)
        if any(one and one.verdict for one in told):
            rows.append([_VERDICT, *(((one.verdict or "") if spoken else one.mark) if one else "" for one in told)])
        if any(one and one.before for one in told):
            rows.append([verdicts.AS_FIRST, *(_first(one) for one in told)])
    return rows


def _refused(group: Group, cells: list[Result | None]) -> list[list[str]]:
    """Return rows on what is refused, of a model that may: those of which something is known."""
    strict = [None if one is None else group.strict_left(one) for one in cells]
    rows = [
        [_STRICT, *(f"{one.bound}{words.number(one.accuracy, one.n)}" if one else "" for one in strict)],
        ["", *(words.interval(one.low, one.high, 1).strip("[]") if one else "" for one in strict)],
    ]
    for title, field in ((_TPR, "tpr_at_5_fpr"), (_SR, "sr_at_5_fpr")):
        shares = [getattr(one.rejection, field, None) if one else None for one in cells]
        texts = (words.number(share, one.n) if one else "" for share, one in zip(shares, cells, strict=True))
        rows.append([title, *texts] if not all(map(words.missing, shares)) else [title])
    return [row for row in rows if any(row[1:])]


def _new_table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text)


def _down(group: Group) -> Table:
    """Return a table with a row per attack and budget."""
    judged = bool(group.verdicts)
    refuted = any(one.verdict == REFUTED for line in group.shown for one in line.results)
    table = _new_table()
    table.add_column("attack", overflow="fold", max_width=22)
    strict = any(group.strict_left(one) for line in group.shown for one in line.results)
    titles = (_eps_title(group), "grey", "accuracy %", "first %" if refuted else "success %", "passes")
    for title in (*titles[:3], *(["strict %"] if strict else []), *titles[3:]):
        if not (judged and title == "passes"):
            table.add_column(f" {title}", justify="right", no_wrap=True)
    for line in group.shown:
        for place, result in enumerate(line.results):
            told = verdicts.told(group, result)
            two = group.strict_left(result)
            more = [f"{two.bound}{words.number(two.accuracy, two.n)}" if two else ""] if strict else []
            more += [_first(told) if refuted else words.number(result.attack_success, result.n)]
            more += [] if judged else [passes(line, result)]
            table.add_row(
                _plain(line.label if place == 0 else ""), words.bare(result.eps_written),
                words.grey(result.grey_levels) if group.norm == "linf" else words.EM_DASH,
                _plain(" ".join(part for part in (_accuracy(told), told.range, told.mark) if part)), *more,
                style="bold" if line.worst else "", end_section=result is line.results[-1],
            )  # fmt: skip
    return table


def _eps_title(group: Group) -> str:
    return "eps, normalised" if group.unit == NORMALIZED else "eps"


def _accuracy(told: verdicts.NumberText | None) -> str:
    return "" if told is None else words.number(told.accuracy, told.n)


def _range(told: verdicts.NumberText | None) -> str:
    return "" if told is None else words.interval(told.low, told.high, 1).strip("[]")


def _first(told: verdicts.NumberText | None) -> str:
    return "" if told is None or told.first is None else words.number(told.first, told.n)


def passes(line: Line, result: Result) -> str:
    """Return forward and backward passes per image of one result; nothing for the worst case, which made none."""
    if line.worst or not result.n:
        return ""
    return f"{result.forwards / result.n:.3g} + {result.backwards / result.n:.3g}"
