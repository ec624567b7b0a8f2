"""A composition of the user's own: one file, and everything that takes a method takes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import assay
from assay.attacks import ATTACKS, AttackEntry, build
from assay.attacks.gradient import FGSM, PGD
from assay.attacks.square import Square
from assay.audit.audit import audit_run
from assay.audit.planted import plant_and_search
from assay.audit.subject import leaves, lengthened, passes_of
from assay.core.compose import (
    Cascade,
    Composition,
    Passes,
    Restarts,
    SmallestBudget,
    Transferred,
    first_attack,
    most_passes,
    stages,
)
from assay.core.errors import BadInput
from assay.core.oracle import Access, TorchOracle
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import make_plan
from assay.evaluation.study.attacks import STUDY_ATTACKS, describe
from assay.models import Classifier
from tests.support import checks
from tests.support.bench import case
from tests.support.by_turns import ByTurns
from tests.support.subjects import network, subject
from tests.support.tiny import data, rows, run_here, study

OWN = ByTurns(PGD(3), Square(5))


def by_turns(rounds: int = 2) -> ByTurns:
    return dataclasses.replace(OWN, rounds=rounds)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = AttackEntry(by_turns, 1, ("linf", "l2"), "two attacks by turns", "these tests", "composition")
    for names in (ATTACKS, STUDY_ATTACKS):
        monkeypatch.setitem(names, "by-turns", entry)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_promises(check, norm: str) -> None:
    check(OWN, case(norm))


def test_it_says_what_it_is() -> None:
    assert isinstance(OWN, Composition)
    assert (OWN.access, stages(OWN), first_attack(Restarts(OWN, 2))) == (Access.GRADIENT, ("pgd", "square"), PGD(3))
    # four looks and three gradients, and five looks, twice
    assert most_passes(OWN, "linf") == Passes(18, 6)
    assert most_passes(SmallestBudget(Restarts(OWN, 3), 5), "linf") == Passes(270, 90)


def test_attack_and_sweep() -> None:
    here = case("linf")
    given = (here.model, here.x, here.goal.y)
    one = assay.attack(OWN, *given, assay.Linf(0.06))
    alone = assay.attack(PGD(3), *given, assay.Linf(0.06))
    assert 0 < int(alone.success.sum()) <= int(one.success.sum())
    assert torch.equal(one.x_adv[alone.success], alone.x_adv[alone.success])
    threats = [assay.Linf(eps) for eps in (0.0, 0.02, 0.06)]
    for question in ("as_attacked", "worst_case"):
        curve = assay.sweep(OWN, *given, threats, question=question)
        assert int(curve[2].success.sum()) >= int(one.success.sum())
        assert int(curve[0].success.sum()) == 2
    down = assay.sweep(OWN, *given, threats, question="worst_case", order="descending")
    assert torch.equal(down[0].success, curve[0].success)


def test_a_method_that_lacks_a_member_is_refused() -> None:
    class Half:
        def run(self, problem, draws, keeps=None): ...

    here = case("linf")
    with pytest.raises(BadInput, match=r"expected an attack such as assay.PGD"):
        assay.attack(Half(), here.model, here.x, here.goal.y, assay.Linf(0.06))


def test_the_audit_walks_over_it() -> None:
    composed = Cascade((FGSM(), OWN))
    assert [leaf.family for leaf in leaves(composed)] == ["gradient", "gradient", "score"]
    assert lengthened(composed) == Cascade((FGSM(), ByTurns(PGD(6), Square(5))))
    assert passes_of(composed, "linf", 4) == 2 + 2 * (4 + 5)
    moved = ByTurns(PGD(3), Transferred(PGD(3), TorchOracle(network())))
    assert [leaf.elsewhere for leaf in leaves(moved)] == [False, True]
    assert lengthened(moved) == dataclasses.replace(moved, one=PGD(6))
    given = subject(network())
    problem = dataclasses.replace(given.problem, oracle=TorchOracle(given.module))
    assert plant_and_search(given.module, problem, given.draws, OWN).found > 0
    with pytest.raises(BadInput, match="The method attacks another model"):
        plant_and_search(given.module, problem, given.draws, moved)


@pytest.mark.parametrize("question", ["as_attacked", "worst_case"])
@pytest.mark.parametrize("wrapped", [{}, {"restarts": 2}, {"smallest": 2}])
def test_a_study_by_a_line_of_the_table(
    table: None, tiny_model: str, tiny_source: str, tmp_path: Path, wrapped: dict[str, int], question: str
) -> None:
    given = study(tiny_model, tiny_source, attacks={"attack": "by-turns", **wrapped}, question=question)
    (cell,) = make_plan(given, Loader()).cells
    run = run_here(tmp_path / "run", given)
    bound, results = passes_per_sample(cell).times(30), run.results()
    assert sum(one.forwards for one in results) <= bound.forwards
    assert sum(one.backwards for one in results) <= bound.backwards
    assert {row["stage"] for row in rows(run) if row["stage"]} <= {"1 pgd", "2 square"}
    assert len(run.stages()) == 2 * len(results)
    if question == "worst_case" and not wrapped:
        # the audit lengthens it, plants solutions for it, and counts its families
        assert {digest for one in audit_run(run) for digest in one.cells} == {cell.digest}


def test_a_study_by_the_object(table: None, tiny_model: str, tmp_path: Path) -> None:
    from assay.models import load_model

    assert describe(Restarts(build("by-turns"), 2)) == {"attack": "by-turns", "restarts": 2}
    model = load_model(tiny_model)
    assert isinstance(model, Classifier)
    run = assay.evaluate(model, data(8), attacks=[OWN], threat=assay.Linf("4/255"), out=tmp_path / "run")
    assert {one.attack for one in run.results()} == {"by-turns"}
    with pytest.raises(BadInput, match="no attack of the table"):
        describe(ByTurns(FGSM(), FGSM()))
