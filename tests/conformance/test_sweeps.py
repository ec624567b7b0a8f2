"""Sweeps over budgets: the answers of separate runs, at less cost, for every attack of the table."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest
import torch

from assay.attacks.gradient import PGD
from assay.core.compose import Cascade, EachTarget, Restarts
from assay.core.errors import BadInput
from assay.core.oracle import TorchOracle, frozen
from assay.core.search import Keeps, SearchResult
from assay.core.sweep import Curve, first_look, sweep
from assay.core.tensors import rows, take
from assay.core.threat import NORMS, Threat
from assay.vocabulary import Order, Question
from tests.support.bench import EPS, FIRST_NORM, PAIRS, Case, Curved, Remembering, case, case_of, make, size_of

every_attack = pytest.mark.parametrize(("name", "norm"), PAIRS, ids=lambda v: v)
# what walks through budgets is the same in every norm: each attack in its first one, the others among the slow tests
most_attacks = pytest.mark.parametrize(
    ("name", "norm"),
    [pair if pair in FIRST_NORM else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS],
    ids=lambda v: v,
)
WALKS = [
    (Question.AS_ATTACKED, Order.ASCENDING),
    (Question.WORST_CASE, Order.ASCENDING),
    (Question.WORST_CASE, Order.DESCENDING),
]
every_walk = pytest.mark.parametrize(("question", "order"), WALKS, ids=lambda v: v.value)
# every attack at each budget by itself in every norm; how a walk inherits is the same in all of them
every_walk_of_every_attack = pytest.mark.parametrize(
    ("name", "norm", "question", "order"),
    [
        (*pair, *way) if pair in FIRST_NORM or way == WALKS[0] else pytest.param(*pair, *way, marks=pytest.mark.slow)
        for pair in PAIRS
        for way in WALKS
    ],
    ids=lambda v: v if isinstance(v, str) else v.value,
)


def budgets_of(norm: str) -> list[float]:
    """Return five budgets out of order, with 0, and with one twice."""
    return [EPS[norm] * share for share in (1.0, 0.5, 0.0, 1.5, 0.5)]


def walk(method, here: Case, budgets, question: Question, order=Order.ASCENDING, *, known: bool = False) -> Curve:
    with frozen(here.model):
        said = first_look(method, here.problem(), here.draws) if known else None
        problem = dataclasses.replace(here.problem(), known=said)
        return sweep(method, problem, here.draws, budgets, question, order=order)


@dataclasses.dataclass(frozen=True)
class Walk:
    """A sweep of an attack of the table, and the rows that the model counted meanwhile, both ways."""

    curve: Curve
    forwards: int
    backwards: int


@functools.cache
def walked(name: str, norm: str, question: Question, order: Order = Order.ASCENDING) -> Walk:
    """Return the sweep over `budgets_of(norm)`, carried out once for all tests that only read it."""
    here = case_of(name, norm)
    here.model.forwards = here.model.backwards = 0
    curve = walk(make(name), here, budgets_of(norm), question, order)
    return Walk(curve, here.model.forwards, here.model.backwards)


@functools.cache
def alone(name: str, norm: str, eps: float, keeps: Keeps | None) -> SearchResult:
    """Return what the attack does at one budget."""
    here = case_of(name, norm)
    return here.but(threat=here.threat.at(eps)).run(make(name), keeps)


@every_walk_of_every_attack
def test_every_result_keeps_its_budget(name: str, norm: str, question: Question, order: Order) -> None:
    here = case_of(name, norm)
    for eps, found in zip(budgets_of(norm), walked(name, norm, question, order).curve.found, strict=True):
        over = size_of(here.threat, found.x, here.x) - eps * (1 + 1e-5)
        assert bool((over <= 1.1e-6).all())
        assert bool(((found.x >= 0) & (found.x <= 1)).all())
        with torch.no_grad():
            logits = here.model(found.x)
        assert torch.allclose(found.logits, logits, atol=1e-4), "the logits are not those of the image"
        assert torch.equal(found.success, found.success & here.goal.reached(logits))


@every_attack
def test_as_attacked_is_what_separate_runs_say(name: str, norm: str) -> None:
    here = case_of(name, norm)
    curve = walked(name, norm, Question.AS_ATTACKED).curve
    for i, (eps, found) in enumerate(zip(budgets_of(norm), curve.found, strict=True)):
        if make(name).keeps is Keeps.SMALLEST:
            # one run without a budget says what it does at every one
            own = alone(name, norm, torch.inf, None)
            inside = own.success & here.threat.at(eps).allows(own.size)
            own = own._replace(x=torch.where(rows(inside, here.x), own.x, here.x), success=inside)
        else:
            own = alone(name, norm, eps, Keeps.LAST)
        assert torch.equal(found.x, own.x)
        assert torch.equal(found.success, own.success)
        assert torch.equal(curve.origin[i], torch.where(found.success, i, -1))


@pytest.mark.parametrize("order", list(Order), ids=lambda v: v.value)
@most_attacks
def test_worst_case_only_rises_and_knows_where_it_comes_from(name: str, norm: str, order: Order) -> None:
    budgets, curve = budgets_of(norm), walked(name, norm, Question.WORST_CASE, order).curve
    rising = sorted(range(len(budgets)), key=lambda i: budgets[i])
    for low, high in itertools.pairwise(rising):
        assert bool((curve.found[low].success <= curve.found[high].success).all()), "robust accuracy rises with eps"
    for i, (found, origin) in enumerate(zip(curve.found, curve.origin, strict=True)):
        assert torch.equal(origin >= 0, found.success)
        for row in found.success.nonzero().flatten().tolist():
            by = int(origin[row])
            assert budgets[by] <= budgets[i], "a break is inherited from a larger budget"
            assert torch.equal(found.x[row], curve.found[by].x[row]), "an inherited break shows another image"
            assert bool(curve.found[by].success[row])


@most_attacks
def test_worst_case_breaks_what_the_attack_alone_breaks(name: str, norm: str) -> None:
    """Going up, survivors are attacked at every budget as if it were the only one."""
    for eps, found in zip(budgets_of(norm), walked(name, norm, Question.WORST_CASE).curve.found, strict=True):
        assert bool((found.success >= alone(name, norm, eps, Keeps.FIRST).success).all())


@every_walk
@most_attacks
def test_a_known_look_saves_passes_and_changes_nothing(name: str, norm: str, question: Question, order: Order) -> None:
    fresh = walked(name, norm, question, order).curve
    known = walk(make(name), case_of(name, norm), budgets_of(norm), question, order, known=True)
    for one, other in zip(fresh.found, known.found, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.success, other.success)
        assert torch.allclose(one.logits, other.logits, atol=1e-5)
        assert bool((one.forwards >= other.forwards).all())
    assert sum(int(f.forwards.sum()) for f in known.found) < sum(int(f.forwards.sum()) for f in fresh.found)


@every_walk_of_every_attack
def test_a_sweep_counts_what_the_model_counts(name: str, norm: str, question: Question, order: Order) -> None:
    whole = walked(name, norm, question, order)
    assert sum(int(found.forwards.sum()) for found in whole.curve.found) == whole.forwards
    assert sum(int(found.backwards.sum()) for found in whole.curve.found) == whole.backwards


@every_walk
@most_attacks
def test_a_sweep_does_not_depend_on_the_chunk(name: str, norm: str, question: Question, order: Order) -> None:
    here, budgets = case_of(name, norm), budgets_of(norm)
    whole = walked(name, norm, question, order).curve
    # one sample alone, and several: the walk that goes on with survivors meets both
    parts = [[11, 0, 5, 4], [3]] if (question, order) == WALKS[1] else [[11, 0, 5, 4]]
    for part in map(torch.tensor, parts):
        some = sweep(make(name), take(here.problem(), part), here.draws.take(part), budgets, question, order=order)
        for one, other, by, its in zip(some.found, whole.found, some.origin, whole.origin, strict=True):
            assert torch.allclose(one.x, other.x[part], atol=1e-5)
            assert torch.equal(one.success, other.success[part])
            assert torch.equal(one.forwards, other.forwards[part])
            assert torch.equal(by, its[part])


@pytest.mark.parametrize("name", ["fgsm", "bim", "mi-fgsm"])
def test_budgets_share_the_first_look(name: str) -> None:
    """Eight budgets of FGSM: nine forwards and one backward per image, booked on the first budget asked."""
    here, budgets, steps = case("linf"), [0.08, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07], 1 if name == "fgsm" else 5
    here.model.forwards = here.model.backwards = 0
    curve = walk(make(name), here, budgets, Question.AS_ATTACKED)
    n = len(here.x)
    assert here.model.forwards == (1 + 8 * steps) * n
    assert here.model.backwards == (1 + 8 * (steps - 1)) * n
    assert curve.found[0].forwards.tolist() == [1 + steps] * n
    assert curve.found[1].forwards.tolist() == [steps] * n
    assert curve.found[0].backwards.tolist() == [steps] * n


def test_a_budget_of_zero_costs_one_look_or_none() -> None:
    here = case("linf")
    (found,) = walk(make("pgd"), here, [0.0], Question.WORST_CASE).found
    assert found.forwards.tolist() == [1] * len(here.x)
    assert found.backwards.tolist() == [0] * len(here.x)
    assert torch.equal(found.x, here.x)
    zero, _ = walk(make("fgsm"), here, [0.0, 0.1, 0.2][:2], Question.AS_ATTACKED, known=True).found
    assert zero.forwards.tolist() == [0] * len(here.x)
    with torch.no_grad():
        assert torch.equal(zero.logits, here.model(here.x))


def test_samples_wrong_before_the_attack_are_broken_at_zero() -> None:
    here = case("linf")
    curve = walk(make("pgd"), here, [0.0, 0.05], Question.WORST_CASE)
    assert curve.found[0].success.nonzero().flatten().tolist() == [0, 1]
    assert curve.origin[1][:2].tolist() == [0, 0]


@pytest.mark.parametrize("order", list(Order), ids=lambda v: v.value)
def test_survivors_of_a_walk_show_what_was_tried_on_them(order: Order) -> None:
    """Nothing of a result is left empty, not even where no budget broke anyone."""
    here = case("linf")
    here = here.but(x=here.x[2:], goal=type(here.goal)(here.goal.y[2:]))
    for found in walk(make("pgd"), here, [1e-6, 1e-5], Question.WORST_CASE, order).found:
        assert not bool(found.success.any())
        assert found.logits.shape == (10, 5)
        for part in found:
            assert bool(part.isfinite().all())


def test_a_survivor_shows_the_attempt_of_its_own_budget() -> None:
    """Not an earlier one at a smaller budget, though its gap may have been the larger."""
    here = case("linf")
    here = here.but(x=here.x[2:], goal=type(here.goal)(here.goal.y[2:]))
    budgets = [1e-6, 1e-5, 1e-4]
    for eps, found in zip(budgets, walk(make("uniform-noise"), here, budgets, Question.WORST_CASE).found, strict=True):
        alone = here.but(threat=here.threat.at(eps)).run(make("uniform-noise"), Keeps.FIRST)
        assert not bool(found.success.any())
        assert torch.equal(found.x, alone.x)
        assert torch.equal(found.gap, alone.gap)


def test_going_down_begins_at_what_broke_the_larger_ball() -> None:
    here = case("linf")
    oracle = Remembering(TorchOracle(here.model))
    large = here.but(threat=here.threat.at(0.2)).run(make("pgd"), Keeps.FIRST)
    with frozen(here.model):
        sweep(make("pgd"), here.problem(oracle), here.draws, [0.2, 0.1], Question.WORST_CASE, order=Order.DESCENDING)
    warm = here.threat.at(0.1).project(large.x[large.success], here.x[large.success])
    assert any(points.shape == warm.shape and torch.equal(points, warm) for _, points, _ in oracle.looks)


def test_down_the_budgets_breaks_about_what_going_up_breaks() -> None:
    """The survivors of the larger budget are the only assumption; here it holds, and costs less."""
    here = case("linf", n=40)
    budgets = [0.004 * i for i in range(1, 13)]
    up, down = (walk(make("pgd", steps=10), here, budgets, Question.WORST_CASE, order) for order in Order)
    for one, other in zip(up.found, down.found, strict=True):
        assert int((one.success ^ other.success).sum()) <= 1
    assert sum(int(f.forwards.sum()) for f in down.found) < sum(int(f.forwards.sum()) for f in up.found)


COMPOSED = {
    "restarts": Restarts(make("pgd", steps=3), 2),
    "cascade": Cascade((make("fgsm"), make("pgd", steps=3), make("uniform-noise"))),
    "each-target": EachTarget(make("pgd", steps=3), 2),
    "nested": Cascade((make("fgsm"), EachTarget(Restarts(make("pgd", steps=2), 2), 2))),
}


@every_walk
@pytest.mark.parametrize("composed", COMPOSED)
def test_compositions_in_a_sweep(composed: str, question: Question, order: Order) -> None:
    here, method, budgets = case("linf"), COMPOSED[composed], budgets_of("linf")
    here.model.forwards = here.model.backwards = 0
    curve = walk(method, here, budgets, question, order)
    assert sum(int(found.forwards.sum()) for found in curve.found) == here.model.forwards
    assert sum(int(found.backwards.sum()) for found in curve.found) == here.model.backwards
    known = walk(method, here, budgets, question, order, known=True)
    for eps, one, other in zip(budgets, curve.found, known.found, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.success, other.success)
        assert bool((size_of(here.threat, one.x, here.x) <= eps * (1 + 1e-5) + 1.1e-6).all())


def test_an_attack_in_the_wrong_question_is_no_smaller_number() -> None:
    """Keeping the smallest success is no licence to run a fixed-budget attack without a budget."""
    with pytest.raises(BadInput, match="infinite"):
        walk(PGD(5, keeps=Keeps.SMALLEST), case("linf"), [0.1, 0.2], Question.WORST_CASE)


def test_no_images_and_no_budgets() -> None:
    here = case("linf")
    empty = here.but(x=here.x[:0], goal=type(here.goal)(here.goal.y[:0]))
    for question, order in WALKS:
        curve = walk(make("fgsm"), empty, [0.1, 0.2], question, order)
        assert [len(found.success) for found in curve.found] == [0, 0]
        assert walk(make("fgsm"), here, [], question, order).found == []


def test_one_budget_is_the_attack_itself() -> None:
    here = case("l2")
    (found,) = walk(make("bim"), here, [EPS["l2"]], Question.AS_ATTACKED).found
    alone = here.run(make("bim"), Keeps.LAST)
    for one, other in zip(found, alone, strict=True):
        assert torch.equal(one, other)


def test_the_sweep_of_a_grid_threat_stays_on_the_grid() -> None:
    model, here = Curved(), case("linf")
    threat = Threat(NORMS["linf"], 8 / 255, grid=255)
    here = here.but(model=model, threat=threat)
    for question, order in WALKS:
        for found in walk(make("pgd"), here, [2 / 255, 8 / 255], question, order).found:
            assert torch.equal((found.x * 255).round() / 255, found.x)
