"""One-pixel attack: differential evolution of a few pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.options import Climbed, Option, check_options
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import flat

Candidates = Annotated[
    int,
    Option(
        "Candidates that evolve.", "candidates", least=4,
        expected="a whole number of 4 or more: a child has a parent and three others",
    ),
]  # fmt: skip
Generations = Annotated[int, Option("Rounds of evolution.", "rounds")]


class Population(NamedTuple):
    """The members `[N, P, K, 2 + C]` (row, column, colour of K pixels) with their losses, and the child asked about."""

    query: Tensor
    child: Tensor
    members: Tensor
    losses: Tensor
    t: int = 0
    done: bool = False


@dataclasses.dataclass(frozen=True)
class OnePixel:
    """One-pixel attack (Su et al. 2019): differential evolution of the place and colour of as many pixels as allowed.

    A child is a + F (b - c) of three other members, F = 0.5, without crossover; it replaces its parent if its loss is
    no lower. Places start uniform and wrap around the image, colours start normal around grey and stay in the box.
    A budget of `eps` values pays for eps / C pixels of C channels, the last one in part. L0; scores alone.
    Cost: at most `population` * (`generations` + 1) forwards. Raises `BadInput` for less than 4 members.
    """

    population: Candidates = 400
    generations: Generations = 100
    objective: Climbed = margin

    access: ClassVar[Access] = Access.SCORES
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def steps(self) -> int:
        """Queries before the last one."""
        return self.population * (self.generations + 1) - 1

    def init(self, problem: Problem, draws: Draws) -> Population:
        """Scatter the first members."""
        members = scattered(self.population, 1, problem, draws)
        return _placed(born(members), problem)

    def step(self, state: Population, seen: Observation, problem: Problem, draws: Draws) -> Population:
        """Put the better of parent and child, and breed the next child."""
        return _placed(evolved(state, seen, problem, draws), problem)


def scattered(population: int, side: int, problem: Problem, draws: Draws) -> Tensor:
    """Return the first members `[N, P, K, 2 + C]`, of as many squares of `side` pixels as the budget pays for."""
    x = problem.x
    k = min(max(int(_squares(problem, side).max()), 1), x[0, 0].numel())
    # pixel before member: what a row draws does not depend on how many pixels its neighbours have
    shape = (k, population)
    place = draws.uniform("place", *shape, 2).to(x.dtype)
    colour = 0.5 + 0.5 * draws.normal("colour", *shape, x.shape[1]).to(x.dtype)
    return _legal(torch.cat([place, colour], 3).transpose(1, 2), problem)


def born(members: Tensor) -> Population:
    """Return the state in which the first of the members is asked about; where it is painted is left to the caller."""
    losses = members.new_full(members.shape[:2], -torch.inf)
    return Population(members[:, 0], members[:, 0], members, losses)


def evolved(state: Population, seen: Observation, problem: Problem, draws: Draws) -> Population:
    """Return the state after the child was looked at: the better of parent and child stays, and the next is bred."""
    population = state.members.shape[1]
    slot, t = state.t % population, state.t + 1
    wins = seen.loss >= state.losses[:, slot]
    members, losses = state.members.clone(), state.losses.clone()
    members[:, slot] = torch.where(wins[:, None, None], state.child, members[:, slot])
    losses[:, slot] = torch.where(wins, seen.loss, losses[:, slot])
    parent = t % population
    child = members[:, parent] if t < population else _child(members, parent, draws, problem)
    return Population(child, child, members, losses, t)


def _placed(state: Population, problem: Problem) -> Population:
    return state._replace(query=painted(state.child, _places(state.child[..., :2], problem), 1, problem))


def _child(members: Tensor, parent: int, draws: Draws, problem: Problem) -> Tensor:
    # three that differ, and from the parent: the smallest of as many random numbers
    luck = draws.uniform("parents", members.shape[1])
    luck[:, parent] = 2
    a, b, c = luck.topk(3, 1, largest=False).indices.unbind(1)
    row = torch.arange(len(members), device=members.device)
    return _legal(members[row, a] + _F * (members[row, b] - members[row, c]), problem)


def _legal(members: Tensor, problem: Problem) -> Tensor:
    place, colour = members[..., :2], members[..., 2:]
    if not math.isinf(problem.threat.box[1] - problem.threat.box[0]):
        colour = colour.clamp(0, 1)
    return torch.cat([place % 1, colour], -1)


_F = 0.5


def _squares(problem: Problem, side: int) -> Tensor:
    # how many squares the budget pays for, the last one in part: [N] where that differs, else [1]
    x, mask = problem.x, problem.threat.mask
    eps = torch.as_tensor(budget_of(problem), device=x.device).view(-1) / side**2
    if mask is None:
        return (eps / x.shape[1]).ceil()
    channels = mask.over(x).flatten(2).any(2).sum(1)
    return (eps / (channels if mask.own is not None else channels[:1])).ceil()


def _places(share: Tensor, problem: Problem) -> Tensor:
    # from shares of the sides, [..., 2], to row and column; of a mask, to those that it spans
    x, mask = problem.x, problem.threat.mask
    side = torch.tensor(x.shape[-2:], device=x.device)
    if mask is None:
        return (share * side).long().minimum(side - 1)
    first, last = (edge[:, None] for edge in mask.bounds(x))
    return (first + (share * (last - first + 1)).long()).minimum(last)


def painted(squares: Tensor, corner: Tensor, side: int, problem: Problem) -> Tensor:
    """Return the images with `squares` `[N, K, 2 + C]` painted on, as many values as the budget pays for.

    `corner` (int64 `[N, K, 2]`) is the upper left pixel of each, whose sides are `side` pixels.
    """
    x, (low, high) = problem.x, problem.threat.box
    n, k, channels = len(x), squares.shape[1], x.shape[1]
    height, width = x.shape[-2:]
    # without a box, colours are in the threat's unit
    unit = torch.as_tensor(problem.threat.scale, dtype=x.dtype, device=x.device).flatten()
    colour = squares[..., 2:] * unit if math.isinf(high - low) else low + (high - low) * squares[..., 2:]
    # pixel by pixel, and in each channel by channel: what a budget pays for in part is whole pixels first
    reach = torch.arange(side, device=x.device)
    offset = (reach[:, None] * width + reach).view(-1, 1) + torch.arange(channels, device=x.device) * height * width
    down, across = corner.unbind(-1)
    place = (down * width + across)[..., None] + offset.flatten()
    colour = colour.repeat(1, 1, side**2)
    paid = torch.arange(place[0].numel(), device=x.device).view(k, -1)
    eps = torch.as_tensor(problem.threat.eps, device=x.device)
    affordable = paid < eps.floor().view(-1, 1, 1).expand(n, 1, 1)
    if problem.threat.mask is not None:
        # what may not change costs nothing
        free = flat(problem.threat.mask.over(x)).gather(1, place.flatten(1)).view_as(place)
        paid = (free.flatten(1).cumsum(1) - 1).view_as(place)
        own = torch.arange(k, device=x.device)[:, None] < _squares(problem, side).view(-1, 1, 1)
        affordable = free & own & (paid < eps.floor().view(-1, 1, 1))
    image = flat(x).clone()
    # one square after the other: where two share a place the later one shows, on every device
    for i in range(k):
        image.scatter_(1, place[:, i], torch.where(affordable[:, i], colour[:, i], image.gather(1, place[:, i])))
    return image.view_as(x)
