"""What it took: accuracy against queries, steps or passes, and after each stage of a composed attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.evaluation.run import GRADIENT
from assay.report.groups import Group, Line
from assay.report.theme import IN_PAGE, Look, Spec, dressed

if TYPE_CHECKING:
    from rich.console import Console

    from assay.evaluation.analysis.query_curves import Effort, Stage
    from assay.evaluation.run import Run

_TITLES = {
    "queries": "queries per image",
    "steps": "looks at the model per image",
    "forwards": "forward passes per image",
    "backwards": "backward passes per image",
}
_MOST_COLUMNS = 9


def milestones(spent: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, 50 ... up to what was spent at most, the largest ones where they are many."""
    steps = [factor * 10**power for power in range(len(str(max(spent, 1)))) for factor in (1, 2, 5)]
    return sorted({*[step for step in steps if step < spent], max(spent, 1)})[-_MOST_COLUMNS:]


def terminal(run: Run, over: str, console: Console) -> None:
    """Print accuracy against a cost, one table per model and data set; see `assay.evaluation.analysis.query_curves`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = run.efforts(over)
    if not found:
        console.print(
            "No attack of this run stops at its first success in the worst-case question, so none tells what a "
            "success takes. Run one such as pgd or square with question: worst_case.",
            soft_wrap=True,
        )
        return
    for where, curves in _by_target(run, found).items():
        console.print(Text(where, style="bold"))
        called = "accuracy" if run.access(run.cells[curves[0].cell]["model"]) == GRADIENT else "not broken so far"
        console.print(f"{called}, %, once so many {_TITLES[over]} were spent", highlight=False)
        columns = milestones(max(curve.spent for curve in curves))
        table = Table("attack", "eps", *map(words.count, columns), box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for curve in curves:
            cells = [words.number(curve.at(cost), curve.n) for cost in columns]
            table.add_row(Text(curve.attack), words.bare(curve.eps_written), *cells)
        console.print(table)
        console.print()


def _predicted(run: Run, curve: Effort) -> bool:
    from assay.vocabulary import PREDICTED_LABELS

    return str(run.manifest["cells"][curve.cell]["data"]).endswith(PREDICTED_LABELS)


def plain(run: Run, over: str) -> list[dict[str, Any]]:
    """Return the curves as plain values: `points` are pairs of a cost and the accuracy left from there on."""
    return [
        {
            "cell": one.cell, "attack": one.attack, "eps": one.eps, "over": over, "n": one.n,
            "clean_accuracy": None if _predicted(run, one) else one.clean, "spent": one.spent,
            "points": list(zip(one.costs, one.accuracy, strict=True)),
        }
        for one in run.efforts(over)
    ]  # fmt: skip


def _by_target(run: Run, found: list[Effort]) -> dict[str, list[Effort]]:
    groups: dict[str, list[Effort]] = {}
    for one in found:
        cell = run.cells[one.cell]
        groups.setdefault(f"{cell['model']} \u00b7 {cell['data']} \u00b7 {cell['threat']}", []).append(one)
    return groups


def after_stages(stages: list[Stage], line: Line, eps: float) -> str:
    """Say what each stage of a line's attack left at a budget; nothing where the attack has no stages."""
    mine = [one for one in stages if one.cell == line.cell and one.eps == eps]
    return ", ".join(f"{one.name} {words.percent(one.survived / max(one.n, 1), one.n)}" for one in mine)


def curves_of(found: list[Effort], group: Group, eps: float) -> list[Effort]:
    """Return the curves of a group's lines at a budget, those that fall anywhere."""
    cells = {line.cell for line in group.lines}
    return [one for one in found if one.cell in cells and one.eps == eps and one.costs]


def chart(curves: list[Effort], group: Group, look: Look = IN_PAGE) -> Spec:
    """Draw accuracy against a cost per image, on a logarithmic axis, as steps."""
    import altair as alt

    labels = {line.cell: line.label for line in group.lines}
    rows = [row for curve in curves for row in _points(curve, labels[curve.cell])]
    base = alt.Chart(alt.InlineData(values=rows))
    names = [labels[curve.cell] for curve in curves]
    order = [line.label for line in group.lines]
    series = look.palette.series
    colors = [series[order.index(name) % len(series)] for name in names]
    title = _TITLES[curves[0].over]
    x = alt.X("cost:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(title=f"{title} (logarithmic)"))
    called = "not broken so far" if group.black_box else "accuracy"
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title=called, tickCount=5))
    color = alt.Color(
        "attack:N", scale=alt.Scale(domain=names, range=colors), legend=alt.Legend(title=None, orient="bottom")
    )
    tips = [
        alt.Tooltip("attack:N"),
        alt.Tooltip("cost:Q", title=title),
        alt.Tooltip("accuracy:Q", title=called, format=".1%"),
    ]
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(x=x, y=y, color=color)
    dots = base.mark_point(filled=True, opacity=0, size=300).encode(x=x, y=y, tooltip=tips)
    return dressed(alt.layer(line, dots).properties(height=260), look, f"{group.model} on {group.data}")


def _points(curve: Effort, label: str) -> list[dict[str, Any]]:
    first = [] if curve.costs[0] <= 1 else [(1, curve.clean)]
    last = [] if curve.costs[-1] >= curve.spent else [(curve.spent, curve.accuracy[-1])]
    pairs = [*first, *zip(curve.costs, curve.accuracy, strict=True), *last]
    return [{"attack": label, "cost": max(cost, 1), "accuracy": left} for cost, left in pairs]
