"""The rows of a gate against a run: each number judged, and the judgements put together into answers."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.records.verdicts import REFUTED
from assay.evaluation.study.gate import EVERY_CLASS, GateRow, Wanted
from assay.gate.answers import MET, MISSED, UNSURE, Answer, Finding, Outcome, more_for_difference, more_for_share
from assay.gate.pairing import CLEAN, ROBUST, WORST, Match, changes, match, pairs, told_differences, unpaired
from assay.gate.sides import FELL, LEFT, UNKNOWN, WRONG, Number, Outcomes, Side, side_of
from assay.gate.targets import UNTARGETED, Target, accepted, clean_targets, robust_targets
from assay.report.breakdown import name_of
from assay.report.formats import NOT_AUDITED
from assay.statistics import holm, share_score, two_sided, wilson
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.run import Run


class Place(NamedTuple):
    """Where a row was written: the file, its line, and the place as errors tell it."""

    file: str
    line: int
    told: str = ""


@dataclasses.dataclass(frozen=True)
class _Draft:
    # a number that is not judged yet: how likely it is where the row holds, and whether it meets the row by itself
    finding: Finding
    p_missed: float
    reaches: bool


@dataclasses.dataclass(frozen=True)
class _Against:
    # the baseline, what of it is what here, and which numbers are which
    side: Side
    matched: Match
    before: dict[Number, Number]
    alone: tuple[Number, ...]


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Judges the rows of one gate."""

    run: Run
    side: Side
    unfit: tuple[str, ...]
    against: _Against | None

    def drafts(self, row: GateRow) -> list[_Draft]:
        """Return the numbers that a row is about. Raises `BadInput` where there is none."""
        wanted = row.wanted
        if wanted is None:
            return [self._verdict(row, one) for one in robust_targets(self.run, row, self.side.numbers)]
        if row.robust_accuracy is None:
            targets, kind = clean_targets(self.run, row), CLEAN
        else:
            targets, kind = robust_targets(self.run, row, self.side.numbers), ROBUST
        each = self._changes if wanted.change else self._classes if row.class_ is not None else self._whole
        found = [draft for target in targets for draft in each(row, wanted, target, kind)]
        if not found:
            raise BadInput(f"no image of the run is of class {row.class_!r}.")
        return found

    def _begun(self, row: GateRow, target: Target, kind: str) -> Finding:
        one = target.result
        verdict = None if kind == CLEAN else target.verdict or NOT_AUDITED
        under = ("", "", "") if kind == CLEAN else (target.attacks, one.threat, one.eps_written)
        cells = tuple(two.cell for two in target.numbers) or (one.cell,)
        doubts = (*self.unfit, *target.doubts)
        return Finding(one.model, one.data, *under, cells, UNSURE, verdict=verdict, doubts=doubts, expected=row.written,
                       accepted=accepted(row, verdict))  # fmt: skip

    def _verdict(self, row: GateRow, target: Target) -> _Draft:
        told = target.verdict
        finding = dataclasses.replace(self._begun(row, target, ROBUST), n=target.n, expected=row.verdict or "")
        return _Draft(finding, 0.0 if told == REFUTED else 1.0, not finding.doubts)

    def _whole(self, row: GateRow, wanted: Wanted, target: Target, kind: str) -> Iterator[_Draft]:
        yield _limited(self._begun(row, target, kind), row, wanted, target.hits, target.n, target.errors)

    def _classes(self, row: GateRow, wanted: Wanted, target: Target, kind: str) -> Iterator[_Draft]:
        begun, outcomes = self._begun(row, target, kind), self._outcomes(target)
        right = (LEFT,) if kind == ROBUST else (FELL, LEFT)
        for label, name in self._labels(row, target, outcomes):
            states = outcomes.states[outcomes.labels == label]
            hits, n = int(np.isin(states, right).sum()), int(np.isin(states, (WRONG, FELL, LEFT)).sum())
            finding = dataclasses.replace(begun, class_name=name)
            yield _limited(finding, row, wanted, hits, n, int((states == UNKNOWN).sum()))

    def _outcomes(self, target: Target) -> Outcomes:
        one = target.result
        found = self.side.outcomes(target.numbers) if target.numbers else self.side.read(one.cell).get(one.eps)
        if found is None:
            raise BadInput(f"{self.side.name} has no records of {one.attack} on {one.model}. Run it again.")
        return found

    def _labels(self, row: GateRow, target: Target, outcomes: Outcomes) -> list[tuple[int, str]]:
        one = target.result
        names = self.side.classes(one.model, one.data)
        assert outcomes.labels is not None, "records have labels"
        there = [(int(label), name_of(names, int(label))) for label in np.unique(outcomes.labels)]
        if row.class_ == EVERY_CLASS:
            return there
        found = [(label, name) for label, name in there if row.class_ in (name, str(label))]
        if not found:
            known = [name for _, name in there]
            some = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
            raise BadInput(
                f"no image of {one.data} is of class {row.class_!r}.{did_you_mean(str(row.class_), known)} "
                f"There are: {some}."
            )
        # a name may be another class's number
        named = [(label, name) for label, name in found if name == row.class_]
        return named or found

    def _changes(self, row: GateRow, wanted: Wanted, target: Target, kind: str) -> Iterator[_Draft]:
        against = self.against
        assert against is not None, "a baseline was asked for"
        begun, one = self._begun(row, target, kind), target.result
        begun = dataclasses.replace(begun, doubts=(*begun.doubts, *self._baseline_doubts(row, target, kind)))
        mine = self._paired(target, kind)
        if not mine:
            told = f"the baseline has no number of {begun.about}"
            yield _Draft(dataclasses.replace(begun, doubts=(*begun.doubts, told)), 1.0, False)
            return
        before, now = against.side.outcomes(against.before[two] for two in mine), self.side.outcomes(mine)
        if before is None or now is None:
            raise BadInput(f"There are no records of {one.attack} on {one.model}. Run the study again.")
        attack = WORST.format(len(mine)) if len(mine) > 1 else mine[0].attack
        chosen = [(None, None)] if row.class_ is None else self._labels(row, target, now)
        found = changes(before, now, mine[0], attack, kind, labels=[label for label, _ in chosen])
        for change, (_, name) in zip(found, chosen, strict=True):
            if not change.n:
                yield _of_nothing(dataclasses.replace(begun, class_name=name, attack=attack if kind == ROBUST else ""))
                continue
            low, high = change.interval(row.confidence)
            finding = dataclasses.replace(
                begun, n=change.n, value=change.difference, low=low, high=high, class_name=name, change=change,
                attack=attack if kind == ROBUST else "",
                more=more_for_difference(change.only_a, change.only_b, change.n, wanted.share, row.confidence),
            )  # fmt: skip
            yield _Draft(finding, change.worse_p(wanted.share), low > -wanted.share)

    def _paired(self, target: Target, kind: str) -> list[Number]:
        assert self.against is not None, "a baseline was asked for"
        one = target.result
        numbers: Sequence[Number] = target.numbers
        if kind == CLEAN:
            same = [two for two in self.against.before if (two.model, two.data) == (one.model, one.data)]
            # a targeted goal leaves out what has its label
            return sorted(same, key=lambda two: two.goal != UNTARGETED)[:1]
        return [two for two in numbers if two in self.against.before]

    def _baseline_doubts(self, row: GateRow, target: Target, kind: str) -> Iterator[str]:
        assert self.against is not None, "a baseline was asked for"
        yield from (f"the baseline is not reportable: {reason}" for reason in self.against.side.unfit)
        if kind == CLEAN or row.attack:
            return
        one, matched = target.result, self.against.matched
        about = (matched.models.get(one.model), matched.data.get(one.data))
        key = (*about, one.threat, one.unit, one.eps, one.question, one.goal)
        # with an attack less the worst case would be milder than it was
        if lacking := [two.attack for two in self.against.alone if two.key == key]:
            yield f"the baseline was attacked with {', '.join(lacking)}, and this run was not"


