"""Planted solutions: strong attacks find them, weak and blinded ones do not, and every pass is counted."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import FGSM, PGD
from assay.attacks.gradient import Point
from assay.audit.planted import Planted, plant_and_search
from assay.core.compose import Cascade, EachTarget, Method, Restarts, Transferred
from assay.core.draws import Draws
from assay.core.errors import BadInput, ModelError
from assay.core.goal import Goal, Targeted, Untargeted
from assay.core.lenses import Averaged
from assay.core.objective import Objective, cross_entropy, margin
from assay.core.oracle import Access, Observation, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import take
from assay.core.threat import L0, L1, L2, Linf, Threat

N, SIDE = 12, 6
IDS = [str(i) for i in range(N)]


@dataclasses.dataclass(frozen=True)
class Guessing:
    """Asks for the scores of random points."""

    steps: int = 5
    objective: Objective = margin

    access: ClassVar[Access] = Access.SCORES
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def init(self, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.start(problem.x, draws))

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.start(problem.x, draws))


class Counting(nn.Module):
    """A network that counts the rows passed through it, on the way there."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        answer: Tensor = self.inner(x)
        return answer


class Times(nn.Module):
    """Logits times a number, after the last layer."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x) * self.factor
        return answer


class Rounded(nn.Module):
    """Sees eight shades of grey."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner((x * 8).round() / 8)
        return answer


class Blind(nn.Module):
    """Answers without a gradient."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x)
        return answer


class Switching(nn.Module):
    """Runs its last layer for single images only."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(SIDE * SIDE, 3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            answer: Tensor = self.last(x.flatten(1))
            return answer
        return x.flatten(1) @ self.last.weight.T


def network(*, width: int = 32) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(SIDE * SIDE, width), nn.Tanh(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 4)).eval()


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)).eval()


