"""A comparison of two runs as people and scripts read it: a table, Markdown, JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from assay import wording as words
from assay.gate.answers import points
from assay.gate.pairing import CLEAN, Change, Comparison
from assay.gate.writers import markdown_text, visible
from assay.report.breakdown import name_of
from assay.statistics import CONFIDENCE

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("number", "eps", "images", "before", "now", "difference", "95 % interval", "newly broken", "newly saved",
           "p", "Holm")  # fmt: skip
MEANING = (
    "Difference: now minus before, in percentage points of the same images, with Tango's interval. Newly broken, newly "
    "saved: images that only the earlier, only the later run has right. p: the exact McNemar test; Holm: the same, "
    "allowing for all rows at once."
)
WORSE, BETTER, ALIKE = "worse", "better", "no difference shown"
_MOST_CLASSES = 3


def title(one: Change) -> str:
    """Return what a change is of."""
    return "without an attack" if one.kind == CLEAN else one.attack


def about(one: Change) -> str:
    """Return the model, data and kind of change that a row stands under."""
    goal = "" if one.number.goal == "untargeted" else f", {one.number.goal}"
    question = "" if one.number.question == "worst_case" else ", as attacked"
    return f"{one.number.model} on {one.number.data}: {one.number.threat}{goal}{question}"


def said(one: Change) -> str:
    """Say whether a number got worse or better: where the p-value that allows for all rows is below 5 %."""
    if not one.adjusted < 1 - CONFIDENCE:
        return ALIKE
    return BETTER if one.difference > 0 else WORSE


def texts(one: Change) -> list[str]:
    """Return a row of the table."""
    low, high = one.interval()
    return [
        title(one), "" if one.kind == CLEAN else words.bare(one.number.eps_written), words.count(one.n),
        words.percent(one.a, one.n, " "), words.percent(one.b, one.n, " "), points(one.difference, one.n),
        f"[{points(low, one.n)}, {points(high, one.n)}]", words.count(one.only_a), words.count(one.only_b),
        _p(one.p_value), _p(one.adjusted),
    ]  # fmt: skip


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else "1" if value == 1 else f"{value:.3f}".removeprefix("0")


def headline(found: Comparison) -> str:
    """Say in a sentence what changed."""
    robust = [one for one in found.changes if one.kind != CLEAN]
    worse, better = ([one for one in robust if said(one) == word] for word in (WORSE, BETTER))
    if not worse and not better:
        return f"No robust accuracy of {len(robust)} changed by more than chance explains."
    parts = [f"{len(some)} of {len(robust)} robust accuracies got {word}" for word, some in
             ((WORSE, worse), (BETTER, better)) if some]  # fmt: skip
    doubted = " Not all of the numbers now can be believed: see the notes." if found.b.doubts() else ""
    return f"{' and '.join(parts)} by more than chance explains.{doubted}"


class ClassChange(NamedTuple):
    """A class that changed."""

    name: str
    change: Change


def classes(found: Comparison, place: int) -> list[ClassChange]:
    """Return the classes in which a number changed at all, those that lost most first."""
    names = _names(found, found.changes[place])
    some = [one for one in found.by_class[place] if one.only_a or one.only_b]
    ordered = sorted(some, key=lambda one: (one.only_b - one.only_a, one.label))
    return [ClassChange(name_of(names, one.label), one) for one in ordered]


def _names(found: Comparison, one: Change) -> list[str] | None:
    old = one.before
    now = found.b.classes(one.number.model, one.number.data)
    return now or (None if old is None else found.a.classes(old.model, old.data))


def told_class(one: ClassChange) -> str:
    """Return what changed in a class, in words."""
    change = one.change
    return (
        f"{one.name}: {words.count(change.only_a)} newly broken, {words.count(change.only_b)} newly saved of "
        f"{words.count(change.n)} ({words.percent(change.a, change.n, ' ')} before, "
        f"{words.percent(change.b, change.n, ' ')} now)"
    )


def notes(found: Comparison) -> Iterator[str]:
    """Yield what besides the numbers differs, and what only one side has."""
    for side in (found.a, found.b):
        if side.unfit:
            yield f"{side.name} is not reportable: {'; '.join(side.unfit)}"
        yield from (f"{side.name}: {doubt}" for doubt in side.doubts())
    yield from (f"Differs: {one}" for one in found.differs)
    yield from (f"Only in {found.a.name}: {one}" for one in found.only_a)
    yield from (f"Only in {found.b.name}: {one}" for one in found.only_b)
    yield MEANING


def terminal(found: Comparison, console: Console) -> None:
    """Print a comparison."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print(Text(visible(f"{found.a.name} → {found.b.name}"), "bold"))
    console.print(Text(headline(found)))
    for heading, rows in grouped(found):
        console.print()
        console.print(Text(visible(heading)))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for at, name in enumerate(COLUMNS):
            table.add_column(Text(name), justify="right" if at else "left", overflow="fold" if not at else "ellipsis")
        for place in rows:
            one = found.changes[place]
            style = {WORSE: "red", BETTER: "green"}.get(said(one), "")
            table.add_row(*(Text(visible(cell).replace(" %", ""), style) for cell in texts(one)))
        console.print(table)
        for place in rows:
            some = classes(found, place)[:_MOST_CLASSES]
            if some and found.changes[place].kind != CLEAN:
                told = "; ".join(told_class(one) for one in some)
                line = f"{texts(found.changes[place])[0]} {texts(found.changes[place])[1]} by class: {told}"
                console.print(Padding(Text(visible(line)), (0, 0, 0, 2), expand=False), style="dim")
    console.print()
    for note in notes(found):
        console.print(Padding(Text(visible(note)), (0, 0, 0, 2), expand=False), style="dim")


