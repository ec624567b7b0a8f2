"""The sentence a manager understands: how much accuracy is left, and how far to trust the number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from assay import wording as words
from assay.evaluation.records.verdicts import REFUTED, SUSPECT
from assay.evaluation.study.goal_words import STRICT, spoken
from assay.report import verdicts
from assay.report.groups import AS_ATTACKED, UNTARGETED, WORST_CASE, Group, Line

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result

_IMPERCEPTIBLE = 4.05  # grey levels of 255


@dataclasses.dataclass(frozen=True)
class Headline:
    """A sentence in parts, so that a page can set its number in bold: `before` **`left`** `after`.

    `verdict` is the last part, `called` its word, and `judged` the budget that it is about; nothing without an audit.
    """

    group: Group
    before: str
    left: str
    after: str
    second: str
    caveat: str
    verdict: str = ""
    called: str = ""
    judged: float | None = None

    @property
    def because(self) -> str:
        """The verdict without its word, as a sentence of its own; nothing where the word is all."""
        why = self.verdict.partition(": ")[2]
        return f"{why[:1].upper()}{why[1:]}"

    def __str__(self) -> str:
        """Return the sentence as plain text."""
        parts = (f"{self.before} {self.left}{self.after}", self.second, self.caveat, self.verdict)
        return " ".join(part for part in parts if part)


def headline(group: Group) -> Headline:
    """Say what is left of the group's accuracy: at its largest imperceptible budget, and at its largest one."""
    changed = telling(group)
    if not changed:
        if words.missing(group.first.clean_accuracy):
            return Headline(
                group, "Labels are predicted by the model, so without any change there is", "no accuracy", ".", "", ""
            )
        return Headline(group, "Without any change, accuracy is", group.clean, ".", "", "")
    chosen = spotlight(group)
    line, result = _lowest(group, chosen)
    plainly = group.goal == UNTARGETED or (group.rejects and group.goal == STRICT)
    what = _what(group) if plainly else f"the share of images that withstand ({spoken(group.goal)})"
    told = verdicts.told(group, result)
    before = f"Under {_changes(group, chosen)}, {what} {_moves(result, told)}"
    after = f" {told.range}." if told.range else "."
    second = _largest(group, changed[-1], chosen)
    said = Headline(group, before, told.kept, after, second, _caveat(group, line, told))
    found = group.verdict(result.eps)
    if found is None or result.verdict is None:
        return said
    # a number of one attack may have a verdict of its own
    sentence = verdicts.sentence(dataclasses.replace(found, verdict=result.verdict))
    return dataclasses.replace(said, verdict=sentence, called=result.verdict, judged=result.eps)


def _what(group: Group) -> str:
    return f"the share of images that are right and {group.measure}" if group.black_box else group.measure


def telling(group: Group) -> list[Result]:
    """Return the budgets to speak of: those the worst case was sought at where there are any, 0 left out."""
    sought = [line for line in group.shown if line.worst] or [
        line for line in group.lines if line.question == WORST_CASE
    ]
    covered = {result.eps for line in sought or group.lines for result in line.results}
    return [result for result in group.budgets if result.eps > 0 and result.eps in covered]


def spotlight(group: Group) -> Result:
    """Return the budget to speak of first: the largest imperceptible one, else the smallest that changes anything."""
    changed = telling(group)
    if not changed:
        return group.first
    if group.norm != "linf":
        return changed[len(changed) // 2]
    unseen = [result for result in changed if result.grey_levels <= _IMPERCEPTIBLE]
    return unseen[-1] if unseen else changed[0]


def size_of(group: Group, budget: Result) -> str:
    """Write a budget for a reader: in grey levels where that is what it means, else in its norm."""
    if group.norm == "linf":
        return f"{words.grey(budget.grey_levels)} grey levels"
    return f"{words.norm(group.norm)} size {words.bare(budget.eps_written)}"


def _changes(group: Group, budget: Result) -> str:
    if group.norm != "linf":
        return f"changes of {size_of(group, budget)}"
    return f"{words.seen(budget.grey_levels)} changes (at most {words.grey(budget.grey_levels)} of 255 grey levels)"


def _moves(result: Result, told: verdicts.NumberText) -> str:
    if words.missing(result.clean_accuracy):
        return "compared with the model's own answers is"
    clean = words.percent(result.clean_accuracy, result.n)
    if result.survived == result.clean_correct and told.first is None:
        return "stays at"
    return f"falls from {clean} to"


def _lowest(group: Group, budget: Result) -> tuple[Line, Result]:
    found = group.lowest(budget.eps)
    return found if found else (group.lines[0], budget)


def _largest(group: Group, largest: Result, chosen: Result) -> str:
    if largest.eps == chosen.eps:
        return ""
    _, result = _lowest(group, largest)
    told = verdicts.told(group, result)
    doubt = f" ({told.verdict})" if told.verdict in (SUSPECT, REFUTED) else ""
    left = "are right and not broken" if group.black_box else "is left"
    return f"At the largest budget tried ({size_of(group, largest)}), {told.kept} {left}{doubt}."


def _caveat(group: Group, line: Line, told: verdicts.NumberText) -> str:
    if not line.adaptive:
        return (
            "Not adaptive: the images were made on a model without the defence, and the number says nothing about its "
            "robustness."
        )
    if group.black_box:
        return _black_box(group, line, told)
    if told.before:
        by = f"over {len(group.merged)} attacks, image by image" if line.worst else f"with {line.label}"
        return f"{told.before[0].upper()}{told.before[1:]} {by}."
    if line.worst:
        return f"Worst case over {len(group.merged)} attacks, image by image; a stronger attack may leave less."
    if line.question == AS_ATTACKED:
        return f"Measured with {line.label}: {words.ONE_ATTACK}."
    return f"Measured with {line.label}; a stronger attack may leave less."


def _black_box(group: Group, line: Line, told: verdicts.NumberText) -> str:
    by = f"{len(group.merged)} attacks, image by image" if line.worst else line.label
    first = f"{told.before[0].upper()}{told.before[1:]}. " if told.before else ""
    if not line.worst and "surrogate=" in line.label:
        made = "the images were made on another model, and an attack that heeds this one's answers may leave less"
        return f"{first}Measured with {by}: {made}."
    return (
        f"{first}Measured with {by}, by asking a model that gives {group.first.access} alone: an attack with gradients "
        "may leave far less."
    )