def _of_nothing(begun: Finding) -> _Draft:
    return _Draft(dataclasses.replace(begun, doubts=(*begun.doubts, "no image could be evaluated")), 1.0, False)


def _limited(begun: Finding, row: GateRow, wanted: Wanted, hits: int, n: int, errors: int) -> _Draft:
    if not n:
        return _of_nothing(begun)
    low, high = wilson(hits, n, row.confidence)
    # an image that could not be evaluated may have been right
    most, all_ = hits + errors, n + errors
    p_value = two_sided(share_score(most, all_, wanted.share)) if most / all_ < wanted.share else 1.0
    more = more_for_share(hits, n, wanted.share, row.confidence)
    finding = dataclasses.replace(begun, n=n, value=hits / n, low=low, high=high, more=more)
    return _Draft(finding, p_value, low >= wanted.share)


def _judged(drafts: Sequence[_Draft], adjusted: Sequence[float], row: GateRow) -> Iterator[Finding]:
    level = 1 - row.confidence
    for draft, p_value in zip(drafts, adjusted, strict=True):
        finding = dataclasses.replace(draft.finding, p_value=p_value)
        if p_value < level:
            yield dataclasses.replace(finding, answer=MISSED)
        elif draft.p_missed < level:
            told = f"it misses by itself, but not as one of {len(adjusted)} numbers (Holm)"
            yield dataclasses.replace(finding, doubts=(*finding.doubts, told))
        elif finding.doubts or not draft.reaches:
            yield finding
        else:
            yield dataclasses.replace(finding, answer=MET)