def grouped(found: Comparison) -> list[tuple[str, list[int]]]:
    """Return the rows of a comparison (places in `changes`) under their headings."""
    tables: dict[str, list[int]] = {}
    for place, one in enumerate(found.changes):
        tables.setdefault(about(one), []).append(place)
    return list(tables.items())


def markdown(found: Comparison) -> str:
    """Return a comparison as Markdown."""
    parts = [f"## {markdown_text(found.a.name)} → {markdown_text(found.b.name)}", markdown_text(headline(found))]
    for heading, places in grouped(found):
        head = [f"| {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * (len(COLUMNS) - 1)}"]
        rows = [f"| {' | '.join(map(markdown_text, texts(found.changes[place])))} |" for place in places]
        parts += [f"### {markdown_text(heading)}", "\n".join([*head, *rows])]
        told = []
        for place in places:
            one, some = found.changes[place], classes(found, place)[:_MOST_CLASSES]
            if some and one.kind != CLEAN:
                listed = "; ".join(told_class(each) for each in some)
                told.append(f"- {markdown_text(f'{title(one)} {one.number.eps_written} by class: {listed}')}")
        parts += ["\n".join(told)] if told else []
    parts.append("\n".join(f"- {markdown_text(note)}" for note in notes(found)))
    return "\n\n".join(parts) + "\n"


def plain(found: Comparison) -> dict[str, Any]:
    """Return what scripts read of a comparison; accuracies and differences are fractions."""
    return {
        "a": _side(found, "a"), "b": _side(found, "b"), "differs": list(found.differs),
        "only_a": list(found.only_a), "only_b": list(found.only_b),
        "changes": [
            {
                **_plain(one), "adjusted_p_value": one.adjusted, "said": said(one), "newly_broken_ids": list(one.lost),
                "newly_saved_ids": list(one.won),
                "classes": [{"class": each.name, **_counts(each.change)} for each in classes(found, place)],
            }
            for place, one in enumerate(found.changes)
        ],
    }  # fmt: skip


def _side(found: Comparison, name: str) -> dict[str, Any]:
    side = getattr(found, name)
    return {
        "name": side.name,
        "study": side.study,
        "finished": side.finished,
        "not_reportable_because": list(side.unfit),
        "doubts": list(side.doubts()),
    }


def _plain(one: Change) -> dict[str, Any]:
    number, clean = one.number, one.kind == CLEAN
    return {
        "kind": one.kind, "model": number.model, "data": number.data, "attack": None if clean else one.attack,
        "threat": None if clean else number.threat, "eps": None if clean else number.eps,
        "eps_written": None if clean else number.eps_written, "question": number.question, "goal": number.goal,
        **_counts(one),
    }  # fmt: skip


def _counts(one: Change) -> dict[str, Any]:
    low, high = one.interval()
    return {
        "n": one.n, "before": _known(one.a), "now": _known(one.b), "difference": _known(one.difference), "low": low,
        "high": high, "both": one.both, "newly_broken": one.only_a, "newly_saved": one.only_b,
        "neither": one.n - one.both - one.only_a - one.only_b, "p_value": one.p_value,
    }  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


__all__ = ["COLUMNS", "classes", "grouped", "headline", "markdown", "notes", "plain", "said", "terminal", "texts",
           "title", "told_class"]  # fmt: skip
