from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.parts.optimisers import Adam, Momentum
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import OutOfTop, Targeted, Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access, TorchOracle
from assay.core.over_data import OverData, Together
from assay.core.problem import Problem
from assay.core.search import Keeps, Limits, Resume, search
from assay.core.threat import LINF, UNBOXED, Threat


@dataclasses.dataclass(frozen=True)
class Images:
    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[positions], self.y[positions]


def add(variables: Tensor, images: Tensor, draws: Draws) -> Tensor:
    return images + variables[:, None]


def network(seed: int = 0, classes: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 9, classes)).eval()


def images(n: int = 10) -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.rand(n, 2, 5, 5, generator=generator), torch.arange(n) % 4)


def over(**more: Any) -> OverData:
    given: dict[str, Any] = {"oracle": TorchOracle(network()), "images": images(), "apply": add, "batch": 4, **more}
    return OverData(**given)


def targeted(*t: int) -> Targeted:
    return Targeted(torch.zeros(len(t), dtype=torch.int64), torch.tensor(t))


def draws(n: int, look: int = 0) -> Draws:
    return Draws(torch.arange(n)).at(look)


def test_a_look_is_a_loop_written_by_hand() -> None:
    oracle, model = over(), network()
    points = torch.rand(2, 2, 5, 5)
    seen = oracle.look(points, targeted(1, 3), cross_entropy, Access.GRADIENT, draws(2, 1))
    at = oracle.positions(1)
    for row, target in enumerate((1, 3)):
        variable = points[row].clone().requires_grad_(True)
        logits = model(images().x[at] + variable)
        loss = -F.cross_entropy(logits, torch.full((4,), target))
        loss.backward()
        torch.testing.assert_close(seen.loss[row], loss.detach())
        assert seen.grad is not None
        torch.testing.assert_close(seen.grad[row], variable.grad)
        torch.testing.assert_close(seen.logits[row], logits.detach().mean(0))
        rate = float((logits.argmax(1) == target).float().mean())
        assert float(seen.gap[row]) == pytest.approx(rate - 1) and bool(seen.reached[row]) == (rate == 1)
    assert seen.cost.forwards.tolist() == seen.cost.backwards.tolist() == [4, 4]


def test_untargeted_variables_climb_the_labels_own_loss() -> None:
    oracle = over(rate=0.5)
    goal = Untargeted(torch.zeros(1, dtype=torch.int64))
    seen = oracle.look(torch.zeros(1, 2, 5, 5), goal, cross_entropy, Access.SCORES, draws(1))
    at = oracle.positions(0)
    logits = network()(images().x[at]).detach()
    torch.testing.assert_close(seen.loss[0], F.cross_entropy(logits, images().y[at]))
    wrong = float((logits.argmax(1) != images().y[at]).float().mean())
    assert float(seen.gap) == pytest.approx(wrong - 0.5) and bool(seen.reached) == (wrong >= 0.5)
    assert seen.grad is None and seen.cost.backwards.tolist() == [0]


def test_epochs_walk_through_the_images_in_orders_of_their_own() -> None:
    oracle = over()
    assert oracle.looks == 2
    epochs = [torch.cat([oracle.positions(2 * epoch + i) for i in range(2)]).tolist() for epoch in range(3)]
    assert all(len(set(one)) == 8 for one in epochs)
    assert len({tuple(one) for one in epochs}) == 3
    assert epochs[0] != torch.cat([over(seed=1).positions(i) for i in range(2)]).tolist()


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    attack = Momentum(5, 0.5)
    problem = Problem(over(), torch.zeros(3, 2, 5, 5), targeted(0, 1, 2), Threat(LINF, box=UNBOXED))
    together = search(attack, problem, Draws(torch.arange(3)), keeps=Keeps.LAST, terms=Limits(judge_last=False))
    alone = dataclasses.replace(problem, x=problem.x[:1], goal=targeted(1))
    found = search(attack, alone, Draws(torch.tensor([1])), keeps=Keeps.LAST, terms=Limits(judge_last=False))
    torch.testing.assert_close(found.x[0], together.x[1])
    assert together.forwards.tolist() == [20, 20, 20]


