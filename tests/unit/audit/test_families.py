"""How many survivors each family of attacks looks at, whom it draws, and what it makes of what it sees."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from assay.attacks import PGD
from assay.audit.auditor import LEAST_PASSES, PRESETS
from assay.audit.families import Looker, longest, looking, needed, plan
from assay.audit.progress import PassLimit
from assay.audit.robust_numbers import Group, RobustNumber
from assay.audit.verdict_rule import RESOLUTION
from assay.core.budget import parse_budget
from assay.core.oracle import Access, TorchOracle
from assay.core.threat import L0, L1, L2, Linf, Threat, YCbCr
from tests.support.subjects import CLEAN, N, network, subject

COSTS = {"gradient": 60.0, "minimum norm": 120.0, "black box": 100.0}


def test_gradients_look_at_all_and_the_others_at_what_the_resolution_takes() -> None:
    # too little to pay for anything more: what the resolution takes is looked at all the same
    assert plan(COSTS, 90, 30, 0.0).asked == {"gradient": 90, "minimum norm": 30, "black box": 30}
    # 12,000 passes pay for the first looks, and 10 more of the minimum norm
    enough = 90 * 60 + 30 * 220 + 10 * 120
    assert plan(COSTS, 90, 30, enough).asked == {"gradient": 90, "minimum norm": 40, "black box": 30}
    assert plan(COSTS, 90, 30, enough).times == 1
    # all are looked at, three times as long
    assert plan(COSTS, 90, 30, 90 * 280 * 3.5).times == 3
    assert plan(COSTS, 90, 30, float("inf")).times == 8
    assert plan(COSTS, 20, 30, 0.0).asked == dict.fromkeys(COSTS, 20)


def test_presets_reach_their_resolution() -> None:
    assert [PRESETS[name].resolution for name in ("quick", "standard", "thorough")] == [RESOLUTION, 0.02, 0.0]
    assert needed(180, 200, 0.05) == 42
    # of 180 one that is missed is missed by 171 looks in one of twenty draws
    assert needed(180, 200, 0.0) == 171
    # ten points may go unseen where ten are left
    assert needed(10, 200, 0.05) == 0
    assert LEAST_PASSES + PRESETS["quick"].looks <= 150


def test_survivors_are_drawn_at_random_by_seed_and_image() -> None:
    given = subject(network())
    half = dataclasses.replace(given, survived=torch.arange(N) % 2 == 0)
    assert sorted(given.order("a").tolist()) == list(range(N))
    assert given.order("a").tolist() != list(range(N)) and given.order("a").tolist() != given.order("b").tolist()
    # fewer survivors are drawn in the same order: a look in a larger ball is a look in a smaller one
    assert half.order("a").tolist() == [i for i in given.order("a").tolist() if i % 2 == 0]
    firsts = [dataclasses.replace(given, draws=given.draws.fold(seed)).drawn("a", 2).tolist() for seed in range(400)]
    counts = torch.bincount(torch.tensor(firsts).flatten(), minlength=N)
    # each of eight in a quarter of 400 draws, four standard errors of 8.7
    assert int((counts - 100).abs().max()) < 35


@pytest.mark.parametrize(
    ("threat", "families"),
    [
        (Linf(0.1), {"gradient", "minimum norm", "black box"}),
        (L2(0.5), {"gradient", "minimum norm", "black box"}),
        (L1(3.0), {"gradient", "minimum norm", "black box"}),
        (L0(3), {"minimum norm", "black box"}),
        (YCbCr((0.1, 0.1, 0.1)), {"gradient"}),
    ],
)
def test_every_norm_is_looked_at_with_what_it_has(threat: Threat, families: set[str]) -> None:
    given = subject(network(3), threat, channels=3)
    assert set(looking(given)) == families
    assert (longest(given) is None) == (threat.norm.name in ("l0", "ycbcr"))
    looks = Looker(CLEAN).look(given, N, 0.0, PassLimit())
    assert {one.family for one in looks.made} <= families
    assert len(looks.made) == len(families) or len(looks.found.at) >= 2


def test_who_sees_labels_alone_is_looked_at_with_labels() -> None:
    given = subject(network())
    asked = TorchOracle(network(), gives=Access.LABELS)
    labels = dataclasses.replace(given, problem=dataclasses.replace(given.problem, oracle=given.meter.of(asked)))
    assert [one.method.access for one in looking(labels).values()] == [Access.LABELS]  # type: ignore[union-attr]  # single attacks


def test_a_weak_evaluation_is_broken_by_the_first_look_and_the_rest_is_spared() -> None:
    given = subject(network(), Linf(0.3))
    looks = Looker(CLEAN).look(given, 2, 0.0, PassLimit())
    assert len(looks.found.at) == N
    assert [(one.family, one.asked, one.broken) for one in looks.made] == [("gradient", N, N)]
    assert sum(one.broken for one in looks.found.attempts) == N
    assert given.problem.threat.allows(given.problem.threat.size(looks.found.images, given.problem.x)).all()


def test_what_withstood_in_a_larger_ball_is_not_asked_again_in_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.audit.families.CLOSEST", 2)
    looker, limit = Looker(CLEAN), PassLimit()
    large = subject(network(), Linf(1e-4), methods=(PGD(10),))
    first = looker.look(large, N, 0.0, limit)
    assert [(one.asked, one.broken) for one in first.made] == [(N, 0)] * 3
    # the cascade met what came nearest
    assert sum(first.passes.values()) == limit.spent and "nearest ones, cascade" in first.passes
    small = dataclasses.replace(large, problem=large.under(5e-5))
    second = looker.look(small, N, 0.0, again := PassLimit())
    assert [(one.asked, one.broken) for one in second.made] == [(N, 0)] * 3
    assert again.spent == second.passes["nearest ones, cascade"]


def number(statuses: dict[str, str]) -> RobustNumber:
    return RobustNumber((), parse_budget("0.1"), {"cell": statuses})


def test_certified_images_count_as_robust_and_are_not_open() -> None:
    told = {"a": "certified", "b": "survived", "c": "broken", "d": "survived"}
    one = number(told)
    assert (one.survived, one.certified, one.open) == (3, 1, 2)
    both = dataclasses.replace(one, statuses={"cell": told, "other": {**told, "b": "certified", "a": "survived"}})
    assert (both.survived, both.certified, both.open) == (3, 2, 1)
    # an attack that breaks what another run proved is heard
    broken = dataclasses.replace(one, statuses={"cell": told, "other": {**told, "a": "broken"}})
    assert broken.outcome("a") == "broken"
    assert Group((one,), 1.0).pivot is one
