"""The answers of a gate: met, missed or cannot tell, for each row, each with the numbers that it rests on."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.statistics import paired_score, share_score

if TYPE_CHECKING:
    from assay.evaluation.study.gate import GateRow
    from assay.gate.pairing import Change

MET, MISSED, UNSURE = "met", "missed", "cannot tell"
ANSWERS = (MET, MISSED, UNSURE)
_MOST_MORE = 10_000_000
_MINUS = "\u2212"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One number of the run against one row.

    `value` is a share, `low` and `high` its interval at the row's confidence, of `n` images; of a row against a
    baseline they are those of the difference, and `change` has the counts. All are None where a verdict alone is asked.
    `doubts` say why the row cannot be met by this number, whatever it is. `more` is how many more images would settle
    it, at the present share. `p_value` allows for all that was tested at once. `accepted` says why a verdict other than
    trusted does not stand in the way.
    """

    model: str
    data: str
    attack: str
    threat: str
    eps_written: str
    cells: tuple[str, ...]
    answer: str
    n: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    class_name: str | None = None
    verdict: str | None = None
    doubts: tuple[str, ...] = ()
    more: int | None = None
    p_value: float | None = None
    change: Change | None = None
    expected: str = ""
    accepted: str = ""

    @property
    def about(self) -> str:
        """What the number is of."""
        under = f", {self.threat} {self.eps_written}, {self.attack}" if self.threat else ""
        of_class = "" if self.class_name is None else f", class {self.class_name}"
        return f"{self.model} on {self.data}{under}{of_class}"

    @property
    def number(self) -> str:
        """The number with its interval and how many images it is of; nothing where a verdict alone is asked."""
        if self.value is None or self.low is None or self.high is None:
            return ""
        images = words.plural(self.n, "image")
        if self.change is None:
            return f"{words.percent(self.value, self.n, ' ')} {words.interval(self.low, self.high, self.n)} of {images}"
        ends = f"[{points(self.low, self.n)}, {points(self.high, self.n)}]"
        before, now = (words.percent(one, self.n, " ") for one in (self.change.a, self.change.b))
        return (
            f"{points(self.value, self.n)} points {ends}, {before} before and {now} now, on the same {images} "
            f"({words.count(self.change.only_a)} newly broken, {words.count(self.change.only_b)} newly saved)"
        )

    @property
    def why(self) -> str:
        """What the answer rests on, in one line."""
        parts = [self.number] if self.number else []
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.verdict is not None and not any(one.startswith(self.verdict) for one in self.doubts):
            parts.append(f"{self.verdict} ({self.accepted})" if self.accepted else self.verdict)
        told = ", ".join(parts)
        if self.answer == UNSURE and self.doubts:
            return f"{told}; {'; '.join(self.doubts)}" if told else "; ".join(self.doubts)
        if self.answer == UNSURE:
            return f"{told}; {settled(self.more)}"
        return told

    @property
    def line(self) -> str:
        """The answer in one line."""
        return f"{self.about}: {self.why}"


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one row: met where every number meets it, missed where one misses it, else cannot tell.

    `place` is where the row stands ("study.yaml:9:5"), `number` its place in the gate, from 1.
    """

    row: GateRow
    number: int
    findings: tuple[Finding, ...]
    file: str
    line: int

    @functools.cached_property
    def answer(self) -> str:
        """Met, missed or cannot tell."""
        return together([one.answer for one in self.findings])

    @functools.cached_property
    def telling(self) -> tuple[Finding, ...]:
        """The numbers that decide, lowest first: those that miss it, else those that cannot tell, else all."""
        answer = self.answer
        deciding = [one for one in self.findings if one.answer == answer]
        return tuple(sorted(deciding, key=lambda one: 0.0 if one.value is None else one.value))

    @property
    def kind(self) -> str:
        """What is asked: `baseline`, `class`, `robust`, `clean` or `verdict`."""
        if self.row.against is not None:
            return "baseline"
        if self.row.class_ is not None:
            return "class"
        if self.row.robust_accuracy is not None:
            return "robust"
        return "clean" if self.row.clean_accuracy is not None else "verdict"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a gate says of a run: an answer per row, in order.

    `differs` says what besides the numbers differs from the `baseline` (its path; "" where no row asks for one),
    `notes` what a reader must know.
    """

    study: str
    run: str
    finished: str
    answers: tuple[Answer, ...]
    baseline: str = ""
    differs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """Met where every row is, missed where one is, else cannot tell."""
        return together([one.answer for one in self.answers])


