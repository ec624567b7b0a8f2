"""From findings, looks and broken survivors to a verdict, and the sentence that says why."""

from __future__ import annotations

import dataclasses

import pytest

from assay.audit.checks import CHECKS, examine, flags
from assay.audit.families import family_looks, needed
from assay.audit.verdict_rule import FEWEST, RESOLUTION, Limits, judge, reason, refuting
from assay.evaluation.records.verdicts import Attempt
from tests.support.subjects import CLEAN, seen

CLEAR = examine(CLEAN)
DOUBT = examine(seen("answers", differ=0.5))


def looked(asked: int, survived: int = 80, n: int = 100, broken: int = 0, certified: int = 0) -> Limits:
    """Return the limits of an audit whose black box looked at `asked` survivors, and its other families at all."""
    families = {"gradient": survived - certified, "minimum norm": survived - certified, "black box": asked}
    made = [Attempt(f"{one} look", "", m, broken, 0, family=one) for one, m in families.items()]
    return Limits(n, survived, certified, family_looks(made, survived - certified, n))


ALL = looked(80)


@pytest.mark.parametrize(("asked", "least"), [(1, 2), (200, 2), (201, 3), (1000, 10)])
def test_two_and_one_in_a_hundred_refute(asked: int, least: int) -> None:
    assert refuting(asked) <= least
    limits = looked(asked, asked, max(asked, 100))
    assert judge(CLEAR, asked, asked, least, limits) == "refuted"
    assert judge(DOUBT, asked, asked, least - 1, limits) == "suspect"
    # between trusted and refuted lies at least half of what refutes
    assert judge(CLEAR, asked, asked, least - 1, limits) == "suspect"
    assert judge(CLEAR, asked, asked, (least - 1) // 2, limits) == "trusted"


def test_nobody_asked_refutes_nothing() -> None:
    assert judge(CLEAR, 0, 0, 0, Limits(100, 0)) == "trusted"
    assert judge(DOUBT, 3, 0, 0, looked(3, 3)) == "suspect"


def test_trust_demands_a_resolution_of_five_points() -> None:
    enough = needed(80, 200, RESOLUTION)
    assert 15 < enough < 25
    assert looked(enough, 80, 200).resolution == RESOLUTION
    assert judge(CLEAR, 80, 0, 0, looked(enough, 80, 200)) == "trusted"
    assert judge(CLEAR, 80, 0, 0, looked(enough - 1, 80, 200)) == "suspect"
    # where no family could look, nothing is known
    assert judge(CLEAR, 80, 0, 0, Limits(200, 80)) == "suspect"
    said = reason(CLEAR, (), "suspect", looked(enough - 1, 80, 200), settle="assay audit runs/a --preset standard")
    assert said.startswith("Looked at too few: at most 5.5 points of the 40.0 % could fall to a black box without")
    assert said.endswith("survivors looked at none broke); `assay audit runs/a --preset standard` would settle it.")


def test_few_images_are_never_trusted_however_closely_they_are_looked_at() -> None:
    assert FEWEST == 59 and 0.95**FEWEST <= 0.05 < 0.95 ** (FEWEST - 1)
    limits = looked(20, 20, 20)
    assert limits.resolution == 0
    assert judge(CLEAR, 20, 0, 0, limits) == "suspect"
    assert judge(CLEAR, 50, 0, 0, looked(50, 50, FEWEST)) == "trusted"
    said = reason(CLEAR, (), "suspect", looked(13, 13, 20))
    assert said.startswith("20 images are too few to be trusted: what withstands is 43 to 82 % of all such images")
    assert "evaluate 59 or more" in said
    # it is said beside what else throws doubt
    assert "20 images are too few" in reason(DOUBT, (), "suspect", limits)


def test_what_broke_in_a_look_counts_by_itself() -> None:
    # one that an attack broke of ten outweighs another of the family that looked at all and broke none
    made = [Attempt("all", "", 80, 0, 0, family="black box"), Attempt("ten", "", 10, 1, 0, family="black box")]
    (look,) = family_looks(made, 80, 100)
    assert (look.attack, look.asked, look.broken) == ("ten", 10, 1) and look.bound > 0.2
    assert family_looks([dataclasses.replace(one, broken=0) for one in made], 80, 100)[0].attack == "all"
    assert family_looks([Attempt("other", "", 10, 1, 0)], 80, 100) == ()
    assert judge(CLEAR, 80, 0, 0, looked(80, broken=1)) == "suspect"


def test_what_is_certified_needs_no_look() -> None:
    assert looked(30, certified=50).resolution == 0
    assert judge(CLEAR, 80, 0, 0, Limits(100, 80, 80)) == "trusted"
    assert "of the 30.0 %" in reason(CLEAR, (), "trusted", looked(20, certified=50))


def test_a_check_that_only_explains_raises_no_doubt() -> None:
    explained = examine(seen("answers", probabilities=True))
    assert any(one.flag for one in explained)
    assert flags(explained) == []
    assert judge(explained, 80, 0, 0, ALL) == "trusted"


def test_nothing_is_trusted_on_an_escalation_that_was_stopped() -> None:
    assert judge(CLEAR, 80, 80, 0, ALL, stopped=True) == "suspect"
    assert judge(CLEAR, 80, 80, 2, ALL, stopped=True) == "refuted"
    unmade = (Attempt("margin", "", 10, 1, 5), Attempt("square", "", 0, 0, 0, 9))
    said = reason(CLEAR, unmade, "suspect", ALL, stopped=True)
    assert said.startswith("No check flags") and said.endswith("stopped before square was tried on every survivor.")


def test_a_verdict_that_rests_on_a_cut_escalation_names_what_was_left_out() -> None:
    attempts = tuple(Attempt(name, "", 10, 3, 5, 2) for name in ("a", "b", "c", "d", "e"))
    end = "; the limit of passes was reached before a, b, c and 2 more were tried on every survivor."
    for findings, verdict in ((DOUBT, "suspect"), (DOUBT, "refuted")):
        assert reason(findings, attempts, verdict, ALL).endswith(end)
    assert end.removesuffix(".") in reason(CLEAR, attempts, "trusted", ALL)


def test_the_reason_names_the_first_cause_and_the_best_attempt() -> None:
    attempts = (Attempt("margin", "", 10, 1, 5), Attempt("square", "", 9, 3, 5))
    trusted = reason(CLEAR, (), "trusted", ALL)
    assert trusted.startswith("Every mandatory check passed; each of the 80 survivors withstood gradients with another")
    assert "at most 2.0 points of the 80.0 % could fall to a black box" in reason(CLEAR, (), "trusted", looked(50))
    refuted = reason(DOUBT, attempts, "refuted", ALL)
    cause = CHECKS["randomness"].cause
    assert refuted == f"T{cause[1:]}; square breaks 3 of 9 survivors."
    assert reason(DOUBT, (dataclasses.replace(attempts[0], broken=0),), "suspect", ALL).endswith(
        "nothing more was broken."
    )
    assert "too few" in reason(DOUBT, attempts[:1], "suspect", ALL)
    assert reason(CLEAR, attempts, "refuted", ALL).startswith("A stronger attack finds more")


def test_what_is_certified_counts_among_the_survivors_that_withstood() -> None:
    # of 50 that nothing certifies two broke: one in 25 of these, and far below one in a hundred of all survivors
    assert judge(CLEAR, 50, 50, 2, looked(50, 50, 1000)) == "refuted"
    proved = looked(50, 950, 1000, certified=900)
    assert judge(CLEAR, 950, 50, 2, proved) == "trusted"
    assert judge(CLEAR, 950, 50, 10, proved) == "refuted"
