"""AutoAttack and the cascade: their stages as published, what they cost, and any number of classes."""

from __future__ import annotations

import pytest
import torch

from assay.attacks import build
from assay.attacks.apgd import APGD, APGDL1
from assay.attacks.autoattack import Version, auto_attack, cascade
from assay.attacks.fab import FAB
from assay.attacks.square import Square
from assay.core.compose import Cascade, EachTarget, Restarts, Through, for_norm, stages
from assay.core.lenses import Expectation
from assay.core.objective import cross_entropy, dlr, dlr_targeted
from tests.support.bench import Case, case


def parts(version: Version, norm: str) -> dict[str, object]:
    whole = for_norm(auto_attack(version), norm)
    assert isinstance(whole, Cascade)
    return dict(zip(whole.names, whole.parts, strict=True))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_standard_is_the_published_ensemble(norm: str) -> None:
    assert parts(Version.STANDARD, norm) == {
        "apgd-ce": APGD(100, objective=cross_entropy),
        "apgd-t": EachTarget(APGD(100, objective=dlr_targeted), 9),
        "fab-t": EachTarget(FAB(100), 9),
        "square": Square(5000),
    }


def test_in_l1_it_climbs_from_five_starts_towards_five_targets() -> None:
    own = parts(Version.STANDARD, "l1")
    assert own["apgd-ce"] == Restarts(APGDL1(100), 5)
    assert own["apgd-t"] == EachTarget(APGDL1(100, objective=dlr_targeted), 5)
    assert own["fab-t"] == EachTarget(FAB(100), 9)


def test_plus_has_five_starts_of_each() -> None:
    own = parts(Version.PLUS, "linf")
    assert list(own) == ["apgd-ce", "apgd-dlr", "fab", "fab-restarts", "square", "apgd-t", "fab-t", "fab-t-restarts"]
    assert own["fab-restarts"] == Restarts(FAB(100, random_start=True), 4)
    assert own["fab-t-restarts"] == EachTarget(Restarts(FAB(100, random_start=True), 4), 9)
    # one leaf each, so that records name them one by one
    assert stages(auto_attack(Version.PLUS)) == tuple(own)


def test_rand_climbs_on_the_mean_of_twenty_looks() -> None:
    lens = Expectation(20)
    assert parts(Version.RAND, "l2") == {
        "apgd-ce": Through(lens, APGD(100)),
        "apgd-dlr": Through(lens, APGD(100, objective=dlr)),
    }


def test_rand_breaks_a_model_that_answers_at_random() -> None:
    class Jittery(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x + 0.05 * torch.randn_like(x))

    torch.manual_seed(0)
    here = case("linf", n=12)
    found = here.but(model=Jittery(here.model)).run(auto_attack(Version.RAND, steps=5))
    plain = here.run(APGD(5))
    assert int(found.success.sum()) >= int(plain.success.sum()) - 1
    assert int(found.backwards.max()) == 2 * 5 * 20


def standing(name: str, classes: int, norm: str = "linf", **options: object) -> tuple[int, int]:
    """Return the passes of a sample that stands: with a budget of nothing all do that were right."""
    here = case(norm, n=4, classes=classes)
    found = here.but(threat=here.threat.at(1e-7)).run(build(name, **options))
    assert not bool(found.success[2:].any())
    assert len(set(found.forwards[2:].tolist())) == 1
    return int(found.forwards[2]), int(found.backwards[2])


def test_a_survivor_of_standard_costs_what_is_promised() -> None:
    """21 and 20; 1 for the ranking and 9 times 21 and 20, twice; and the queries of Square."""
    assert standing("autoattack", 10, steps=20, queries=50) == (21 + 2 * (1 + 9 * 21) + 50, 20 + 2 * 180)


@pytest.mark.parametrize(("norm", "cost"), [("linf", (684, 405)), ("l2", (703, 396)), ("l1", (585, 505))])
def test_a_survivor_of_the_cascade_costs_an_eighth(norm: str, cost: tuple[int, int]) -> None:
    # standard: 6,921 forwards, of which 5,000 are Square's, and 1,900 backwards, in every norm
    assert 8 * sum(cost) <= 6921 + 1900
    assert standing("cascade", 10, norm) == cost


@pytest.mark.parametrize(("classes", "targets"), [(2, 1), (3, 2), (4, 3), (1000, 9)])
def test_models_with_fewer_classes_have_fewer_targets(classes: int, targets: int) -> None:
    short = {"steps": 4, "queries": 3, "targets": 9}
    forwards, backwards = standing("autoattack", classes, **short)
    assert forwards == 5 + 2 * (1 + targets * 5) + 3
    assert backwards == 4 + 2 * targets * 4


@pytest.mark.parametrize("classes", [2, 3, 4, 1000])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["autoattack", "cascade"])
def test_they_break_models_of_any_number_of_classes(name: str, norm: str, classes: int) -> None:
    here = case(norm, n=12, classes=classes)
    found = here.run(build(name, steps=6, queries=5, targets=2))
    assert int(found.success[2:].sum()) > 0


def test_the_cascade_sees_through_saturated_logits() -> None:
    """Logits a thousand times as large have no gradient of cross-entropy; the cascade breaks as many."""

    class Hot(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1000 * self.inner(x)

    here = case("linf", n=20)
    hot = Case(Hot(here.model), here.x, here.goal, here.threat)
    cool, seen = (int(one.run(cascade(steps=10, queries=10)).success.sum()) for one in (here, hot))
    blind = int(hot.run(APGD(10)).success.sum())
    assert seen == cool
    assert blind < seen


def test_who_is_wrong_before_the_attack_costs_the_look_that_ranks() -> None:
    """With the targets ranked by a look at the image, a sample that is wrong there is finished."""
    here = case("linf", n=6)
    found = here.run(EachTarget(APGD(3), 2))
    assert found.forwards[:2].tolist() == [1, 1]
    assert bool(found.success[:2].all())
    assert torch.equal(found.x[:2], here.x[:2])
