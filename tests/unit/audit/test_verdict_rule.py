"""From findings and broken survivors to a verdict, and the sentence that says why."""

from __future__ import annotations

import dataclasses

import pytest

from assay.audit.checks import CHECKS, examine, flags
from assay.audit.verdict_rule import judge, reason, refuting
from assay.evaluation.records.verdicts import Attempt
from tests.support.subjects import CLEAN, seen

CLEAR = examine(CLEAN)
DOUBT = examine(seen("answers", differ=0.5))


@pytest.mark.parametrize(("asked", "least"), [(1, 2), (200, 2), (201, 3), (1000, 10)])
def test_two_and_one_in_a_hundred_refute(asked: int, least: int) -> None:
    assert refuting(asked) <= least
    assert judge(CLEAR, asked, asked, least) == "refuted"
    assert judge(DOUBT, asked, asked, least - 1) == "suspect"
    assert judge(CLEAR, asked, asked, least - 1) == "trusted"


def test_nobody_asked_refutes_nothing() -> None:
    assert judge(CLEAR, 0, 0, 0) == "trusted"
    assert judge(DOUBT, 3, 0, 0) == "suspect"


def test_a_check_that_only_explains_raises_no_doubt() -> None:
    explained = examine(seen("answers", probabilities=True))
    assert any(one.flag for one in explained)
    assert flags(explained) == []
    assert judge(explained, 5, 0, 0) == "trusted"


def test_nothing_is_trusted_on_an_escalation_that_was_stopped() -> None:
    assert judge(CLEAR, 5, 5, 0, stopped=True) == "suspect"
    assert judge(CLEAR, 5, 5, 2, stopped=True) == "refuted"
    unmade = (Attempt("margin", "", 10, 1, 5), Attempt("square", "", 0, 0, 0, 9))
    said = reason(CLEAR, unmade, "suspect", stopped=True)
    assert said.startswith("No check flags") and said.endswith("stopped before square was tried on every survivor.")


def test_a_verdict_that_rests_on_a_cut_escalation_names_what_was_left_out() -> None:
    attempts = tuple(Attempt(name, "", 10, 3, 5, 2) for name in ("a", "b", "c", "d", "e"))
    end = "; the limit of passes was reached before a, b, c and 2 more were tried on every survivor."
    for findings, verdict in ((CLEAR, "trusted"), (DOUBT, "suspect"), (DOUBT, "refuted")):
        assert reason(findings, attempts, verdict).endswith(end)


def test_the_reason_names_the_first_cause_and_the_best_attempt() -> None:
    attempts = (Attempt("margin", "", 10, 1, 5), Attempt("square", "", 9, 3, 5))
    assert reason(CLEAR, (), "trusted") == "Every mandatory check passed."
    refuted = reason(DOUBT, attempts, "refuted")
    cause = CHECKS["randomness"].cause
    assert refuted == f"T{cause[1:]}; square breaks 3 of 9 survivors."
    assert reason(DOUBT, (dataclasses.replace(attempts[0], broken=0),), "suspect").endswith("nothing more was broken.")
    assert "too few" in reason(DOUBT, attempts[:1], "suspect")
    assert reason(CLEAR, attempts, "refuted").startswith("A stronger attack finds more")
