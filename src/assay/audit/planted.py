"""Planted solutions: does an attack find adversarial images that are known to exist?

After Zimmermann et al. 2022, "Increasing confidence in adversarial robustness evaluations": the network's last layer
is replaced, for each image, by a head of two classes for which an adversarial image inside the budget has been
constructed. An attack that misses it would have called the network robust although it is not.

The head's weights separate one random point of the ball from the image and all other points seen there. A few short
ascents along them show how far the network's own gradient leads; the border between the classes is put a little before
what the worst of them reached: one step seldom gets there, chance hardly ever, and an attack that climbs well does.
Where they lead nowhere the border is put just before the random point. The gap between the two classes at the image is
the network's own between label and runner-up, so that what saturates a loss there saturates it here.

A network that may refuse gets a head for that, too: its own score, with a threshold for each image between what the
ascents meet that heed the classes alone, and what others reach from there that heed the score. The image itself is
accepted, and so is the planted point, which is wrong as well: an attack that goes by only one of the two misses it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from assay.attacks.gradient import PGD, Point, gradient_of
from assay.audit.linear_heads import Headed, Heads, Network
from assay.core.compose import Method, is_attack, run
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.norms import L0
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation, TorchOracle, frozen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import divisor, flat, rows, take

# points seen around an image, in the ball of half the budget and at the edge of the whole one; random tries; ascents
INNER, EDGE, TRIES = 5, 12, 12
CLIMBS, STEPS = 3, 5
# Scores: the point drawn first has 1, the others about 0. The border lies at `HARDNESS` times what the worst ascent
# reached; where that is under `LEAST` the gradient leads nowhere, and the border is at `BARELY`, just before the drawn
# point. Chosen on 40 test digits of MNIST at Linf 0.3 and L2 1.5, with zoo:mnist-cnn and zoo:mnist-pgd, among a
# hardness of 0.65, 0.75, 0.8 and 0.85: at 0.65 a single step found up to three quarters on the latter, at 0.85 PGD
# found under 90 % at times. A border at half the drawn point let random tries find nearly half behind a rounding.
HARDNESS, LEAST, BARELY = 0.75, 0.4, 0.9
# of the way from what is refused down to what is accepted, by steps that heed the score as well
REFUSED, DESCENT = 0.8, 8
# a border nearer to the point than this share of its score could be float32's rounding
_ROOM = 1e-3
_RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Planted:
    """Of `images`, `n` could be given a planted solution; the attack `found` so many, random tries `by_chance`.

    `forwards` and `backwards` count every pass through the network: planting, the tries, and the attack.
    """

    images: int
    n: int
    found: int
    by_chance: int
    forwards: int
    backwards: int

    def to_dict(self) -> dict[str, int]:
        """Return plain values, which JSON can hold."""
        return dataclasses.asdict(self)


def plant_and_search(module: nn.Module, problem: Problem, draws: Draws, method: Method) -> Planted:
    """Plant an adversarial point inside the budget of each image and count how many of them `method` finds.

    Where `by_chance` is not far below `n`, as with few pixels behind a mask, `found` says little. Images that the
    model gets wrong, and those around which its features do not vary, have none planted. Costs about
    50 forwards and 16 backwards per image, of a model that may refuse 30 and 24 more, and those of the method; none of
    it changes the module. Raises `BadInput`
    for an endless budget, a goal other than `Untargeted`, an oracle other than the model itself, an attack on another
    model, and one that does not work image by image.
    """
    _check(problem, method)
    if not len(problem.x):
        return Planted(0, 0, 0, 0, 0, 0)
    assert isinstance(problem.oracle, TorchOracle), "checked"
    oracle = dataclasses.replace(problem.oracle, model=module)
    bill = _Bill()
    with frozen(module), torch.no_grad():
        planted = _planted(dataclasses.replace(problem, oracle=oracle), draws.fold("planted"), bill)
        if planted is None:
            return Planted(len(problem.x), 0, 0, 0, bill.forwards, bill.backwards)
        case, own = planted
        chance = torch.zeros_like(own.ids, dtype=torch.bool)
        for i in range(TRIES):
            chance |= bill.add(_ask(case, _edge(case, own.fold(f"try {i}")), own)).reached
        found = run(method, case, own.fold("attack"), keeps=Keeps.FIRST)
    bill.forwards += int(found.forwards.sum())
    bill.backwards += int(found.backwards.sum())
    counted = (len(problem.x), len(case.x), int(found.success.sum()), int(chance.sum()))
    return Planted(*counted, bill.forwards, bill.backwards)


@dataclasses.dataclass
class _Bill:
    forwards: int = 0
    backwards: int = 0

    def add(self, seen: Observation) -> Observation:
        self.forwards += int(seen.cost.forwards.sum())
        self.backwards += int(seen.cost.backwards.sum())
        return seen


def _check(problem: Problem, method: Method) -> None:
    if not isinstance(problem.goal, Untargeted):
        goal = type(problem.goal).__name__
        raise BadInput(f"The goal is {goal}; planted solutions are two-class problems. Use Untargeted(y).")
    if bool(torch.as_tensor(problem.threat.eps).isinf().any()):
        raise BadInput("The budget is infinite; solutions are planted inside a ball. Give the threat a finite eps.")
    if not isinstance(problem.oracle, TorchOracle):
        kind = type(problem.oracle).__name__
        raise BadInput(
            f"The oracle is {kind}, expected Direct(module); put a lens into the method: Through(lens, ...)."
        )
    if _transfers(method):
        raise BadInput("The method attacks another model, whose features have no planted solutions: leave it out.")


def _transfers(method: Method) -> bool:
    if is_attack(method):
        return False
    return method.surrogate is not None or any(_transfers(child) for child in method.children)


def _planted(problem: Problem, draws: Draws, bill: _Bill) -> tuple[Problem, Draws] | None:
    """Return the problem of the images that a solution was planted for, and their draws."""
    seen = problem.seen_at_x
    if seen is None:
        seen = bill.add(problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, draws))
    assert isinstance(problem.oracle, TorchOracle), "the caller's"
    assert isinstance(problem.goal, Untargeted), "checked"
    gap = -seen.gap
    rejects = problem.goal.reject is not None
    network = Network.opened(problem.oracle, problem.x, seen.logits.shape[1] - rejects, draws, rejects=rejects)
    bill.forwards += int(network.cost.forwards.sum())
    bill.backwards += int(network.cost.backwards.sum())
    goal = Untargeted(torch.zeros_like(seen.reached, dtype=torch.int64), problem.goal.reject)
    asked = dataclasses.replace(problem, oracle=network.features, goal=goal, known=None, start=None)

    def features(points: Tensor) -> Tensor:
        return bill.add(network.features.look(points, goal, _nothing, Access.SCORES, draws)).logits

    inner = [_inner(asked, draws.fold(f"inner {i}")) for i in range(INNER)]
    edge = [_edge(asked, draws.fold(f"edge {i}")) for i in range(EDGE)]
    # until the threshold of a refusal is known, nothing is refused
    endless = torch.full_like(seen.gap, torch.inf) if rejects else None
    heads = Heads(features(problem.x), gap, gap, gap, endless)
    heads = dataclasses.replace(heads, origin=heads.seen(heads.origin), border=torch.ones_like(gap))
    around = torch.stack([heads.seen(features(one)) for one in (*edge, *inner)], 1) - heads.origin[:, None]
    weight = torch.stack([_direction(one[0], one[1:]) for one in around]).to(around)
    heads, scores = dataclasses.replace(heads, weight=weight), (around * weight[:, None]).sum(2)
    point, top, rest = edge[0], scores[:, 0], scores[:, 1:].amax(1).clamp_min(0)
    border, ends = rest + BARELY * (top - rest), []
    if network.graded:
        climbs = [_climbed(asked, heads, draws.fold(f"climb {i}"), bill) for i in range(CLIMBS)]
        # what the worse of the climbs passes, a better attack passes from most starts
        climbed = HARDNESS * torch.stack([score for _, score in climbs]).amin(0)
        border = torch.where(climbed > rest + LEAST * (top - rest), climbed, border)
        for other, score in climbs:
            point, top = torch.where(rows(score > top, point), other, point), torch.maximum(score, top)
        ends = [end for end, _ in climbs]
    fit = seen.gap.isfinite() & ~seen.reached & (gap > 0) & border.isfinite() & (top - border > _ROOM * top)
    heads = dataclasses.replace(heads, border=border)
    here = fit.nonzero().squeeze(1)
    if not len(here):
        return None
    draws, case, heads, point = draws.take(here), take(asked, here), take(heads, here), point[here]
    if rejects:
        heads, point = _refusing(case, heads, point, [end[here] for end in ends], draws, bill)
    case = dataclasses.replace(case, oracle=Headed.of(network.features, heads, draws))
    # what is not judged a solution, say of a network that answers at random, is none
    sure = bill.add(_ask(case, point, draws)).reached.nonzero().squeeze(1)
    return (take(case, sure), draws.take(sure)) if len(sure) else None


def _refusing(
    problem: Problem, heads: Heads, point: Tensor, ends: list[Tensor], draws: Draws, bill: _Bill
) -> tuple[Heads, Tensor]:
    """Return the heads with a threshold of refusal each, and the points of those known that are wrong and accepted.

    `ends` are where ascents led that heed the classes alone.
    """
    oracle = problem.oracle
    assert isinstance(oracle, TorchOracle), "that of the features"

    def told(points: Tensor) -> tuple[Tensor, Tensor]:
        # how near to a refusal, infinitely where the head is not wrong
        seen = bill.add(oracle.look(points, problem.goal, _nothing, Access.SCORES, draws)).logits
        return torch.where(heads.score(seen) > heads.border * (1 + _ROOM), seen[:, -1], torch.inf), seen[:, -1]

    own = told(problem.x)[1]
    room = _ROOM * own.abs().clamp_min(1)
    known = [(one, told(one)[0]) for one in (point, *ends)]
    heedless = torch.stack([excess for _, excess in known[1:] or known]).amin(0)
    asked = Headed.of(oracle, dataclasses.replace(heads, refusal=own + room), draws)
    attack = _Sparse(DESCENT) if problem.threat.norm is L0 else PGD(DESCENT, objective=margin, keeps=Keeps.WORST)
    reached = heedless if not ends else torch.full_like(own, -torch.inf)
    for end, (_, before) in zip(ends, known[1:], strict=True):
        found = run(attack, dataclasses.replace(problem, oracle=asked, start=end), draws)
        bill.forwards += int(found.forwards.sum())
        bill.backwards += int(found.backwards.sum())
        known.append((found.x, told(found.x)[0]))
        # the worst of the descents
        reached = torch.maximum(reached, torch.minimum(known[-1][1], before))
    refusal = torch.where(heedless.isfinite(), heedless - REFUSED * (heedless - reached).clamp_min(0), heedless)
    best = torch.full_like(own, torch.inf)
    for other, excess in known:
        point, best = torch.where(rows(excess < best, point), other, point), torch.minimum(excess, best)
    return dataclasses.replace(heads, refusal=torch.maximum(torch.maximum(refusal, best), own) + room), point


def _nothing(logits: Tensor, goal: Any) -> Tensor:
    return logits[:, 0]


def _direction(far: Tensor, near: Tensor) -> Tensor:
    """Return weights `[D]` along which `far` scores 1 and the rows of `near` as little as possible, by least squares.

    The ridge regression of the one point against the others, solved among the points: features are many, points few.
    """
    far, near = far.double(), near.double()
    inner = near @ near.T
    ridge = _RIDGE * inner.diagonal().mean().clamp_min(1e-30)
    inner.diagonal().add_(ridge)
    weight: Tensor = far - near.T @ torch.linalg.solve(inner, near @ far)
    return weight / (weight @ far).clamp_min(1e-30)


def _climbed(problem: Problem, heads: Heads, draws: Draws, bill: _Bill) -> tuple[Tensor, Tensor]:
    """Return the points that a short ascent along the heads' weights reaches from random starts, and their scores."""
    assert isinstance(problem.oracle, TorchOracle), "that of the features"
    attack = _Sparse(STEPS) if problem.threat.norm is L0 else PGD(STEPS, objective=margin, keeps=Keeps.WORST)
    found = run(attack, dataclasses.replace(problem, oracle=Headed.of(problem.oracle, heads, draws)), draws)
    bill.forwards += int(found.forwards.sum())
    bill.backwards += int(found.backwards.sum())
    score: Tensor = heads.border * (1 + found.gap / heads.gap)
    return found.x, score


