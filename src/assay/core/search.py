"""The one loop: snap, look, keep the better per sample, drop finished rows, step, and look once more.

An attack of k steps makes k looks with its own access and one final look that only judges, so the last point always
counts; `steps=1` without a start is FGSM.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import Objective
from assay.core.oracle import Access, Cost, Observation, Oracle
from assay.core.problem import Problem
from assay.core.result import (
    Keeps,
    SearchResult,
    better,
    bill,
    costs_of,
    nothing,
    put,
    unscored,
)
from assay.core.tensors import counts, rows, take

Watch = Callable[[int, Any, Observation], None]


@dataclasses.dataclass(frozen=True)
class Resume:
    """Where a search begins, and who follows it.

    `state` is the attack's state before look number `look`: a search that goes on from what `watch` was told ends as if
    it had never stopped (its counts are those of its own looks). `watch(look, state, seen)` is told after every step
    which look comes next, from which state, and what the last one saw. Only a search that keeps its LAST point can go
    on, since the others carry what they found.
    """

    look: int = 0
    state: Any = None
    watch: Watch | None = None


FROM_THE_START = Resume()


class State(Protocol):
    """Where an attack stands: the point to ask about next, and which rows have given up. Batch first throughout."""

    @property
    def query(self) -> Tensor:
        """The next points, `[N, *S]`."""

    @property
    def done(self) -> Tensor | bool:
        """Rows (bool `[N]`) that need no further look: unless the LAST point is kept, they are not asked again."""


class Attack(Protocol):
    """How to move: a frozen dataclass of hyper-parameters. It holds no loop, no model and no norm."""

    @property
    def steps(self) -> int:
        """Looks before the final one (an upper bound)."""

    @property
    def objective(self) -> Objective:
        """What is climbed."""

    @property
    def access(self) -> Access:
        """What the attack needs to see."""

    @property
    def keeps(self) -> Keeps:
        """Which point is the result, unless the caller says otherwise."""

    def init(self, problem: Problem, draws: Draws) -> Any:
        """Return the first state."""

    def step(self, state: Any, seen: Observation, problem: Problem, draws: Draws) -> Any:
        """Return the next state, given what the look at `state.query` saw."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far a search may go: what a sample may spend (one that cannot pay for another look stops before it).

    `judge_last=False` leaves out the final look and with it the verdict: the inner search of adversarial training
    needs the point alone, and the look is a tenth of a ten-step attack.
    """

    queries: int | None = None
    backwards: int | None = None
    judge_last: bool = True

    @property
    def limited(self) -> bool:
        """Whether a sample may be stopped for what it spent."""
        return self.queries is not None or self.backwards is not None

    def exceeded(self, spent: SearchResult, seen: Observation, *, final: bool) -> Tensor | bool:
        """Return bool `[N]`: rows that cannot pay for a look as dear as the last one, backward only if not `final`."""
        over: Tensor | bool = False
        if self.queries is not None:
            over = over | (spent.queries + seen.cost.queries.clamp_min(1) > self.queries)
        if self.backwards is not None and not final:
            over = over | (spent.backwards + seen.cost.backwards > self.backwards)
        return over


@dataclasses.dataclass(frozen=True)
class _Rows:
    # what belongs to the rows still searching; one `take` keeps it together
    problem: Problem
    state: Any
    draws: Draws
    index: Tensor
    floor: Tensor | None = None


UNLIMITED = Limits()

# what stands for an endless objective, and for a low one before a point with scores was seen
_HIGH, _LOW = 1e15, -1e4


@torch.no_grad()
def search(
    attack: Attack,
    problem: Problem,
    draws: Draws,
    *,
    keeps: Keeps | None = None,
    terms: Limits = UNLIMITED,
    course: Resume = FROM_THE_START,
) -> SearchResult:
    """Run an attack and return the best point per sample, which lies inside budget and box unless it is the LAST one.

    Of a sample for which no such point was seen, the result is the image itself, with what the model says about it.
    The result, the success and the cost of a row are the same for any chunking, order, and neighbours. Input tensors
    are never modified. Problem.x `[N, *S]`; `draws` must be the samples' own.
    """
    keeps = keeps or attack.keeps
    if not len(problem.x):
        return nothing(problem.x)
    found = _searched(attack, problem, draws, keeps, terms, course)
    return _settled(found, problem, attack, draws) if terms.judge_last else found


def _settled(found: SearchResult, problem: Problem, attack: Attack, draws: Draws) -> SearchResult:
    at = found.size.isinf().nonzero().squeeze(1)
    if not len(at):
        return found
    own = take(problem, at)
    seen = own.seen_at_x
    if seen is None:
        seen = own.oracle.look(own.x, own.goal, attack.objective, Access.LABELS, draws.take(at).at(attack.steps + 1))
    else:
        seen = seen._replace(cost=Cost.nothing(own.x))
    return put(found, at, judge_point(seen, own.x, own), Keeps.LAST)


def _searched(
    attack: Attack, problem: Problem, draws: Draws, keeps: Keeps, terms: Limits, course: Resume
) -> SearchResult:  # shape: what `search` was asked for
    found = nothing(problem.x)
    here = _Rows(problem, _begun(attack, problem, draws, keeps, course), draws, _everyone(problem.x))
    for look in range(course.look, attack.steps + 1):
        if keeps is not Keeps.LAST and here.state.done is not False:
            going = ~torch.as_tensor(here.state.done, device=here.index.device).expand(len(here.index))
            if not bool(going.any()):
                return found
            here = here if bool(going.all()) else take(here, going)
        last = look == attack.steps
        point = here.problem.threat.snap(here.state.query, here.problem.x)
        if last and not terms.judge_last:
            found.x[here.index] = point
            return found
        access = Access.LABELS if last else access_at(attack, look)
        seen = _masked(_look(attack, here, point, look, access), here.problem)
        if last or keeps is not Keeps.LAST or terms.limited:
            judged, fits = _judged(seen, point, here.problem)
            found = put(found, here.index, judged, keeps, fits)
        else:
            bill(found, here.index, seen)
        if last:
            return found
        alive = _alive(found, here, keeps)
        if terms.limited:
            spent = take(found, here.index)
            alive &= ~torch.as_tensor(terms.exceeded(spent, seen, final=look + 1 == attack.steps))
        if not bool(alive.all()):
            if not bool(alive.any()):
                return found
            here, seen, point = take(here, alive), take(seen, alive), point[alive]
        floor = _lowest(here.floor, seen.loss)
        shown = _hidden(seen) if attack.access is Access.LABELS else _bridged(seen, floor, point, here.problem.x)
        state = attack.step(here.state, shown, here.problem, here.draws.fold(look))
        if course.watch is not None:
            course.watch(look + 1, state, seen)
        # what was known has served: it is not carried along
        problem = here.problem if here.problem.known is None else dataclasses.replace(here.problem, known=None)
        here = _Rows(problem, state, here.draws, here.index, floor)
    raise AssertionError("unreachable: the last look returns")


def gradient_looks(attack: Attack) -> int:
    """Return at how many of its looks, the first ones, an attack needs a gradient: at all, if it does not say."""
    if attack.access is not Access.GRADIENT:
        return 0
    return int(getattr(attack, "gradient_looks", attack.steps))


def access_at(attack: Attack, look: int) -> Access:
    """Return what an attack needs to see at a look before the last."""
    return attack.access if look < gradient_looks(attack) else min(attack.access, Access.SCORES)


def _begun(attack: Attack, problem: Problem, draws: Draws, keeps: Keeps, course: Resume) -> Any:
    if not 0 <= course.look <= attack.steps:
        raise BadInput(f"A search of {attack.steps} steps cannot go on from look {course.look}.")
    if course.state is None:
        return attack.init(problem, draws.fold("init"))
    if keeps is not Keeps.LAST:
        raise BadInput(f"A search that keeps its {keeps.value} point cannot go on from look {course.look}; use LAST.")
    return course.state


def _look(attack: Attack, here: _Rows, point: Tensor, look: int, access: Access) -> Observation:
    first = here.problem.known
    if first is not None and first.objective == attack.objective and torch.equal(point, first.points):
        # the caller has paid for it; an attack is shown no more of it than it may ask for
        grad = first.seen.grad if access is Access.GRADIENT else None
        if access is not Access.GRADIENT or grad is not None:
            return first.seen._replace(cost=Cost.nothing(point), grad=grad)
    return _oracle(here.problem).look(point, here.problem.goal, attack.objective, access, here.draws.at(look))


def _oracle(problem: Problem) -> Oracle:
    # one that asks about points of its own keeps to the mask too
    mask, within = problem.threat.mask, getattr(problem.oracle, "within", None)
    return problem.oracle if mask is None or within is None else within(mask)


def _masked(seen: Observation, problem: Problem) -> Observation:
    # what may not change has no slope: optimisers that step by the gradient itself leave it as it is
    return seen if seen.grad is None else seen._replace(grad=problem.threat.only(seen.grad))


def judge_point(seen: Observation, point: Tensor, problem: Problem) -> SearchResult:
    """Return what a look at `point` found out: whether it is a success, its size, and what the look cost."""
    return _judged(seen, point, problem)[0]


def _judged(seen: Observation, point: Tensor, problem: Problem) -> tuple[SearchResult, Tensor]:
    # and whether the point lies in budget and box
    size = problem.threat.size(point, problem.x)
    fits = problem.threat.allows(size) & problem.threat.in_box(point)
    # whatever a goal says of scores that have no order: nobody knows what the model would have answered
    lost = unscored(seen)
    success, gap = seen.reached & fits & ~lost, torch.where(lost, -torch.inf, seen.gap)
    return SearchResult(point, success, gap, size, seen.logits, counts(point), *costs_of(seen)), fits


def _lowest(floor: Tensor | None, loss: Tensor) -> Tensor:
    # the lowest objective a row has seen, with which a point without one is outdone by every other
    own = torch.where(loss.isfinite(), loss, torch.inf)
    return own if floor is None else torch.minimum(floor, own)


def _bridged(seen: Observation, floor: Tensor, point: Tensor, x: Tensor) -> Observation:
    # what an attack is shown of a point without scores: a low objective, and the way back to the image, where there
    # are some; one NaN would otherwise stay in its state, or hold it where it is
    lost, loss = unscored(seen), seen.loss
    if not bool(lost.any()) and bool(loss.isfinite().all()):
        return seen
    most = min(_HIGH, torch.finfo(loss.dtype).max)
    loss = torch.where(rows(lost, loss), torch.nan, loss)
    loss = torch.where(loss.isnan(), torch.where(floor.isinf(), _LOW, floor), loss.nan_to_num(0.0, most, -most))
    grad = seen.grad
    if grad is not None:
        back = (x - point).view(len(x), *[1] * (grad.ndim - x.ndim), *x.shape[1:])
        grad = torch.where(rows(lost, grad), back.to(grad.dtype), grad)
    return seen._replace(loss=loss, grad=grad)


def _alive(found: SearchResult, here: _Rows, keeps: Keeps) -> Tensor:
    if keeps is Keeps.FIRST:
        return ~found.success.index_select(0, here.index)
    return torch.ones_like(here.index, dtype=torch.bool)


def _hidden(seen: Observation) -> Observation:
    # a label-only attack cannot peek: the scores stay with the search
    unseen = torch.full_like(seen.gap, torch.nan)
    return seen._replace(logits=torch.full_like(seen.logits, torch.nan), loss=unseen, gap=unseen)


def _everyone(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


__all__ = [
    "Resume",
    "Watch",
    "Attack",
    "SearchResult",
    "Keeps",
    "State",
    "Limits",
    "better",
    "access_at",
    "bill",
    "gradient_looks",
    "judge_point",
    "nothing",
    "put",
    "search",
]

_OLD_NAMES = {"Found": "SearchResult", "Terms": "Limits"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # names until 0.2, in attacks that users have written
        if name not in _OLD_NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn(f"{__name__}.{name} is called {_OLD_NAMES[name]} now.", DeprecationWarning, stacklevel=2)
        return globals()[_OLD_NAMES[name]]