@pytest.mark.parametrize(
    ("attack", "torchs"),
    [
        (Momentum(12, 0.3, 0.8), lambda p: torch.optim.SGD([p], lr=0.3, momentum=0.8)),
        (Adam(12, 0.1), lambda p: torch.optim.Adam([p], lr=0.1)),
    ],
)
def test_optimisers_are_those_of_torch(attack: Any, torchs: Any) -> None:
    oracle, model = over(), network()
    problem = Problem(oracle, torch.zeros(1, 2, 5, 5), targeted(2), Threat(LINF, box=UNBOXED))
    found = search(attack, problem, Draws(torch.arange(1)), keeps=Keeps.LAST, terms=Limits(judge_last=False))
    variable = torch.zeros(2, 5, 5, requires_grad=True)
    optimizer = torchs(variable)
    for look in range(12):
        optimizer.zero_grad()
        at = oracle.positions(look)
        F.cross_entropy(model(images().x[at] + variable), torch.full((4,), 2)).backward()
        optimizer.step()
    torch.testing.assert_close(found.x[0], variable.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("attack", [Momentum(7, 0.3), Adam(7, 0.1)])
def test_a_search_goes_on_as_if_it_had_never_stopped(attack: Any) -> None:
    problem = Problem(over(), torch.zeros(1, 2, 5, 5), targeted(2), Threat(LINF, box=UNBOXED))
    told: dict[int, Any] = {}
    watched = Resume(watch=lambda look, state, seen: told.update({look: state}))
    kept: dict[str, Any] = {"keeps": Keeps.LAST, "terms": Limits(judge_last=False)}
    whole = search(attack, problem, Draws(torch.arange(1)), course=watched, **kept).x
    assert list(told) == [1, 2, 3, 4, 5, 6, 7]
    for look, state in told.items():
        again = search(attack, problem, Draws(torch.arange(1)), course=Resume(look, state), **kept).x
        assert torch.equal(again, whole)
    with pytest.raises(BadInput, match="keeps its first point cannot go on from look 3"):
        search(attack, problem, Draws(torch.arange(1)), keeps=Keeps.FIRST, course=Resume(3, told[3]))


def test_several_models_are_asked_as_their_mean() -> None:
    models = [network(0), network(1)]
    x, goal = images().x, Targeted(images().y, (images().y + 1) % 4)
    both = Together(tuple(TorchOracle(model) for model in models))
    seen = both.look(x, goal, cross_entropy, Access.GRADIENT, draws(10))
    each = [TorchOracle(model).look(x, goal, cross_entropy, Access.GRADIENT, draws(10)) for model in models]
    torch.testing.assert_close(seen.logits, (each[0].logits + each[1].logits) / 2)
    torch.testing.assert_close(seen.loss, (each[0].loss + each[1].loss) / 2)
    assert seen.grad is not None and each[0].grad is not None and each[1].grad is not None
    torch.testing.assert_close(seen.grad, (each[0].grad + each[1].grad) / 2)
    assert seen.cost.forwards.tolist() == [2] * 10 and seen.cost.backwards.tolist() == [2] * 10
    with pytest.raises(BadInput, match="have 4 and 5 classes"):
        Together((TorchOracle(network()), TorchOracle(network(classes=5)))).look(
            x, goal, cross_entropy, Access.SCORES, draws(10)
        )


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(BadInput, match="A batch of 11 cannot be drawn from 10 images"):
        over(batch=11)
    with pytest.raises(BadInput, match="the goal is OutOfTop"):
        goal = OutOfTop(torch.zeros(1, dtype=torch.int64), 2)
        over().look(torch.zeros(1, 2, 5, 5), goal, cross_entropy, Access.SCORES, draws(1))


def at_own_places(variables: Tensor, images: Tensor, draws: Draws) -> Tensor:
    # as pasting does: what happens to each (variable, image) pair is drawn by the variable's own draws
    strength = draws.uniform("strength", len(images))[..., None, None, None].to(images.dtype)
    return images + strength * variables[:, None]


def test_what_is_drawn_for_a_row_is_its_own_too() -> None:
    oracle = over(apply=at_own_places)
    points = torch.rand(3, 2, 5, 5)
    rows = Draws(torch.tensor([7, 8, 9])).at(3)
    whole = oracle.look(points, targeted(0, 1, 2), cross_entropy, Access.GRADIENT, rows)
    one = oracle.look(points[1:2], targeted(1), cross_entropy, Access.GRADIENT, rows.take(torch.tensor([1])))
    assert whole.grad is not None and one.grad is not None
    torch.testing.assert_close(whole.grad[1], one.grad[0])
    torch.testing.assert_close(whole.loss[1], one.loss[0])
    variable = points[1].clone().requires_grad_(True)
    strength = rows.uniform("strength", 4)[1].view(4, 1, 1, 1)
    logits = network()(images().x[oracle.positions(3)] + strength * variable)
    (-F.cross_entropy(logits, torch.full((4,), 1))).backward()
    torch.testing.assert_close(one.grad[0], variable.grad)
    assert torch.equal(rows.take(torch.tensor([1])).ids, torch.tensor([8])) and rows.take(torch.tensor([1])).look == 3


@pytest.mark.parametrize(("batch", "looks"), [(1, 10), (3, 3), (4, 2), (10, 1)])
def test_an_epoch_leaves_out_only_what_fills_no_batch(batch: int, looks: int) -> None:
    oracle = over(batch=batch)
    assert oracle.looks == looks
    walked = torch.cat([oracle.positions(look) for look in range(looks)]).tolist()
    assert len(walked) == len(set(walked)) == looks * batch
    # who is left out differs from epoch to epoch
    seen = {int(at) for look in range(20 * looks) for at in oracle.positions(look)}
    assert seen == set(range(10))


def test_together_stands_in_for_a_model_over_data() -> None:
    both = Together((TorchOracle(network(0)), TorchOracle(network(1))))
    seen = over(oracle=both).look(torch.zeros(1, 2, 5, 5), targeted(2), cross_entropy, Access.GRADIENT, draws(1))
    assert seen.cost.forwards.tolist() == seen.cost.backwards.tolist() == [8]
    each = [over(oracle=TorchOracle(network(i))) for i in (0, 1)]
    alone = [one.look(torch.zeros(1, 2, 5, 5), targeted(2), cross_entropy, Access.GRADIENT, draws(1)) for one in each]
    torch.testing.assert_close(seen.loss, (alone[0].loss + alone[1].loss) / 2)
    assert seen.grad is not None and alone[0].grad is not None and alone[1].grad is not None
    torch.testing.assert_close(seen.grad, (alone[0].grad + alone[1].grad) / 2)
    without = over(oracle=both).look(torch.zeros(1, 2, 5, 5), targeted(2), cross_entropy, Access.SCORES, draws(1))
    assert without.grad is None


def test_the_images_are_left_as_they_are() -> None:
    given = images()
    before = given.x.clone()
    problem = Problem(over(images=given), torch.zeros(1, 2, 5, 5), targeted(2), Threat(LINF, box=UNBOXED))
    search(Momentum(6, 1.0), problem, Draws(torch.arange(1)))
    assert torch.equal(given.x, before)
