"""What the evaluation is made of: its single attacks, what it costs, and the same with more steps."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from assay.attacks import ATTACKS, FAB, FGSM, PGD, DeepFool, Square, build
from assay.audit.subject import SHARES, CountingOracle, leaves, lengthened, passes_of
from assay.core.compose import (
    ByNorm,
    Cascade,
    EachTarget,
    Method,
    Restarts,
    SmallestBudget,
    Through,
    Transferred,
    for_norm,
    run,
)
from assay.core.finite_differences import FiniteDifferences
from assay.core.lenses import Averaged, Expectation
from assay.core.oracle import TorchOracle
from assay.core.search import Keeps
from assay.core.threat import L0, L1, L2, Linf
from tests.support.subjects import CLASSES, N, network, subject

THREATS = {"linf": Linf(1e-4), "l2": L2(1e-4), "l1": L1(1e-4), "l0": L0(1e-4)}
CASES = [(name, norm) for name, entry in ATTACKS.items() for norm in entry.norms if norm in THREATS]
ELSEWHERE = Transferred(PGD(7), TorchOracle(network()))

COMPOSED: list[tuple[Method, list[str], int, Method]] = [
    (PGD(5), ["gradient"], 6, PGD(10)),
    (FGSM(), ["gradient"], 2, FGSM()),
    (Restarts(PGD(5), 3), ["gradient"], 18, Restarts(PGD(10), 3)),
    (EachTarget(PGD(5), 2), ["gradient"], 13, EachTarget(PGD(10), 2)),
    # there are three other classes
    (EachTarget(PGD(5), 9), ["gradient"], 19, EachTarget(PGD(10), 9)),
    (SmallestBudget(PGD(5), 4), ["gradient"], 24, SmallestBudget(PGD(10), 4)),
    (Cascade((PGD(5), Square(20))), ["gradient", "score"], 26, Cascade((PGD(10), Square(20)))),
    (Through(Expectation(4), PGD(5)), ["gradient"], 24, Through(Expectation(4), PGD(10))),
    (Through(FiniteDifferences(3), PGD(5)), ["score"], 42, Through(FiniteDifferences(3), PGD(10))),
    (ELSEWHERE, ["transfer"], 1, ELSEWHERE),
    (ByNorm((("l2", PGD(1)), ("linf", PGD(5)))), ["gradient"], 6, ByNorm((("l2", PGD(2)), ("linf", PGD(10))))),
    # three differences of logits are three gradients
    (DeepFool(5), ["gradient"], 16, DeepFool(10)),
    (EachTarget(FAB(5), 2), ["gradient"], 13, EachTarget(FAB(10), 2)),
]


@pytest.mark.parametrize(("method", "families", "passes", "longer"), COMPOSED)
def test_of_a_composition(method: Method, families: list[str], passes: int, longer: Method) -> None:
    assert [leaf.family for leaf in leaves(for_norm(method, "linf"))] == families
    assert passes_of(method, "linf", CLASSES) == passes
    assert lengthened(method) == longer


def test_leaves_know_what_they_look_through() -> None:
    assert leaves(Through(Expectation(4), Through(Averaged(3), PGD(5))))[0].averages
    assert not leaves(Through(Averaged(3), PGD(5)))[0].averages
    assert leaves(ByNorm((("l2", PGD(1)), ("linf", Square(9)))))[1].family == "score"


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_of_every_attack_of_the_table(name: str, norm: str) -> None:
    method = build(name)
    found = leaves(for_norm(method, norm))
    assert found
    longer = lengthened(method)
    assert type(longer) is type(method)
    assert passes_of(longer, norm, CLASSES) >= passes_of(method, norm, CLASSES)
    for before, after in zip(found, leaves(for_norm(longer, norm)), strict=True):
        assert after.steps in (before.steps, 2 * before.steps)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_no_attack_costs_much_more_than_it_is_said_to(name: str, norm: str) -> None:
    given = subject(network(), THREATS[norm])
    meter = CountingOracle(given.problem.oracle)
    method = build(name)
    run(method, dataclasses.replace(given.problem, oracle=meter), given.draws, keeps=Keeps.FIRST)
    # a look at the image, and one that judges
    assert meter.spent[0] <= N * (passes_of(method, norm, CLASSES) + 3)


def test_images_are_as_many_as_the_allowance_pays_for() -> None:
    given = subject(network(), allowance=50.0, twin=TorchOracle(network()))
    assert len(given.some("twins", 2, 6).survived) == 4
    assert len(given.some("twins", 1, 6).survived) == 6
    # two are always asked
    assert len(given.some("twins", 1000, 6).survived) == 2
    some = dataclasses.replace(given, survived=torch.arange(N) >= N - 3)
    assert len(some.some("twins", 1, 6, survivors=True).survived) == 3
    assert torch.equal(some.some("twins", 1, 6, survivors=True).problem.x, given.problem.x[-3:])


def test_the_shares_are_the_whole_allowance() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    alone = subject(network(), allowance=80.0)
    # the others divide what nobody spends on a twin
    assert len(alone.some("planted", 3, N).survived) == 5


def test_the_evaluation_is_what_asks_the_model_itself() -> None:
    assert subject(network(), methods=(PGD(5),)).evaluation == PGD(5)
    assert subject(network(), methods=(PGD(5), ELSEWHERE)).evaluation == PGD(5)
    assert subject(network(), methods=(PGD(5), FGSM())).evaluation == Cascade((PGD(5), FGSM()))
    assert subject(network(), methods=(ELSEWHERE,)).evaluation is None
    assert [one.family for one in subject(network(), methods=(PGD(5), ELSEWHERE)).leaves] == ["gradient", "transfer"]
