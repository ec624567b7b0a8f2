"""Attacks with one mistake each, which the conformance checks must catch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from assay.attacks.gradient import PGD, Point, budget_of, gradient_of
from assay.core.draws import Draws
from assay.core.objective import Objective, cross_entropy, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps


@dataclasses.dataclass(frozen=True)
class Plain:
    """Projected gradient steps without a mistake: what each broken attack below would be."""

    steps: int = 5
    objective: Objective = cross_entropy
    keeps: Keeps = Keeps.LAST

    access: ClassVar[Access] = Access.GRADIENT

    def init(self, problem: Problem, draws: Draws) -> Point:
        return Point(problem.x)

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.project(self.moved(state, seen, problem), problem.x))

    def moved(self, state: Point, seen: Observation, problem: Problem) -> torch.Tensor:
        return state.query + problem.threat.stride(gradient_of(seen), state.query, budget_of(problem) / self.steps)


class DoesNothing(Plain):
    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        return Point(problem.x)


class WrongSign(Plain):
    def moved(self, state: Point, seen: Observation, problem: Problem) -> torch.Tensor:
        return 2 * state.query - super().moved(state, seen, problem)


class ForgetsToProject(Plain):
    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        return Point(state.query + 2 * (self.moved(state, seen, problem) - state.query))


class ForgetsTheBox(Plain):
    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        free = dataclasses.replace(problem.threat, box=(-torch.inf, torch.inf))
        return Point(free.project(self.moved(state, seen, problem), problem.x))


class StepsOnTheMean(Plain):
    """Climbs the batch's mean gradient: a sample's result depends on its neighbours."""

    def moved(self, state: Point, seen: Observation, problem: Problem) -> torch.Tensor:
        mean = gradient_of(seen).mean(0, keepdim=True).expand_as(state.query)
        return super().moved(state, seen._replace(grad=gradient_of(seen) + mean), problem)


class GlobalRandomness(Plain):
    """Draws from torch's own generator: the same seed gives another result."""

    def init(self, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.project(problem.x + torch.rand_like(problem.x) - 0.5, problem.x))


class NumbersByPosition(Plain):
    """Draws by position in the batch instead of by sample."""

    def init(self, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.start(problem.x, dataclasses.replace(draws, ids=torch.arange(len(problem.x)))))


class ChangesItsInput(Plain):
    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        problem.x.copy_(super().step(state, seen, problem, draws).query)
        return Point(problem.x.clone())


class AsksInSecret(Plain):
    """Asks the oracle once more per step and bills no one."""

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        problem.oracle.look(state.query, problem.goal, margin, Access.SCORES, draws)
        return super().step(state, seen, problem, draws)


class LargestBudgetForAll(Plain):
    """Takes the largest budget of the batch for every sample."""

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        largest = problem.threat.at(float(torch.as_tensor(problem.threat.eps).max()))
        return super().step(state, seen, dataclasses.replace(problem, threat=largest), draws)


class StopsHalfway(Plain):
    """Uses half of the budget."""

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        threat = problem.threat.at(problem.threat.eps * 0.5)
        return Point(threat.project(self.moved(state, seen, problem), problem.x))


class Hasty(PGD):
    """Gives up on every sample after its first look."""

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        return super().step(state, seen, problem, draws)._replace(done=True)


BROKEN = [
    DoesNothing,
    WrongSign,
    ForgetsToProject,
    ForgetsTheBox,
    StepsOnTheMean,
    GlobalRandomness,
    NumbersByPosition,
    ChangesItsInput,
    AsksInSecret,
    LargestBudgetForAll,
    StopsHalfway,
    Hasty,
]