def answers(
    run: Run, rows: Sequence[GateRow], places: Sequence[Place], baseline: Callable[[], Side] | None = None
) -> Outcome:
    """Answer each row of a gate. `baseline` opens the baseline, and is called where a row asks for one.

    Numbers that a row is about are tested at once: a row is missed where one misses it at a level divided among them
    (Holm), and met where every one meets it. Comparisons with the baseline are tested at once over all rows. Raises
    `BadInput` for a row that no number of the run fits, with its place.
    """
    side = side_of(run)
    against = _opened(side, baseline) if any(row.against for row in rows) else None
    judge = _Judge(run, side, tuple(f"not reportable: {reason}" for reason in side.unfit), against)
    drafts = [_at(place, number, judge, row) for number, (row, place) in enumerate(zip(rows, places, strict=True))]
    every = [draft.p_missed for row, found in zip(rows, drafts, strict=True) if row.against for draft in found]
    compared = iter(holm(every))
    told = []
    for number, (row, place, found) in enumerate(zip(rows, places, drafts, strict=True), 1):
        adjusted = [next(compared) for _ in found] if row.against else holm([one.p_missed for one in found])
        told.append(Answer(row, number, tuple(_judged(found, adjusted, row)), place.file, place.line))
    differs = () if against is None else tuple(
        told_differences(against.side, side, against.matched, [(old, new) for new, old in against.before.items()])
    )  # fmt: skip
    finished = f"The run finished on {side.finished}: the gate judges its records." if side.finished else ""
    return Outcome(
        side.study, side.name, side.finished, tuple(told), against.side.name if against else "", differs,
        tuple(filter(None, [finished, *_newer(run), *_notes(judge), *_dropped(against)])),
    )  # fmt: skip


def _newer(run: Run) -> Iterator[str]:
    """Yield a note on every file of a model that changed after the run."""
    finished = str(run.manifest.get("finished") or "")
    if not finished:
        return
    when = datetime.datetime.fromisoformat(finished).timestamp()
    specs = dict.fromkeys(str(cell["specs"]["model"]["model"]) for cell in run.cells.values())
    for name in dict.fromkeys(part for spec in specs for part in re.split(r"[:|?&=@]", spec)):
        file = Path(name).expanduser()
        # a second more than the manifest tells
        if name and file.is_file() and file.stat().st_mtime > when + 1:
            yield f"{name} has changed since the run: run the study again where it is another model now."


def _notes(judge: _Judge) -> list[str]:
    if not judge.unfit:
        return []
    return [
        f"Nothing of this run can meet a gate: {plural(len(judge.unfit), 'reason')} ({'; '.join(judge.side.unfit)})."
    ]


def _dropped(against: _Against | None) -> list[str]:
    """Tell what the baseline measured and the run did not: no row is about it."""
    if against is None or not against.alone:
        return []
    told = "; ".join(unpaired(against.side, against.before.values()))
    return [f"Only in the baseline, so that nothing says whether it got worse: {told}"]


def _at(place: Place, number: int, judge: _Judge, row: GateRow) -> list[_Draft]:
    try:
        return judge.drafts(row)
    except BadInput as error:
        raise BadInput(f"{place.told or place.file}  gate[{number}]: {error}") from None


def _opened(side: Side, baseline: Callable[[], Side] | None) -> _Against:
    if baseline is None:
        raise BadInput("The gate compares with a baseline. Give one: --baseline FILE, or --baseline RUN")
    old = baseline()
    matched = match(old, side)
    paired = pairs(old, side, matched)
    known = {before for before, _ in paired}
    alone = tuple(one for one in old.numbers if one not in known)
    return _Against(old, matched, {now: before for before, now in paired}, alone)


__all__ = ["Place", "answers"]