@dataclasses.dataclass(frozen=True)
class _Sparse:
    # ascent for L0, where no direction is the steepest: a long step, of which the largest changes are kept
    steps: int
    objective: Objective = margin

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.WORST

    def init(self, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.start(problem.x, draws))

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        grad = gradient_of(seen) * problem.threat.scale
        largest = flat(grad).abs().amax(1)
        move = problem.threat.scale * grad / rows(divisor(largest), grad)
        return Point(problem.threat.project(state.query + move, problem.x))


def _ask(case: Problem, points: Tensor, draws: Draws) -> Observation:
    seen = case.oracle.look(points, case.goal, margin, Access.SCORES, draws)
    threat = case.threat
    allowed = threat.allows(threat.size(points, case.x)) & threat.in_box(points)
    return seen._replace(reached=seen.reached & allowed)


def _edge(problem: Problem, draws: Draws) -> Tensor:
    # from a ball four times as large and back: in every norm that leads to the edge
    return _drawn(problem, draws, 4.0)


def _inner(problem: Problem, draws: Draws) -> Tensor:
    return _drawn(problem, draws, 0.5)


def _drawn(problem: Problem, draws: Draws, share: float) -> Tensor:
    x, threat = problem.x, problem.threat
    eps = threat.eps * share
    if threat.norm is L0:
        eps = eps.floor() if isinstance(eps, Tensor) else float(int(eps))
    return threat.snap(threat.project(threat.at(eps).start(x, draws), x), x)