def together(answers: Sequence[str]) -> str:
    """Return the answer to all: missed where one is, else cannot tell where one is, else met."""
    return MISSED if MISSED in answers else UNSURE if UNSURE in answers or not answers else MET


def points(value: float, n: int) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    text = words.number(abs(value), n)
    if words.missing(value) or not float(text):
        return text
    return f"{_MINUS if value < 0 else '+'}{text}"


def more_for_share(hits: float, n: int, share: float, confidence: float) -> int | None:
    """Return how many more images would settle whether a share lies above `share`, if so many stay right; None: none.

    The interval is Wilson's, which ends at `share` where the score of it is that of the confidence.
    """
    if not n or hits / n == share:
        return None
    return _more(n, abs(share_score(hits, n, share)), confidence)


def more_for_difference(only_a: int, only_b: int, n: int, margin: float, confidence: float) -> int | None:
    """Return how many more images would settle whether less than `margin` was lost, if shares stay; None: none."""
    if not n or (only_a - only_b) / n == margin:
        return None
    return _more(n, abs(paired_score(only_b, only_a, n, -margin)), confidence)


def _more(n: int, score: float, confidence: float) -> int | None:
    # a score grows with the root of the number of images
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    if score == 0 or (z / score) ** 2 * n > _MOST_MORE:
        return None
    return max(1, math.ceil((z / score) ** 2 * n) - n)


def settled(more: int | None) -> str:
    """Say how many more images would settle it."""
    if more is None:
        return "too near to be settled by any number of images that a run may have"
    return f"about {words.plural(rounded(more), 'more image')} would settle it, if the share stays"


def rounded(more: int) -> int:
    """Return a number of images to two digits, upwards: it is an estimate."""
    scale = int(10 ** max(0, len(str(more)) - 2))
    return -(-more // scale) * scale


def plain(outcome: Outcome, code: int) -> dict[str, Any]:
    """Return what scripts read of an outcome; shares and differences are fractions."""
    return {
        "study": outcome.study, "run": outcome.run, "finished": outcome.finished, "answer": outcome.answer,
        "exit_code": code, "baseline": outcome.baseline or None, "differs": list(outcome.differs),
        "notes": list(outcome.notes),
        "rows": [
            {
                "row": one.row.plain(), "answer": one.answer, "file": one.file, "line": one.line,
                "numbers": [_plain(finding) for finding in one.findings],
            }
            for one in outcome.answers
        ],
    }  # fmt: skip


def _plain(one: Finding) -> dict[str, Any]:
    change = one.change
    counts = {} if change is None else {
        "before": change.a, "now": change.b, "both": change.both, "newly_broken": change.only_a,
        "newly_saved": change.only_b, "neither": change.n - change.both - change.only_a - change.only_b,
        "p_value": change.p_value, "lost": list(change.lost), "won": list(change.won),
    }  # fmt: skip
    return {
        "model": one.model, "data": one.data, "threat": one.threat, "eps": one.eps_written, "attack": one.attack,
        "class": one.class_name, "cells": list(one.cells), "answer": one.answer, "n": one.n, "value": one.value,
        "low": one.low, "high": one.high, "verdict": one.verdict, "accepted": one.accepted or None,
        "doubts": list(one.doubts), "more_images": one.more,
        "adjusted_p_value": one.p_value, **({"change": counts} if counts else {}), "text": one.line,
    }  # fmt: skip


__all__ = ["ANSWERS", "MET", "MISSED", "UNSURE", "Answer", "Finding", "Outcome", "more_for_difference",
           "more_for_share", "plain", "points", "settled", "together"]  # fmt: skip
