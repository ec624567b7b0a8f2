"""Cascades, restarts and targets: survivors only, costs that add up, goals that are not forgotten."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from assay.attacks.baselines import UniformNoise
from assay.attacks.gradient import BIM, FGSM, PGD
from assay.core.compose import (
    ByNorm,
    Cascade,
    DiverseStart,
    EachTarget,
    Restarts,
    SmallestBudget,
    Through,
    WhileInReach,
    run,
    stages,
)
from assay.core.errors import BadInput
from assay.core.goal import OutOfTop, Targeted, Toward, Untargeted
from assay.core.objective import margin
from assay.core.oracle import Access, Oracle, TorchOracle
from assay.core.result import nothing
from assay.core.search import Keeps
from assay.core.sweep import first_look, sweep
from assay.vocabulary import Question
from tests.support import checks
from tests.support.bench import Case, Linear, Remembering, case

METHODS = {
    "restarts": Restarts(PGD(3), 3),
    "each-target": EachTarget(PGD(3), 3),
    "cascade": Cascade((FGSM(), UniformNoise(), PGD(3))),
    "diverse": DiverseStart(PGD(3)),
    "while-in-reach": WhileInReach(DiverseStart(PGD(2)), 2, 4),
    "nested": Cascade((FGSM(), Restarts(EachTarget(PGD(2), 2), 2))),
    "smallest": SmallestBudget(PGD(3), 5),
    "smallest-of-starts": SmallestBudget(Restarts(PGD(2), 2), 3),
}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_promises_of_compositions(method: str, check, norm: str) -> None:
    composed, here = METHODS[method], situation(norm)
    if check is checks.check_finished_rows and method != "cascade" and method != "restarts":
        pytest.skip("the look that ranks the targets judges no one")
    if check is checks.check_counts and method in ("each-target", "nested"):
        counts_of_each_target(composed, here)
        return
    check(composed, here)


# the same object each time: it keeps the runs that several checks read
situation = functools.cache(case)


def counts_of_each_target(method, here: Case) -> None:
    """As `check_counts`; the ranking look is a forward and a query."""
    here.model.forwards = here.model.backwards = 0
    found = here.run(method)
    assert int(found.forwards.sum()) == here.model.forwards
    assert int(found.queries.sum()) == here.model.forwards
    assert int(found.backwards.sum()) == here.model.backwards


@pytest.mark.parametrize("goal", ["targeted", "out-of-top"])
@pytest.mark.parametrize("method", ["restarts", "cascade"])
def test_other_goals_hold_in_compositions(method: str, goal: str) -> None:
    checks.check_honest(METHODS[method], case("linf", goal))


def test_the_first_start_is_the_attack_itself_and_more_starts_only_add() -> None:
    here = case("linf", n=30)
    alone = here.run(PGD(3))
    before = here.run(Restarts(PGD(3), 1))
    assert torch.equal(before.x, alone.x)
    for n in (2, 5):
        more = here.run(Restarts(PGD(3), n))
        assert bool((more.success >= before.success).all())
        assert torch.equal(more.x[alone.success], alone.x[alone.success])
        before = more
    assert int(before.success.sum()) >= int(alone.success.sum())


def test_every_restart_starts_elsewhere() -> None:
    here = case("linf", n=3)
    here = here.but(x=here.x[2:], goal=Untargeted(here.goal.y[2:]), threat=here.threat.at(0.001))
    oracle = Remembering(TorchOracle(here.model))
    here.run(Restarts(PGD(1), 4), oracle=oracle)
    starts = torch.cat([points for _, points, _ in oracle.looks[::2]])
    assert len(starts) == 4
    assert len({tuple(start.flatten().tolist()) for start in starts}) == 4


class Plateau(torch.nn.Module):
    """Flat where the mean of 16 pixels is below .6, then a slope towards class 1; class 2 leads onto it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(1)[:, :16].mean(1)
        slope = 20 * (mean - 0.6).relu()
        return torch.stack([torch.full_like(slope, 0.5), slope, 0.1 * mean - 1], 1)


