"""Each check on constructed evidence: what flags, what does not, the threshold itself, and what was not asked."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from assay.audit.checks import CHECKS, examine
from assay.audit.evidence import Evidence
from assay.audit.planted import Planted
from assay.audit.probes.attacks import Growth, Paths, Tries
from assay.audit.probes.minimum_norm import OtherNorms, Twins
from assay.audit.subject import CleanRefusals
from assay.core.oracle import Access
from assay.evaluation.records.verdicts import Finding
from tests.support.subjects import CLEAN, GUARDED, leaf, seen


def found(check: str, evidence: Evidence) -> Finding:
    return CHECKS[check].find(check, evidence)


def tries(part: str, name: str, broken: int, asked: int) -> Evidence:
    return seen(part, value=Tries(asked, {name: broken}))


def planted(found: int, n: int) -> Evidence:
    return seen("planted", value=Planted(n, n, found, 0, 0, 0))


def leaves(*given: Any) -> Evidence:
    return dataclasses.replace(seen("black_box", value=Tries(0, {})), leaves=given)


def paths(plain: int, other: int, asked: int) -> Evidence:
    return seen("paths", value=Paths(asked, {"cross_entropy": plain, "margin": other}, 0, {}))


def refusals(**changes: Any) -> Evidence:
    return dataclasses.replace(GUARDED, refusals=dataclasses.replace(GUARDED.refusals, **changes))


def clean(n: int, refused: int, fpr: float | None = 0.05) -> Evidence:
    return refusals(clean=CleanRefusals(n, refused, fpr, 500))


FLAGS: list[tuple[str, Evidence, bool]] = [
    ("zero gradients", seen("sight", zero={"cross_entropy": 0.05}), False),
    ("zero gradients", seen("sight", zero={"cross_entropy": 0.06}), True),
    ("zero gradients", seen("sight", zero={"cross_entropy": None}), True),
    # one of the objectives climbed sees
    ("zero gradients", seen("sight", zero={"cross_entropy": 1.0, "dlr": 0.0}, climbed=("cross_entropy", "dlr")), False),
    ("rounding", seen("sight", agreement=0.9), False),
    ("rounding", seen("sight", agreement=0.89), True),
    ("rounding", seen("sight", agreement=0.5, climbed=("margin",)), False),
    ("true gradients", seen("slopes", alignment=0.5), False),
    ("true gradients", seen("slopes", alignment=0.49), True),
    ("true gradients", seen("slopes", alignment=None), True),
    ("randomness", seen("answers", differ=1 / 16), True),
    ("randomness", dataclasses.replace(seen("answers", differ=1.0), leaves=(leaf(averages=True),)), False),
    ("dynamic forward pass", seen("answers", gradients_inside=1), True),
    ("dynamic forward pass", seen("answers", changes=True), True),
    ("objectives", paths(1, 2, 20), False),
    ("objectives", paths(1, 3, 20), True),
    # two images of a hundred are under 5 %
    ("objectives", paths(0, 4, 100), False),
    ("objectives", paths(0, 5, 100), True),
    ("single steps and noise", tries("simple", "fgsm", 1, 10), False),
    ("single steps and noise", tries("simple", "noise", 2, 200), True),
    ("single steps and noise", tries("simple", "noise", 2, 201), False),
    ("minimum norm", tries("nearest", "", 1, 10), False),
    ("minimum norm", tries("nearest", "", 2, 10), True),
    ("black boxes", tries("black_box", "square", 1, 10), False),
    ("black boxes", tries("black_box", "square", 2, 100), True),
    ("black boxes", tries("black_box", "square", 2, 101), False),
    ("network inside", tries("guided", "module", 1, 10), False),
    ("network inside", tries("guided", "module", 2, 10), True),
    ("network inside", tries("guided", "module", 2, 101), False),
    ("neighbourhoods", tries("wide", "gradients of a neighbourhood", 1, 10), False),
    ("neighbourhoods", tries("wide", "gradients of a neighbourhood", 2, 100), True),
    ("more effort", tries("again", "again", 1, 20), False),
    ("more effort", tries("again", "again", 2, 20), True),
    ("growing budgets", seen("growth", success=(0.5, 0.4, 0.9)), False),
    ("growing budgets", seen("growth", success=(0.5, 0.3, 0.9)), True),
    # one image of five is no rule
    ("growing budgets", seen("growth", n=5, success=(0.4, 0.2, 0.9)), False),
    ("unbounded attack", seen("growth", unbounded=0.1), False),
    ("unbounded attack", seen("growth", unbounded=0.11), True),
    ("unbounded attack", seen("growth", unbounded=0.5, n=3), False),
    ("unbounded attack", seen("growth", half_range=0.19), False),
    ("unbounded attack", seen("growth", half_range=0.25), True),
    ("planted solutions", planted(19, 20), False),
    ("planted solutions", planted(18, 20), True),
    ("two families", leaves(leaf(10), leaf(1, Access.LABELS)), False),
    ("two families", leaves(leaf(9), leaf(1, Access.SCORES)), True),
    ("two families", leaves(leaf(10)), True),
    ("two families", leaves(leaf(10), leaf(10, elsewhere=True)), False),
    ("two families", leaves(leaf(100, Access.SCORES)), True),
    ("two families", dataclasses.replace(CLEAN, leaves=(leaf(10),)), False),
    ("two families", dataclasses.replace(leaves(leaf(10)), survived=0), False),
    ("twin distances", seen("twins", value=Twins(32, 1.25, 1.0)), False),
    ("twin distances", seen("twins", value=Twins(32, 1.2, 1.0)), True),
    # where half do not withstand, nothing is hidden
    ("twin distances", dataclasses.replace(seen("twins", value=Twins(32, 1.0, 1.0)), survived=50), False),
    ("twin distances", seen("twins", value=Twins(32, 1.0, 0.0)), False),
    ("steady answers", seen("slopes", instability=0.1), False),
    ("steady answers", seen("slopes", instability=0.11), True),
    ("batch", seen("answers", company=0.1), True),
    ("batch", seen("answers", company=0.1, differ=0.1), False),
    ("probabilities", dataclasses.replace(CLEAN, probabilities=True), True),
    ("probabilities", seen("answers", probabilities=True), True),
    ("silent success", seen("paths", silent=1), True),
    # a network inside that is robust itself need not become more so
    ("twin distances", seen("twins", value=Twins(32, 1.0, 1.0, own=True, eps=0.9)), False),
    ("twin distances", seen("twins", value=Twins(32, 1.0, 1.0, own=True, eps=1.0)), True),
    # the gradient of a step that is known to have none of its own
    ("true gradients", dataclasses.replace(seen("slopes", alignment=0.0), stands_in=("jpeg: the identity",)), False),
    ("detector gradients", refusals(zero=0.05), False),
    ("detector gradients", refusals(zero=0.06), True),
    ("refusals in company", refusals(company=1 / 32), True),
    ("idle detector", refusals(refused=0, clean=CleanRefusals(200, 0)), True),
    ("idle detector", refusals(refused=0), False),
    ("idle detector", refusals(refused=1, clean=CleanRefusals(200, 0)), False),
    # 3.3 to 7.3 % of images as those it was chosen on; 4.6 to 10.9 and 7.6 to 15.1 % of these
    ("threshold drift", clean(200, 14), False),
    ("threshold drift", clean(200, 21), False),
    ("threshold drift", clean(200, 25), True),
    ("threshold drift", clean(200, 0), True),
    ("forced rejection", refusals(forced=1), True),
    ("other norms", dataclasses.replace(GUARDED, other_norms=OtherNorms(16, {"l2": (1.3, 1.0)})), False),
    ("other norms", dataclasses.replace(GUARDED, other_norms=OtherNorms(16, {"l2": (1.2, 1.0), "l1": (3, 1)})), True),
]


@pytest.mark.parametrize(("check", "evidence", "flag"), FLAGS)
def test_a_check_flags_beyond_its_threshold(check: str, evidence: Evidence, flag: bool) -> None:
    finding = found(check, evidence)
    assert finding.flag == flag
    assert finding.value is not None
    assert finding.meaning.endswith(".")
    assert finding.remedy.endswith(".")


def test_the_table_leaves_no_check_untried() -> None:
    assert {check for check, _, flag in FLAGS if flag} == set(CHECKS)


def test_every_check_reads_evidence_that_there_is() -> None:
    assert {check.probe for check in CHECKS.values()} <= {field.name for field in dataclasses.fields(Evidence)}


def test_a_finding_has_the_remedy_of_its_check_where_it_knows_none_better() -> None:
    assert found("planted solutions", planted(18, 20)).remedy == CHECKS["planted solutions"].remedy
    assert found("planted solutions", planted(0, 0)).remedy != CHECKS["planted solutions"].remedy


def test_clean_evidence_has_no_flags_and_every_check_answers() -> None:
    findings = examine(GUARDED)
    assert [one.check for one in findings] == list(CHECKS)
    assert not any(one.flag for one in findings)


def test_what_is_asked_of_defences_is_asked_of_nothing_else() -> None:
    asked = {one.check for one in examine(CLEAN)}
    assert set(CHECKS) - asked == {name for name, check in CHECKS.items() if check.of_defenses}


NOTHING = Tries(0, {})
UNASKED: list[tuple[str, Evidence]] = [
    ("idle detector", refusals(wrong=4, refused=0)),
    ("threshold drift", clean(200, 100, None)),
    ("other norms", CLEAN),
    *((name, CLEAN) for name in ("detector gradients", "refusals in company", "forced rejection")),
    ("zero gradients", seen("sight", climbed=())),
    ("rounding", seen("sight", agreement=None)),
    ("objectives", seen("paths", value=Paths(0, {}, 0, {}))),
    ("single steps and noise", seen("simple", value=NOTHING)),
    ("minimum norm", seen("nearest", value=NOTHING)),
    ("black boxes", seen("black_box", value=NOTHING)),
    # survivors were there, and no attack for this norm
    ("black boxes", seen("black_box", value=Tries(5, {}))),
    ("more effort", seen("again", value=NOTHING)),
    ("more effort", seen("again", value=Tries(5, {}))),
    ("growing budgets", seen("growth", value=Growth(0, (), (), None, None, 0.1))),
    ("unbounded attack", seen("growth", unbounded=None)),
    ("twin distances", CLEAN),
    ("silent success", seen("paths", value=Paths(0, {}, 0, {}))),
]


@pytest.mark.parametrize(("check", "evidence"), UNASKED)
def test_what_could_not_be_asked_has_no_value_and_no_flag(check: str, evidence: Evidence) -> None:
    finding = found(check, evidence)
    assert (finding.value, finding.flag, finding.n) == (None, False, 0)
    assert finding.meaning.startswith("Not asked: ")


@pytest.mark.parametrize("evidence", [planted(0, 0), seen("planted", value=None)])
def test_an_attack_that_was_not_seen_to_find_anything_is_doubted(evidence: Evidence) -> None:
    finding = found("planted solutions", evidence)
    assert (finding.value, finding.flag, finding.n) == (None, True, 0)


def test_findings_say_whether_a_flag_counts() -> None:
    explaining = {"steady answers", "batch", "probabilities", "silent success"}
    assert {one.check for one in examine(CLEAN) if not one.mandatory} == explaining


def test_zero_gradients_name_the_objective_that_sees() -> None:
    finding = found("zero gradients", seen("sight", zero={"cross_entropy": 1.0, "margin": 0.0}, zero_in_double=0.0))
    assert "100.0 % of images (0.0 % in float64)" in finding.meaning
    assert "climb the margin" in finding.remedy
    blind = found("zero gradients", seen("sight", zero={"cross_entropy": 1.0, "margin": 1.0}))
    assert "past what cuts" in blind.remedy
