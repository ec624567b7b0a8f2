"""L-BFGS: the first adversarial attack, box-constrained and batched."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, FirstWeight, Inner, Option, Rounds, check_options
from assay.attacks.parts.constant_search import Constant, balance, where
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, flat, rows

# sufficient decrease (Armijo), and the shortest trial step
_ENOUGH, _SHORTEST = 1e-4, 1e-3
# a step this short says that the history leads nowhere: it is forgotten
_TIRED = 0.1
_FLAT = 1e-10


class History(NamedTuple):
    """The last `m` steps and changes of gradient, `[N, m, D]`, newest last; zeros where there is none."""

    steps: Tensor
    changes: Tensor

    @staticmethod
    def none(like: Tensor, memory: int) -> History:
        """Return an empty history."""
        empty = like.new_zeros(len(like), memory, like[0].numel())
        return History(empty, empty)

    def after(self, kept: Tensor, step: Tensor, change: Tensor) -> History:
        """Return the history with one pair more in the rows `kept`."""
        return History(*(
            where(kept, torch.cat([old[:, 1:], new[:, None]], 1), old)
            for old, new in ((self.steps, step), (self.changes, change))
        ))  # fmt: skip

    def without(self, rows_: Tensor) -> History:
        """Return the history with nothing in the rows where bool `[N]` says so."""
        return History(*(one.masked_fill(rows(rows_, one), 0) for one in self))

    def times(self, grad: Tensor) -> Tensor:
        """Return the inverse Hessian times a gradient `[N, D]`: the two-loop recursion (Nocedal 1980)."""
        curved = (self.steps * self.changes).sum(2)
        inverse = torch.where(curved > _FLAT, 1 / curved.clamp_min(_FLAT), 0)
        q, shares = grad, []
        for i in reversed(range(self.steps.shape[1])):
            shares.append(inverse[:, i] * (self.steps[:, i] * q).sum(1))
            q = q - shares[-1][:, None] * self.changes[:, i]
        newest = self.changes[:, -1].square().sum(1)
        q = q * torch.where(curved[:, -1] > _FLAT, curved[:, -1] / newest.clamp_min(_FLAT), 0.5)[:, None]
        for i in range(self.steps.shape[1]):
            back = inverse[:, i] * (self.changes[:, i] * q).sum(1)
            q = q + (shares[-1 - i] - back)[:, None] * self.steps[:, i]
        return q


class Line(NamedTuple):
    """A row's place `at` with its value and gradient, the direction and length of the trial step in `query`.

    `whole` is the size of the objective at the first look, in units of which it bends: NaN before, and infinite where
    it was not below 0.
    """

    query: Tensor
    at: Tensor
    value: Tensor
    grad: Tensor
    direction: Tensor
    length: Tensor
    history: History
    constant: Constant
    whole: Tensor
    t: Tensor
    rounds: Tensor
    hit: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class LBFGS:
    """Box-constrained L-BFGS (Szegedy et al. 2014): minimise |z - x|^2 + c softplus(-f(z)) in the box, search for c.

    f is the objective in units of its size at the image, times `sharpness`: softplus is a line up to the goal and
    flat beyond, without the kink of a hinge, which quasi-Newton steps cannot cross. An objective that is not below
    0 at the image, such as the untargeted cross-entropy, says nothing of the goal and does not bend. Every look is
    one trial point z = clip(at + length d), d = -H grad from the last `memory` steps, values that the box holds
    left out. It is accepted where the value falls enough (Armijo), else the length halves; where that does not
    help, the steepest way is tried without the history. A round is `inner` looks; it ends early where no step is
    left, or where the value no longer falls. Then c shrinks after a success and grows after a failure, for `rounds`
    rounds. The paper's loss is the target's cross-entropy, which is such a softplus of the margin where two classes
    count. c is first what balances both terms on the linearised boundary. L2. Cost: at most `inner * rounds`
    gradient looks and 1 forward. Raises `BadInput` for a sharpness of 0.
    """

    inner: Inner = 50
    rounds: Rounds = 9
    memory: Annotated[int, Option("Past steps that approximate the curvature.", "steps")] = 5
    c: FirstWeight = None
    sharpness: Annotated[float, Option("How sharply the loss bends at the goal.", above=True)] = 40.0
    objective: Climbed = margin

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def steps(self) -> int:
        """All rounds together."""
        return self.inner * self.rounds

    def init(self, problem: Problem, draws: Draws) -> Line:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        far, zero, none = begin.new_full((len(begin),), torch.inf), torch.zeros_like(begin), counts(begin)
        return Line(
            begin, begin, far, zero, zero, torch.ones_like(far), History.none(begin, self.memory),
            Constant.of(self.c, begin), far * torch.nan, none, none, none > 0,
        )  # fmt: skip

    def step(self, state: Line, seen: Observation, problem: Problem, draws: Draws) -> Line:
        """Accept or refuse the trial point, and choose the next."""
        first = balance(seen.gap, gradient_of(seen), problem.threat)
        now = torch.where(seen.loss < 0, -seen.loss, torch.inf)
        whole = torch.where(state.whole.isnan(), now, state.whole)
        state = state._replace(constant=state.constant.known(first), whole=whole, hit=state.hit | seen.reached)
        state, accepted, flat_now = self._tried(state, seen, problem)
        scale = problem.threat.scale
        query = problem.threat.clip(state.at + rows(state.length, state.at) * state.direction * scale)
        t = state.t + 1
        stuck = ~accepted & (state.length < _SHORTEST)
        ended = (t >= self.inner) | stuck | flat_now
        rounds = state.rounds + ended
        # from the image again: at a success the next, smaller c would find the goal met from the start
        return state._replace(
            query=where(ended, problem.x, query),
            at=where(ended, problem.x, state.at),
            value=state.value.masked_fill(ended, torch.inf),
            history=state.history.without(ended),
            length=state.length.masked_fill(ended, 1),
            constant=state.constant.after(ended, state.hit, 10),
            t=t.masked_fill(ended, 0),
            rounds=rounds,
            hit=state.hit & ~ended,
            done=rounds >= self.rounds,
        )

    def _tried(self, state: Line, seen: Observation, problem: Problem) -> tuple[Line, Tensor, Tensor]:
        z, scale = state.query, problem.threat.scale
        u = (z - problem.x) / scale
        short, slope = self._bent(seen.loss, state.whole)
        value = flat(u).square().sum(1) + state.constant.value * short
        grad = 2 * u - rows(state.constant.value * slope, z) * gradient_of(seen) * scale
        step = flat((z - state.at) / scale)
        fresh = state.value.isinf()
        fall = (flat(state.grad) * step).sum(1)
        accepted = fresh | (value <= state.value + _ENOUGH * fall)
        change = flat(grad - state.grad)
        history = state.history.after(accepted & ~fresh & ((step * change).sum(1) > _FLAT), step, change)
        still = accepted & ~fresh & (state.value - value <= 1e-7 * state.value.abs())
        at, grad = where(accepted, z, state.at), where(accepted, grad, state.grad)
        length = torch.where(accepted, torch.ones_like(value), state.length / 2)
        tired = ~accepted & (length < _TIRED) & (state.length >= _TIRED)
        history = history.without(tired)
        direction = _downhill(history, grad, at, problem)
        now = state._replace(
            at=at, grad=grad, value=torch.where(accepted, value, state.value), history=history, length=length,
            direction=where(accepted | tired, direction, state.direction),
        )  # fmt: skip
        return now, accepted, still

    def _bent(self, loss: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        # what is still missing, and how fast a rise of the objective takes it away
        sharp, line = self.sharpness / whole, whole.isinf()
        missing, slope = softplus(-sharp * loss) / sharp, (-sharp * loss).sigmoid()
        return torch.where(line, -loss, missing), torch.where(line, 1.0, slope)


def _downhill(history: History, grad: Tensor, at: Tensor, problem: Problem) -> Tensor:
    low, high = problem.threat.box
    free = ~flat(((at <= low) & (grad > 0)) | ((at >= high) & (grad < 0)))
    along = flat(grad) * free
    d = -history.times(along) * free
    falls = (d * along).sum(1) < 0
    return where(falls, d, -along).view_as(at)
