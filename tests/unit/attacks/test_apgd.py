"""APGD: its schedule, its rule against one written down again, closed forms, and the rule for L1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import build
from assay.attacks.apgd import APGD, APGDL1, apgd, apgd_targeted, checkpoints
from assay.attacks.gradient import PGD
from assay.core.compose import EachTarget, Method, run
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Toward, Untargeted
from assay.core.objective import cross_entropy, dlr, dlr_targeted, margin, scaled_cross_entropy
from assay.core.oracle import Access, Observation, TorchOracle, frozen
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.threat import NORMS, Threat
from tests.support.bench import Curved, Linear, Remembering, case


def test_the_checkpoints_are_the_published_ones() -> None:
    """p_0 = 0, p_1 = 0.22, p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06), times the steps."""
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(1000)[:3] == (220, 410, 570)
    for steps in (1, 2, 3, 5, 10, 37):
        assert all(0 < at < steps for at in checkpoints(steps))
        assert list(checkpoints(steps)) == sorted(set(checkpoints(steps)))


def by_hand(model: nn.Module, x: Tensor, y: Tensor, eps: float, start: Tensor, steps: int) -> list[Tensor]:
    """Return the points of APGD on the cross-entropy in Linf, one sample after the other, in plain words."""
    paths = []
    for i in range(len(x)):
        image, label, at, before = x[i : i + 1], y[i : i + 1], start[i : i + 1], start[i : i + 1]
        size, losses, best, halved, checked, last = 2 * eps, [], None, True, None, 0
        path = [at]
        for t in range(steps):
            point = at.clone().requires_grad_()
            loss = nn.functional.cross_entropy(model(point), label)
            (grad,) = torch.autograd.grad(loss, point)
            losses.append(float(loss.detach()))
            if best is None or losses[-1] > best[0]:
                best = (losses[-1], at, grad)
            checked = losses[0] if checked is None else checked
            if t in checkpoints(steps):
                ups = sum(losses[j] > losses[j - 1] for j in range(last + 1, t + 1))
                halved = ups <= 0.75 * (t - last) or (not halved and checked >= best[0])
                checked, last = best[0], t
                if halved:
                    size, at, grad = size / 2, best[1], best[2]
            z = (at + size * grad.sign()).clamp(image - eps, image + eps).clamp(0, 1)
            mixed = z if t == 0 else at + 0.75 * (z - at) + 0.25 * (at - before)
            at, before = mixed.clamp(image - eps, image + eps).clamp(0, 1), at
            path.append(at)
        paths.append(torch.cat(path))
    return paths


def test_every_point_is_that_of_the_rule_written_down_again() -> None:
    """Sample by sample in float64, with restarts from the best point that happen at different checkpoints."""
    here = case("linf", n=6, dtype=torch.float64)
    start = here.threat.start(here.x, here.draws)
    oracle = Remembering(TorchOracle(here.model))
    problem = Problem(oracle, here.x, here.goal, here.threat, start=start)
    with frozen(here.model):
        search(APGD(40), problem, here.draws, keeps=Keeps.LAST)
        paths = by_hand(here.model, here.x, here.goal.y, float(here.threat.eps), start, 40)
    assert len(oracle.looks) == 41
    for t, (_, points, _) in enumerate(oracle.looks):
        torch.testing.assert_close(points, torch.stack([path[t] for path in paths]), rtol=0, atol=1e-12)


def corner(norm: str, eps: float, objective=cross_entropy) -> tuple[float, float]:
    """Return the best margin APGD reaches on a linear model without a box, and the closed form's."""
    maker = torch.Generator().manual_seed(3)
    weight, x = torch.randn(30, 2, generator=maker), torch.rand(4, 1, 5, 6, generator=maker)
    model = Linear(weight, torch.zeros(2))
    y = model(x).argmax(1)
    threat = Threat(NORMS[norm], eps, (-torch.inf, torch.inf))
    problem = Problem(TorchOracle(model), x, Untargeted(y), threat)
    with frozen(model):
        found = run(build("apgd", objective=objective), problem, Draws.of(list("abcd"), 0), keeps=Keeps.WORST)
        clean = problem.goal.gap(model(x))
    slope = threat.norm.dual((weight[:, 1] - weight[:, 0])[None])
    return float((found.gap - clean).mean()), float(eps * slope)


@pytest.mark.parametrize("objective", [cross_entropy, margin], ids=lambda o: o.__name__)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_linear_model_is_climbed_to_the_top_of_the_ball(norm: str, objective) -> None:
    """eps times the dual norm of the weights' difference, which is as far as any point of the ball can get."""
    reached, most = corner(norm, 0.05, objective)
    assert reached <= most * (1 + 1e-4)
    assert reached >= most * (0.97 if norm == "l1" else 0.999)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("objective", [cross_entropy, dlr, margin, scaled_cross_entropy], ids=lambda o: o.__name__)
def test_it_breaks_what_pgd_breaks_with_as_many_looks(norm: str, objective) -> None:
    here = case(norm, n=60)
    ours, theirs = here.run(APGD(40, objective=objective)), here.run(PGD(40, objective=margin))
    assert int(ours.success.sum()) >= int(theirs.success.sum())
    assert int(ours.success.sum()) < 60


@pytest.mark.parametrize("objective", [cross_entropy, dlr_targeted])
def test_in_l1_the_sparse_rule_breaks_more_than_steps_on_the_best_hundredth(objective) -> None:
    here = case("l1", n=60)
    sparse, plain = here.run(APGDL1(40, objective=objective)), here.run(PGD(40))
    assert int(plain.success.sum()) <= int(sparse.success.sum()) < 60


