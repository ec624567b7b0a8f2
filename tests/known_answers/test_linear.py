"""Linear models, where every answer is known: FGSM's points and the distance to the nearest decision boundary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.attacks.gradient import BIM, FGSM, PGD
from assay.core.compose import Cascade, EachTarget, Method, Restarts
from assay.core.goal import Goal, OutOfTop, Targeted, Untargeted
from assay.core.objective import cross_entropy, margin
from assay.core.search import Keeps
from assay.core.threat import NORMS, UNBOXED, Threat
from tests.support.bench import Case, Linear, make

K, SHAPE, N = 5, (3, 4, 5), 12
D = 60
MAKER = torch.Generator().manual_seed(11)
# small enough for the cross-entropy's gradient to be exact: float32 rounds it where logits differ by more than 10
WEIGHT, BIAS = 0.25 * torch.randn(D, K, generator=MAKER), 0.25 * torch.randn(K, generator=MAKER)
MODEL = Linear(WEIGHT, BIAS)
X = torch.rand(N, *SHAPE, generator=MAKER).mul(1.2).sub(0.1).clamp(0, 1)
LOGITS = X.flatten(1) @ WEIGHT + BIAS
Y = LOGITS.argmax(1)
BOXES = [UNBOXED, (0.0, 1.0)]
BALLS = ["linf", "l2", "l1"]

balls = pytest.mark.parametrize("norm", BALLS)
boxes = pytest.mark.parametrize("box", BOXES, ids=["no box", "box"])


def run(method: Method, norm: str, eps: float | Tensor, box=UNBOXED, goal: Goal | None = None, keeps=None):
    return Case(MODEL, X, goal or Untargeted(Y), Threat(NORMS[norm], eps, box)).run(method, keeps)


def steps_to(x: np.ndarray, w: np.ndarray, need: float, norm: str, box: tuple[float, float]) -> float:
    """Return the size of the smallest change that raises `w . x` by `need`; inf where the box is in the way.

    In Linf every value goes the same way, in L2 each in proportion to its weight, in L1 the heaviest first: each
    until it meets the box. How far is found by bisection.
    """
    room = np.where(w > 0, box[1] - x, x - box[0])
    a = np.abs(w)
    if (a * np.minimum(room, 1e6)).sum() < need:
        return float("inf")
    if norm == "l1":
        size = 0.0
        for i in np.argsort(-a):
            move = min(room[i], need / a[i])
            size, need = size + move, need - a[i] * move
            if need <= 1e-12:
                break
        return size
    rate = np.ones_like(a) if norm == "linf" else a
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if (a * np.minimum(middle * rate, room)).sum() < need:
            low = middle
        else:
            high = middle
    move = np.minimum(high * rate, room)
    return float(move.max() if norm == "linf" else np.sqrt((move**2).sum()))


def distances(norm: str, box: tuple[float, float] = UNBOXED) -> Tensor:
    """Return the distance `[N, K]` from each sample to where class k overtakes its label."""
    x, weight, logits = (v.double().numpy() for v in (X.flatten(1), WEIGHT, LOGITS))
    to = np.full((N, K), np.inf)
    for i in range(N):
        y = int(Y[i])
        for k in range(K):
            if k != y:
                to[i, k] = steps_to(x[i], weight[:, k] - weight[:, y], logits[i, y] - logits[i, k], norm, box)
    return torch.from_numpy(to).float()


def test_the_reference_is_the_textbook_s() -> None:
    """Without a box the distance is the gap over the dual norm of the difference of weights."""
    for norm, dual in (("linf", 1), ("l2", 2), ("l1", torch.inf)):
        to = distances(norm)
        for i, k in ((0, (Y[0] + 1) % K), (5, (Y[5] + 2) % K)):
            w = WEIGHT[:, k] - WEIGHT[:, Y[i]]
            gap = LOGITS[i, Y[i]] - LOGITS[i, k]
            assert float(to[i, k]) == pytest.approx(float(gap / torch.linalg.vector_norm(w, dual)), rel=1e-4)


# ---- FGSM in closed form


def gradient_of_cross_entropy(y: Tensor) -> Tensor:
    return (LOGITS.softmax(1) - torch.eye(K)[y]) @ WEIGHT.T


@boxes
@pytest.mark.parametrize("eps", [0.01, 0.1, 0.7])
def test_fgsm(eps: float, box) -> None:
    grad = gradient_of_cross_entropy(Y)
    expected = (X.flatten(1) + eps * grad.sign()).clamp(*box)
    found = run(FGSM(), "linf", eps, box)
    assert torch.allclose(found.x.flatten(1), expected, atol=1e-6)
    assert torch.equal(found.success, (expected @ WEIGHT + BIAS).argmax(1) != Y)


@boxes
@pytest.mark.parametrize("eps", [0.1, 1.0])
def test_fgm(eps: float, box) -> None:
    grad = gradient_of_cross_entropy(Y)
    expected = (X.flatten(1) + eps * grad / grad.norm(dim=1, keepdim=True)).clamp(*box)
    assert torch.allclose(run(FGSM(), "l2", eps, box).x.flatten(1), expected, atol=1e-5)
    if box == UNBOXED:
        top = grad.abs().argmax(1, keepdim=True)
        expected = X.flatten(1).scatter_add(1, top, eps * grad.gather(1, top).sign())
        assert torch.allclose(run(FGSM(), "l1", eps, box).x.flatten(1), expected, atol=1e-6)


@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_fgsm_towards_a_target(eps: float) -> None:
    target = (Y + 2) % K
    grad = -gradient_of_cross_entropy(target)
    found = run(FGSM(), "linf", eps, goal=Targeted(Y, target))
    assert torch.allclose(found.x.flatten(1), X.flatten(1) + eps * grad.sign(), atol=1e-6)


@balls
@boxes
def test_fgsm_with_the_margin_is_the_largest_change_of_the_margin(norm: str, box) -> None:
    """Without a box no point of the ball has a larger margin towards the runner-up; with one, none inside."""
    runner = LOGITS.topk(2, 1).indices[:, 1]
    w = WEIGHT.T[runner] - WEIGHT.T[Y]
    found = run(FGSM(objective=margin), norm, 0.2, UNBOXED)
    gain = ((found.x - X).flatten(1) * w).sum(1)
    dual = {"linf": w.abs().sum(1), "l2": w.norm(dim=1), "l1": w.abs().amax(1)}[norm]
    assert torch.allclose(gain, 0.2 * dual, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_bim_walks_to_where_fgsm_jumps_when_the_gradient_does_not_turn(steps: int) -> None:
    """Two classes: the direction of the gradient is the same everywhere."""
    two = Linear(WEIGHT[:, :2].clone(), BIAS[:2].clone())
    case = Case(two, X, Untargeted(LOGITS[:, :2].argmax(1)), Threat(NORMS["linf"], 0.1))
    assert torch.allclose(case.run(BIM(steps)).x, case.run(FGSM()).x, atol=1e-6)
    assert torch.allclose(case.run(build("mi-fgsm", steps=steps)).x, case.run(FGSM()).x, atol=1e-6)
    assert torch.allclose(case.run(build("ni-fgsm", steps=steps)).x, case.run(FGSM()).x, atol=1e-6)
    assert torch.allclose(case.run(build("pgd", steps=10 * steps), Keeps.LAST).x, case.run(FGSM()).x, atol=1e-6)


# ---- distances

# towards every class in turn, from the image: what reaches the nearest boundary of a linear model
STRONG = {
    "linf": EachTarget(PGD(40, random_start=False, objective=margin), K - 1),
    "l2": EachTarget(PGD(40, random_start=False, objective=margin), K - 1),
    "l1": EachTarget(PGD(100, random_start=False, objective=margin), K - 1),
}


@balls
@boxes
def test_pgd_breaks_just_beyond_the_distance(norm: str, box) -> None:
    distance = distances(norm, box).amin(1)
    assert bool(distance.isfinite().all())
    assert bool(run(STRONG[norm], norm, distance * 1.01, box).success.all())


@balls
def test_pgd_from_random_starts_breaks_just_beyond_the_distance(norm: str) -> None:
    distance = distances(norm).amin(1)
    method = EachTarget(PGD(80, step_size=0.1 if norm == "l2" else None, objective=margin), K - 1)
    assert bool(run(method, norm, distance * 1.01).success.all())


@balls
@boxes
def test_pgd_as_it_comes_is_within_a_few_per_cent_of_the_distance(norm: str, box) -> None:
    """The default PGD: cross-entropy, random start, towards no class in particular, two classes.

    In L2 the box is kept by clipping, which gives away a little of the budget.
    """
    two = Linear(WEIGHT[:, :2].clone(), BIAS[:2].clone())
    y = LOGITS[:, :2].argmax(1)
    w = (WEIGHT[:, 1] - WEIGHT[:, 0]).double().numpy()
    gap = LOGITS[:, :2].diff(dim=1).abs().squeeze(1).double().numpy()
    size = [
        steps_to(X[i].flatten().double().numpy(), w * (1 if y[i] == 0 else -1), float(gap[i]), norm, box)
        for i in range(N)
    ]
    case = Case(
        two, X, Untargeted(y), Threat(NORMS[norm], (1.05 if norm == "l2" else 1.03) * torch.tensor(size).float(), box)
    )
    assert bool(case.run(PGD()).success.all())


EVERY = [
    (name, norm) for name, entry in ATTACKS.items() for norm in entry.norms if norm not in ("l0", "ycbcr", "patch")
]


@boxes
@pytest.mark.parametrize(("name", "norm"), EVERY, ids=lambda v: v)
def test_nothing_breaks_within_the_distance(name: str, norm: str, box) -> None:
    """Not the strongest attack, not by rounding, not in any way of keeping."""
    distance = distances(norm, box).amin(1)
    for keeps in (Keeps.LAST, Keeps.WORST):
        assert not bool(run(make(name), norm, 0.99 * distance, box, keeps=keeps).success.any())


@balls
def test_not_even_everything_together_breaks_within_the_distance(norm: str) -> None:
    box = (0.0, 1.0)
    distance = distances(norm, box).amin(1)
    everything = Cascade((*(make(name) for name, of in EVERY if of == norm), STRONG[norm], Restarts(PGD(), 3)))
    assert not bool(run(everything, norm, 0.99 * distance, box).success.any())


@balls
def test_a_target_is_reached_beyond_its_own_distance(norm: str) -> None:
    """Three classes, so that passing the label on the way to the target is passing both others."""
    target = LOGITS.topk(2, 1).indices[:, 1]
    beyond = distances(norm).gather(1, target[:, None]).squeeze(1)
    method = PGD(100, random_start=False, objective=margin)
    assert not bool(run(method, norm, 0.99 * beyond, goal=Targeted(Y, target)).success.any())
    assert bool(run(method, norm, 3 * beyond, goal=Targeted(Y, target)).success.all())


@balls
def test_out_of_the_top_two_takes_at_least_the_second_distance(norm: str) -> None:
    second = distances(norm).sort(1).values[:, 1]
    method = PGD(60, random_start=False, objective=margin)
    goal = OutOfTop(Y, 2)
    assert not bool(run(method, norm, 0.99 * second, goal=goal).success.any())
    assert bool(run(method, norm, 3 * second, goal=goal).success.all())


def test_the_smallest_success_found_is_the_distance() -> None:
    """Many small steps out of the image pass the boundary close to where it is."""
    distance = distances("l2").amin(1)
    found = run(EachTarget(BIM(100, objective=margin), K - 1), "l2", 1.5 * distance, keeps=Keeps.SMALLEST)
    assert bool(found.success.all())
    assert bool((found.size >= 0.999 * distance).all())
    assert bool((found.size <= 1.02 * distance).all())


def test_cross_entropy_and_margin_agree_on_two_classes() -> None:
    two = Linear(WEIGHT[:, :2].clone(), BIAS[:2].clone())
    case = Case(two, X, Untargeted(LOGITS[:, :2].argmax(1)), Threat(NORMS["linf"], 0.1))
    assert torch.equal(case.run(FGSM(cross_entropy)).x, case.run(FGSM(margin)).x)