def test_a_diverse_start_leaves_a_plateau_where_random_starts_stay() -> None:
    """The mean of a random point is all but that of the image; half of the mixtures of logits lead to the slope."""
    x = torch.full((64, 1, 8, 8), 0.5)
    here = Case(Plateau(), x, Untargeted(torch.zeros(64, dtype=torch.int64)), case("linf").threat.at(0.15))
    short = PGD(6, step_size=0.5, objective=margin)
    assert int(here.run(Restarts(short, 4)).success.sum()) == 0
    found = here.run(DiverseStart(short)).success
    assert 16 <= int(found.sum()) <= 48
    more = here.run(WhileInReach(DiverseStart(short), 6, 6)).success
    assert bool((more >= found).all()) and int(more.sum()) >= 56


def test_more_starts_go_to_samples_within_the_spread_of_their_own_starts() -> None:
    """Gaps of -3 and -2 are one apart and two away; of -3 and -1, two apart and one away."""

    @dataclasses.dataclass(frozen=True)
    class Scripted:
        # the n-th start of a sample comes to the n-th gap of its row
        gaps: tuple[tuple[float, ...], ...]
        asked: list[list[int]] = dataclasses.field(default_factory=list, compare=False)

        keeps, lens, surrogate, first, stages, children = Keeps.FIRST, None, None, None, ("scripted",), ()

        def in_norm(self, norm: str) -> object:
            return self

        def run(self, problem, draws, keeps=None):
            who = problem.x.flatten(1)[:, 0].long().tolist()
            gaps = torch.tensor([self.gaps[i][len(self.asked)] for i in who])
            self.asked.append(who)
            found = nothing(problem.x)
            return found._replace(gap=gaps, success=gaps > 0, size=torch.zeros_like(gaps))

    method = Scripted(((-3, -2, 1, 1), (-3, -1, -2, -1.5), (-3, 2, 0, 0), (-1, -3, -5, 4)))
    x = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2).contiguous()
    here = Case(torch.nn.Identity(), x, Untargeted(torch.zeros(4, dtype=torch.int64)), case("linf").threat)
    found = here.run(WhileInReach(method, 2, 4))
    assert method.asked == [[0, 1, 2, 3], [0, 1, 2, 3], [1, 3], [1, 3]]
    assert found.gap.tolist() == [-2, -1, 2, 4]
    with pytest.raises(BadInput, match="2 or more"):
        WhileInReach(method, 1, 4)


def test_a_cascade_asks_each_part_about_the_survivors_alone() -> None:
    here = case("linf", n=30)
    fgsm = here.run(FGSM(), Keeps.FIRST)
    oracle = Remembering(TorchOracle(here.model))
    found = here.run(Cascade((FGSM(), BIM(3))), oracle=oracle)
    ids = here.draws.ids
    later = {who for asked, _, _ in oracle.looks[2:] for who in asked}
    assert later == set(ids[~fgsm.success].tolist())
    assert torch.equal(found.x[fgsm.success], fgsm.x[fgsm.success])
    survivors = here.run(BIM(3), Keeps.FIRST)
    assert torch.equal(found.success, fgsm.success | survivors.success)
    costs = fgsm.forwards + torch.where(fgsm.success, 0, survivors.forwards)
    assert torch.equal(found.forwards, costs)


def test_a_cascade_is_at_least_as_strong_as_its_parts() -> None:
    here = case("l2", n=30)
    parts = (BIM(3), PGD(5))
    whole = here.run(Cascade(parts)).success
    for part in parts:
        assert bool((whole >= here.run(part, Keeps.FIRST).success).all())


def test_as_attacked_keeps_the_most_damaging_of_several_runs() -> None:
    here = case("linf", n=30)
    found = here.run(Restarts(PGD(3), 3), Keeps.LAST)
    runs = [run(PGD(3), here.problem(), draws, keeps=Keeps.LAST) for draws in (here.draws, *_later(here, 2))]
    assert torch.equal(found.success, torch.stack([one.success for one in runs]).any(0))
    assert torch.allclose(found.gap, torch.stack([one.gap for one in runs]).amax(0), atol=1e-5)
    assert torch.equal(found.forwards, torch.full_like(found.forwards, 12))


