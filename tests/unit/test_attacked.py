"""What `attack` and `sweep` leave out: targets that are the label, points without scores; and sizes at the budget."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.core.errors import ModelError
from assay.core.objective import cross_entropy, margin
from assay.core.result import told_size

N = 10
X = 0.3 + 0.4 * torch.rand(N, 3, 3, 3, generator=torch.Generator().manual_seed(5))


class Plane(nn.Module):
    """Four classes by a plane each; where the image is brighter than `limit`, `spoiled` takes the scores."""

    def __init__(self, limit: float = math.inf, spoiled: Any = None) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(27, 4))
        self.limit, self.spoiled = limit, spoiled

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = 4 * self.inner(x)
        if self.spoiled is None:
            return logits
        # cut off from the gradient, which a NaN on the side not taken would spoil everywhere
        spoiled = self.spoiled(logits.detach())
        return torch.where(x.flatten(1).mean(1, keepdim=True) > self.limit, spoiled, logits)


with torch.no_grad():
    Y = Plane()(X).argmax(1)
LIMIT = float(X.flatten(1).mean(1).max()) + 1e-4


def losing(logits: Tensor) -> Tensor:
    return logits.scatter(1, logits.argmin(1, keepdim=True), math.nan)


def overflow(logits: Tensor) -> Tensor:
    return (logits * 1e5).half().to(logits.dtype)


SPOILS = {
    "nan": lambda logits: logits * math.nan, "one nan": losing, "inf": lambda logits: logits.abs() * math.inf,
    "half": overflow, "nothing": lambda logits: logits * 0 - math.inf,
}  # fmt: skip
GOALS = {
    "untargeted": lambda y: assay.Untargeted(y), "targeted": lambda y: assay.Targeted(y, (y + 1) % 4),
    "out of top": lambda y: assay.OutOfTop(y, 2),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("keep", ["last", "first", "worst", "smallest"])
@pytest.mark.parametrize("goal", GOALS)
def test_a_point_without_scores_is_no_success(spoil: str, keep: str, goal: str) -> None:
    model = Plane(LIMIT, SPOILS[spoil])
    result = assay.attack(
        assay.PGD(steps=6, step_size=0.5), model, X, Y, assay.Linf(0.3), goal=GOALS[goal](Y), keep=keep
    )
    scored = result.logits.amax(1).isfinite() & ~result.logits.isnan().any(1)
    assert int(result.unscored.sum()) > 0 and result.unscored.shape == (N,)
    assert not bool((result.success & ~scored).any())
    assert bool(result.x_adv.isfinite().all())
    if keep != "last":
        assert bool(scored.all()), "the best point with scores is kept"
        assert torch.allclose(model(result.x_adv), result.logits, atol=1e-5)
    judged = ~((result.unscored > 0) & ~result.success)
    assert torch.equal(result.judged, judged)
    kept = 1 - float(result.success[judged].double().mean()) if bool(judged.any()) else math.nan
    assert result.robust_accuracy == pytest.approx(kept, nan_ok=True)


NAMES = [
    "fgsm",
    "apgd",
    "deepfool",
    "fab",
    "ddn",
    "fmn",
    "pdpgd",
    "alma",
    "sigma-zero",
    "carlini-wagner",
    "ead",
    "jsma",
]
NORM = {
    "sigma-zero": assay.L0(9), "carlini-wagner": assay.L2(1), "ddn": assay.L2(1), "alma": assay.L2(1),
    "ead": assay.L1(5), "jsma": assay.L0(9),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_attack_is_poisoned(name: str) -> None:
    """From the region without scores an attack comes back: it ends at numbers, and breaks other images as before."""
    options = {} if name in ("fgsm", "carlini-wagner", "ead", "fab", "jsma") else {"steps": 12}
    threat = NORM.get(name, assay.Linf(0.2))
    plain = assay.attack(build(name, **options), Plane(), X, Y, threat)
    result = assay.attack(build(name, **options), Plane(LIMIT, SPOILS["nan"]), X, Y, threat)
    assert bool(result.x_adv.isfinite().all())
    assert not bool((result.success & result.logits.isnan().any(1)).any())
    untouched = result.unscored == 0
    assert torch.equal(result.success[untouched], plain.success[untouched])


def test_an_overflow_in_half_precision_is_no_success() -> None:
    class Half(Plane):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).half()

    for objective in (cross_entropy, margin):
        method = assay.PGD(steps=6, step_size=0.5, objective=objective)
        result = assay.attack(method, Half(LIMIT, lambda logits: logits * 1e6), X, Y, assay.Linf(0.3))
        assert int(result.unscored.sum()) > 0 and bool(result.x_adv.isfinite().all())
        assert not bool((result.success & ~result.logits.isfinite().all(1)).any())


def test_steps_without_scores_do_not_end_an_attack() -> None:
    class Sometimes(Plane):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) * (math.nan if self.calls in (4, 7) else 1)

    threat, goal = assay.Linf(0.15), assay.Targeted(Y, (Y + 2) % 4)
    plain = assay.attack(assay.BIM(steps=12, step_size=0.3), Plane(), X, Y, threat, goal=goal)
    result = assay.attack(assay.BIM(steps=12, step_size=0.3), Sometimes(), X, Y, threat, goal=goal)
    assert result.unscored.tolist() == [2] * N
    assert int(plain.success.sum()) > 0 and torch.equal(result.success, plain.success)


def test_an_image_without_scores_is_an_error() -> None:
    model = Plane(float(X.flatten(1).mean(1).sort().values[-2]) - 1e-4, SPOILS["nan"])
    with pytest.raises(ModelError, match=r"for 2 of 10 images themselves, such as x\[\d\]"):
        assay.attack(assay.FGSM(), model, X, Y, assay.Linf(0.1))
    with pytest.raises(ModelError, match="for 2 of 10 images"):
        assay.sweep(assay.BIM(steps=2), model, X, Y, [assay.Linf(0.05), assay.Linf(0.1)])


def test_a_masked_class_is_no_trouble() -> None:
    class Masked(Plane):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([super().forward(x), x.new_full((len(x), 1), -math.inf)], 1)

    for method in (assay.PGD(steps=5), build("deepfool"), build("apgd", steps=8)):
        plain = assay.attack(method, Plane(), X, Y, assay.Linf(0.1))
        masked = assay.attack(method, Masked(), X, Y, assay.Linf(0.1))
        assert int(masked.unscored.sum()) == 0 and torch.equal(masked.success, plain.success)
    # nobody reaches a class that is masked
    aimed = assay.attack(
        assay.PGD(steps=5), Masked(), X, Y, assay.Linf(0.5), goal=assay.Targeted(Y, torch.full_like(Y, 4))
    )
    assert not bool(aimed.success.any()) and int(aimed.unscored.sum()) == 0 and bool(aimed.x_adv.isfinite().all())


def test_sweeps_count_what_attacks_count() -> None:
    model = Plane(LIMIT, SPOILS["inf"])
    for question in ("as_attacked", "worst_case"):
        for order in ("ascending", "descending"):
            curve = assay.sweep(
                assay.PGD(steps=6, step_size=0.5),
                model,
                X,
                Y,
                [assay.Linf(e) for e in (0.02, 0.3)],
                question=question,
                order=order,
            )
            for one in curve:
                assert not bool((one.success & ~one.logits.isfinite().all(1)).any())
            assert int(curve[1].unscored.sum()) > 0
    # one run serves all budgets of an attack that looks for the smallest change, and says so at each
    (small, large) = assay.sweep(build("ddn", steps=10), model, X, Y, [assay.L2(0.1), assay.L2(5)])
    assert torch.equal(small.unscored, large.unscored)


def test_targets_that_are_the_label_are_left_out() -> None:
    t = torch.where(torch.arange(N) < 4, Y, (Y + 1) % 4)
    goal, model = assay.Targeted(Y, t), Plane()
    result = assay.attack(assay.PGD(steps=8), model, X, Y, assay.Linf(0.3), goal=goal)
    assert result.excluded.tolist() == [True] * 4 + [False] * 6
    assert not bool(result.success[:4].any()) and bool(result.success[4:].any())
    assert torch.equal(result.x_adv[:4], X[:4]) and result.size[:4].tolist() == [0] * 4
    assert torch.allclose(result.logits, model(result.x_adv), atol=1e-5)
    assert result.forwards[:4].tolist() == [1] * 4
    assert result.robust_accuracy == pytest.approx(1 - float(result.success[4:].double().mean()))
    # the others are attacked as if alone
    alone = assay.attack(
        assay.PGD(steps=8), model, X[4:], Y[4:], assay.Linf(0.3), goal=assay.Targeted(Y[4:], t[4:]),
        ids=[str(i) for i in range(4, N)],
    )  # fmt: skip
    assert torch.equal(alone.x_adv, result.x_adv[4:]) and torch.equal(alone.success, result.success[4:])
    curve = assay.sweep(assay.FGSM(), model, X, Y, [assay.Linf(0.05), assay.Linf(0.3)], goal=goal)
    assert all(torch.equal(one.excluded, result.excluded) and not bool(one.success[:4].any()) for one in curve)
    assert [one.forwards[:4].tolist() for one in curve] == [[1] * 4, [0] * 4]


def test_where_all_targets_are_labels_there_is_no_accuracy() -> None:
    for keep in ("last", "first", "worst", "smallest"):
        result = assay.attack(assay.FGSM(), Plane(), X, Y, assay.Linf(0.3), goal=assay.Targeted(Y, Y), keep=keep)
        assert bool(result.excluded.all()) and not bool(result.success.any())
        assert math.isnan(result.robust_accuracy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", ["8/255", 0.1, 0.3, "1/3"])
def test_sizes_compare_with_the_budget_as_the_threat_judges(eps: Any, dtype: torch.dtype) -> None:
    for threat in (assay.Linf(eps), assay.L2(eps), assay.L1(eps), assay.L2(torch.full((N,), 0.1))):
        result = assay.attack(assay.FGSM(), Plane().to(dtype), X.to(dtype), Y, threat)
        budget = torch.as_tensor(threat.eps, dtype=torch.float64)
        assert bool((result.size.double() <= budget).all()) and bool(threat.allows(result.size).all())
        assert bool((result.size.double() > 0.99 * budget).all())


def test_a_size_that_the_threat_does_not_allow_is_told_as_it_is() -> None:
    threat = assay.Linf(0.1)
    sizes = torch.tensor([0.0, 0.05, 0.1, 0.1 + 5e-7, 0.1 + 1e-4, math.inf])
    told = told_size(sizes, threat)
    assert torch.equal(told <= 0.1, threat.allows(sizes)) and torch.equal(told[[0, 1, 4, 5]], sizes[[0, 1, 4, 5]])