def problem(module: nn.Module, threat: Threat | None = None, goal: Goal | None = None) -> Problem:
    x = torch.rand(N, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = module(x).argmax(1)
    return Problem(TorchOracle(module), x, goal or Untargeted(y), threat or Linf(0.3))


def asked(module: nn.Module, method: Method, threat: Threat | None = None, seed: int = 0) -> Planted:
    return plant_and_search(module, problem(module, threat), Draws.of(IDS, seed), method)


STRONG = PGD(20)


@pytest.mark.parametrize("threat", [Linf(0.2), L2(1.0), L1(4.0), Linf(32 / 255, grid=255)])
def test_on_a_linear_network_every_solution_is_found_by_ascent_and_none_by_standing_still(threat: Threat) -> None:
    module = linear()
    case = problem(module)
    case = dataclasses.replace(case, x=threat.on_grid(case.x), threat=threat)
    with torch.no_grad():
        case = dataclasses.replace(case, goal=Untargeted(module(case.x).argmax(1)))
    draws = Draws.of(IDS, 0)
    # there the best point is known: the corner of the ball along the weights, where one whole step ends too
    found = plant_and_search(module, case, draws, FGSM() if threat.grid is None else STRONG)
    assert found.n == found.found == N
    assert found.by_chance <= N // 4
    assert plant_and_search(module, case, draws, PGD(20, step_size=0.0)).found <= N // 4


@pytest.mark.parametrize("threat", [Linf(0.3), L2(1.5), L1(6.0)])
def test_the_wrong_sign_finds_nothing_and_the_right_one_nearly_all(threat: Threat) -> None:
    found = asked(network(), STRONG, threat)
    assert found.n == N
    assert found.found >= N - 1
    assert found.by_chance <= 2
    assert asked(network(), PGD(20, objective=_away), threat).found == 0


def _away(logits: Tensor, goal: Goal) -> Tensor:
    return -cross_entropy(logits, goal)


def test_sparse_solutions_are_planted_too() -> None:
    found = asked(network(), Restarts(Guessing(), 2), L0(6))
    assert found.n == N
    assert found.found <= found.n // 2


def test_saturated_logits_hide_the_solutions_from_the_cross_entropy_alone() -> None:
    module = Times(network(), 1e5)
    assert asked(module, STRONG).found == 0
    margins = PGD(20, objective=margin)
    assert asked(module, margins).found >= N - 1


def test_a_rounding_hides_them_from_the_gradient() -> None:
    found = asked(Rounded(network()), STRONG)
    assert found.n == N
    # chance finds more of them: with so few pixels one random point is not far from another
    assert found.found <= N // 4


def test_the_gap_at_the_image_is_the_networks_own() -> None:
    module = Times(network(), 50.0)
    case = problem(module)
    seen: list[Tensor] = []

    def spy(logits: Tensor, goal: Goal) -> Tensor:
        seen.append(goal.gap(logits).detach())
        assert logits.shape[1] == 2
        return goal.lead(logits)

    plant_and_search(module, case, Draws.of(IDS, 0), PGD(1, random_start=False, objective=spy))
    with torch.no_grad():
        top = module(case.x).topk(2, 1).values
    assert torch.allclose(-seen[0], top[:, 0] - top[:, 1], rtol=1e-4)


def test_a_network_without_a_gradient_is_asked_for_its_scores() -> None:
    module = Blind(network())
    with pytest.raises(ModelError, match="no gradient"):
        asked(module, STRONG)
    assert asked(module, Guessing()).n == N


def test_the_same_seed_gives_the_same_and_another_one_other_solutions() -> None:
    weak = PGD(3)
    results = [asked(network(), weak, Linf(0.15), seed) for seed in (0, 0, 1, 2, 3)]
    assert results[0] == results[1]
    assert len(set(results)) > 1


def test_a_row_keeps_its_head_whoever_else_is_asked() -> None:
    module, draws = network(), Draws.of(IDS, 0)
    case = problem(module)
    method = Cascade((PGD(3), EachTarget(FGSM(), 1), Restarts(PGD(5), 2)))
    whole = plant_and_search(module, case, draws, method)
    backwards = torch.arange(N - 1, -1, -1)
    parts = [plant_and_search(module, take(case, at), draws.take(at), method) for at in backwards.split(5)]
    # the pass that looks for the last layer is of one row per call
    extra = len(parts) - 1
    sums = {name: sum(part.to_dict()[name] for part in parts) for name in whole.to_dict()}
    assert sums == {**whole.to_dict(), "forwards": whole.forwards + extra, "backwards": whole.backwards + extra}


def test_every_pass_is_counted() -> None:
    module = Counting(network())
    case = problem(module)
    module.rows = 0
    found = plant_and_search(module, case, Draws.of(IDS, 0), PGD(5, keeps=Keeps.FIRST))
    assert found.forwards == module.rows
    alone = plant_and_search(module, case, Draws.of(IDS, 0), FGSM())
    # beside the attack's two looks: about 50 forwards and 15 backwards per image
    assert alone.forwards <= 54 * N + 1
    assert alone.backwards == (15 + 1) * N + 1


def test_what_the_model_gets_wrong_is_left_out() -> None:
    module, draws = network(), Draws.of(IDS, 0)
    case = problem(module)
    y = case.goal.y.clone()
    y[:5] = (y[:5] + 1) % 4
    found = plant_and_search(module, dataclasses.replace(case, goal=Untargeted(y)), draws, STRONG)
    assert (found.images, found.n) == (N, N - 5)
    nobody = plant_and_search(module, dataclasses.replace(case, goal=Untargeted((case.goal.y + 1) % 4)), draws, STRONG)
    assert (nobody.n, nobody.found) == (0, 0)
    assert nobody.forwards > 0
    none = torch.arange(0)
    assert plant_and_search(module, take(case, none), draws.take(none), STRONG) == Planted(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_network_whose_features_do_not_vary_has_none_planted(value: float) -> None:
    module = network()
    with torch.no_grad():
        module[1].weight.fill_(value)  # type: ignore[index,union-attr,operator]
        module[1].bias.fill_(value)  # type: ignore[index,union-attr,operator]
    assert asked(module, STRONG).n == 0


def test_a_network_without_a_linear_layer_shows_its_logits() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(1, 4, SIDE), nn.Flatten())
    found = asked(module, STRONG)
    assert found.n == N
    assert found.found >= N - 1


def test_the_module_is_left_as_it_was() -> None:
    module = network().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    asked(module, STRONG)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(one.training and not one._forward_hooks and not one._forward_pre_hooks for one in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_what_cannot_be_asked_is_refused() -> None:
    module, draws = network(), Draws.of(IDS, 0)
    case, y = problem(module), problem(module).goal.y
    refused: list[tuple[str, Problem, Method]] = [
        ("infinite", dataclasses.replace(case, threat=L2(math.inf)), STRONG),
        ("Targeted", dataclasses.replace(case, goal=Targeted(y, (y + 1) % 4)), STRONG),
        ("another model", case, Cascade((STRONG, Restarts(Transferred(STRONG, TorchOracle(module)), 2)))),
        ("Viewed", dataclasses.replace(case, oracle=Averaged(2)(TorchOracle(module))), STRONG),
    ]
    for words, one, method in refused:
        with pytest.raises(BadInput, match=words):
            plant_and_search(module, one, draws, method)
    with pytest.raises(BadInput, match="same id"):
        plant_and_search(module, case, Draws.of(["a"] * N, 0), STRONG)
    switching = Switching().eval()
    with pytest.raises(ModelError, match="path of its own"):
        asked(switching, STRONG)