def _later(here: Case, n: int):
    return [here.draws.fold(f"restart {i}") for i in range(1, n + 1)]


def test_smallest_keeps_the_smallest_of_several_runs() -> None:
    here = case("l2", n=30)
    parts = (BIM(5), PGD(5))
    found = here.run(Cascade(parts), Keeps.SMALLEST)
    for part in parts:
        alone = here.run(part, Keeps.SMALLEST)
        assert bool((found.success >= alone.success).all())
        assert bool((found.size <= alone.size + 1e-6)[alone.success].all())


def _fan() -> tuple[Linear, torch.Tensor, torch.Tensor]:
    """Return a model whose second-likeliest class is the hardest to reach, and samples of its class 0."""
    weight = torch.zeros(4, 3)
    weight[0, 0] = 1
    weight[0, 1] = 0.95  # runs along with class 0: close behind, never ahead
    weight[1, 2] = 3
    model = Linear(weight, torch.tensor([0.0, 0.0, -1.6]))
    x = torch.full((6, 1, 2, 2), 0.5)
    x[:, 0, 0, 0] += torch.linspace(0, 0.3, 6)
    return model, x, torch.zeros(6, dtype=torch.int64)


def test_each_target_reaches_what_the_likeliest_target_hides() -> None:
    model, x, y = _fan()
    here = Case(model, x, Untargeted(y), dataclasses.replace(case("linf").threat, eps=0.3))
    climbing = BIM(5, objective=margin)
    assert not bool(here.run(EachTarget(climbing, 1)).success.any())
    found = here.run(EachTarget(climbing, 2))
    assert bool(found.success[:3].all())
    # one look to rank, then six looks towards the first target in vain
    assert int(found.forwards[0]) == 1 + 6 + int(found.looks[0]) - 7


def test_each_target_goes_to_the_likeliest_first_and_uses_a_known_look() -> None:
    here = case("linf", n=8)
    oracle = Remembering(TorchOracle(here.model))
    problem = here.problem(oracle)
    known = first_look(EachTarget(PGD(2), 2), problem, here.draws)
    paid = len(oracle.looks)
    with_known = run(EachTarget(PGD(2), 2), dataclasses.replace(problem, known=known), here.draws)
    without = here.run(EachTarget(PGD(2), 2))
    assert torch.equal(with_known.x, without.x)
    assert torch.equal(with_known.forwards + 1, without.forwards)
    assert paid == 1


def test_a_gradient_known_for_another_goal_is_not_taken_for_a_target_s() -> None:
    """The first look of FGSM climbs away from the label; the first of a targeted run climbs to its target."""
    here = case("linf", n=8)
    problem = dataclasses.replace(here.problem(), known=first_look(FGSM(), here.problem(), here.draws))
    assert problem.known is not None
    assert problem.known.seen.grad is not None
    for method in (EachTarget(BIM(3), 2), Cascade((EachTarget(BIM(3), 2), BIM(3)))):
        known, fresh = run(method, problem, here.draws), here.run(method)
        assert torch.equal(known.x, fresh.x)
        assert torch.equal(known.success, fresh.success)


def test_each_target_refuses_a_goal_it_would_forget() -> None:
    y = case("linf").goal.y
    for goal in (Targeted(y, (y + 1) % 5), OutOfTop(y, 2), Toward(y, (y + 1) % 5)):
        with pytest.raises(BadInput, match="untargeted"):
            case("linf").but(goal=goal).run(EachTarget(PGD(2), 2))