def test_larger_balls_come_first_and_the_last_one_is_the_budget() -> None:
    """Points of 3, 2 and 1 budgets for 30, 30 and 40 of 100 looks; a point beyond the budget is no result."""
    here = case("l1", n=20)
    oracle = Remembering(TorchOracle(here.model))
    found = here.run(APGDL1(100), Keeps.SMALLEST, oracle)
    eps = float(here.threat.eps)
    assert len(oracle.looks) == 101
    for t, (ids, points, _) in enumerate(oracle.looks):
        rows = torch.tensor([here.draws.ids.tolist().index(i) for i in ids])
        most = float(here.threat.size(points, here.x[rows]).max()) / eps
        expected = 3 if t < 30 else 2 if t < 60 else 1
        assert most <= expected + 1e-4
        if t in (10, 45, 80):
            assert most > expected - 0.5
    assert bool((found.size <= eps * (1 + 1e-4)).all())


def test_sparsity_is_a_samples_own() -> None:
    """Samples of one batch hold different shares, and the same ones alone."""
    here = case("l1", n=8)

    def shares(rows: slice) -> Tensor:
        problem = Problem(TorchOracle(here.model), here.x[rows], Untargeted(here.goal.y[rows]), here.threat)
        draws, attack = here.draws.take(torch.arange(8)[rows]), APGDL1(40)
        state = attack.init(problem, draws)
        with frozen(here.model):
            for t in range(25):
                seen = problem.oracle.look(state.query, problem.goal, cross_entropy, Access.GRADIENT, draws)
                state = attack.step(state, seen, problem, draws.fold(t))
        return state.share

    together, alone = shares(slice(0, 8)), shares(slice(3, 4))
    assert len(set(together.tolist())) > 2
    torch.testing.assert_close(together[3:4], alone)


@pytest.mark.parametrize("classes", [2, 3, 4, 1000])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["apgd", "apgd-t"])
def test_any_number_of_classes(name: str, norm: str, classes: int) -> None:
    """DLR asks for three logits and its targeted form for four; with fewer the attack still breaks what can break."""
    here = case(norm, n=20, classes=classes)
    options = {"objective": dlr} if name == "apgd" else {}
    assert int(here.run(build(name, steps=20, **options)).success[2:].sum()) > 0


def test_targets_are_at_most_the_wrong_classes_there_are() -> None:
    here = case("linf", n=6, classes=3).but(threat=Threat(NORMS["linf"], 1e-6))
    found = here.run(build("apgd-t", steps=5, targets=9))
    # one look ranks the targets; each of two targets takes five gradient looks and a last one
    assert set(found.forwards[2:].tolist()) == {1 + 2 * 6}
    assert set(found.backwards[2:].tolist()) == {2 * 5}


def test_towards_a_target_it_climbs_that_one() -> None:
    """The objective is the target's lead over the label, whatever another class does."""
    here = case("linf", n=12)
    target = (here.goal.y + 1) % 5
    toward = here.but(goal=Toward(here.goal.y, target))
    oracle = Remembering(TorchOracle(here.model))
    toward.run(APGD(20, objective=margin), Keeps.LAST, oracle)
    first, last = (look[2].logits for look in (oracle.looks[0], oracle.looks[-1]))
    assert bool((toward.goal.lead(last) > toward.goal.lead(first)).all())


def test_the_factories_name_a_rule_for_every_norm() -> None:
    methods: list[Method] = [apgd(7, objective=dlr), apgd_targeted(7, targets=3)]
    plain, targeted = (dict(method.choices) for method in methods)
    rule = APGD(7, 0.75, dlr)
    assert plain == {"linf": rule, "l2": rule, "l1": APGDL1(7, objective=dlr), "ycbcr": rule}
    assert targeted["l2"] == EachTarget(APGD(7, 0.75, dlr_targeted), 3)


@pytest.mark.parametrize("attack", [APGD(3), APGDL1(3)])
def test_an_endless_budget_is_refused(attack) -> None:
    here = case("linf" if isinstance(attack, APGD) else "l1")
    with pytest.raises(BadInput, match="infinite"):
        here.but(threat=here.threat.at(torch.inf)).run(attack)


def test_a_share_of_the_steps_beyond_all_is_refused() -> None:
    with pytest.raises(BadInput, match=r"rho is 1\.5"):
        APGD(rho=1.5)


def test_a_flat_place_halves_the_step_and_stays_in_the_ball() -> None:
    """Where nothing rises, every checkpoint halves: 2 budgets become 2 / 2^8 after 100 steps."""
    x = torch.full((3, 1, 2, 2), 0.5)
    model = Curved((1, 2, 2), 3)
    problem = Problem(TorchOracle(model), x, Untargeted(torch.zeros(3, dtype=torch.int64)), Threat(NORMS["linf"], 0.1))
    draws, attack = Draws.of(["a", "b", "c"], 0), APGD(100)
    state = attack.init(problem, draws)
    for t in range(100):
        grad, none = torch.zeros_like(x), torch.zeros(3)
        state = attack.step(
            state, Observation(none[:, None], none, none, none.bool(), grad, None), problem, draws.fold(t)
        )
    torch.testing.assert_close(state.size, torch.full((3,), 0.2 / 2**8))
    assert bool(((state.query - x).abs() <= 0.1 + 1e-6).all())