def test_each_target_takes_at_most_the_classes_there_are() -> None:
    here = case("linf")
    for one, other in zip(here.run(EachTarget(PGD(2), 4)), here.run(EachTarget(PGD(2), 9)), strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


def test_each_target_keeps_refusals_out() -> None:
    """A refusal is neither a target nor a success."""
    here = case("linf", n=20)
    goal = Untargeted(here.goal.y, reject=4)
    found = here.but(goal=goal).run(EachTarget(PGD(5), 3))
    assert torch.equal(found.success, goal.reached(found.logits))
    assert not bool((found.success & (found.logits.argmax(1) == 4)).any())
    more = here.but(goal=goal).run(EachTarget(PGD(5), 9))
    assert not bool((more.success & (more.logits.argmax(1) == 4)).any())


def test_a_cascade_says_which_part_broke_a_sample() -> None:
    here = case("linf", n=60)
    here = here.but(threat=here.threat.at(0.1))
    whole = Cascade((UniformNoise(), Cascade((FGSM(), BIM(3))), Restarts(PGD(10), 3)), ("one", "two", "three"))
    assert stages(whole) == ("one", "fgsm", "bim", "three")
    found = here.run(whole)
    noise = run(UniformNoise(), here.problem(), here.draws.fold("part 0")).success
    fgsm = here.run(FGSM(), Keeps.FIRST).success
    assert torch.equal(found.success & (found.part == 0), noise)
    assert torch.equal(found.success & (found.part == 1), fgsm & ~noise)
    assert {0, 1} <= set(found.part[found.success].tolist()) <= {0, 1, 2, 3}
    with pytest.raises(BadInput, match="2 parts and 1 names"):
        Cascade((FGSM(), BIM()), ("one",))


@dataclasses.dataclass(frozen=True)
class Backwards:
    """A lens that shows every gradient the wrong way round, and asks twice."""

    access = Access.GRADIENT
    passes = (2, 2)

    def __call__(self, oracle):
        return _Mirror(oracle)


@dataclasses.dataclass(frozen=True)
class _Mirror:
    oracle: Oracle

    def look(self, points, goal, objective, access, draws):
        seen = self.oracle.look(points, goal, objective, access, draws)
        if seen.grad is None:
            return seen
        twice = type(seen.cost)(*(2 * one for one in seen.cost))
        return seen._replace(grad=-seen.grad, cost=twice)


def test_an_attack_sees_the_model_through_its_lens_and_is_billed_for_it() -> None:
    here = case("linf", n=30)
    method = Through(Backwards(), BIM(3))
    found, plain = here.run(method), here.run(BIM(3))
    assert int(found.success.sum()) < int(plain.success.sum())
    assert torch.equal(found.forwards, torch.full_like(found.forwards, 2 * 3 + 1))
    assert torch.equal(found.backwards, torch.full_like(found.backwards, 6))
    # what is known was seen without the lens
    known = first_look(BIM(3), here.problem(), here.draws)
    assert torch.equal(run(method, dataclasses.replace(here.problem(), known=known), here.draws).x, found.x)
    curve = sweep(method, here.problem(), here.draws, [0.0, 0.05, 0.1])
    assert torch.equal(curve.found[1].x, here.but(threat=here.threat.at(0.05)).run(method).x)
    assert method.access is Access.GRADIENT
    assert stages(method) == ("bim",)
    assert method.keeps is Keeps.LAST


def test_by_norm_is_the_method_of_the_norm() -> None:
    method = ByNorm((("linf", BIM(3)), ("l2", Restarts(PGD(3), 2))))
    for norm, meant in method.choices:
        one, other = case(norm).run(method), case(norm).run(meant)
        assert torch.equal(one.x, other.x)
        curve = sweep(method, case(norm).problem(), case(norm).draws, [0.1, 0.2], Question.WORST_CASE)
        other = sweep(meant, case(norm).problem(), case(norm).draws, [0.1, 0.2], Question.WORST_CASE)
        assert torch.equal(curve.found[1].x, other.found[1].x)
    with pytest.raises(BadInput, match="works in linf, l2, not in l1"):
        case("l1").run(method)


@pytest.mark.parametrize(
    "empty", [lambda: Cascade(()), lambda: Restarts(PGD(), 0), lambda: EachTarget(PGD(), 0), lambda: ByNorm(())]
)
def test_an_empty_composition_is_an_error_not_a_robust_model(empty) -> None:
    with pytest.raises(BadInput, match="attacks nothing"):
        empty()
