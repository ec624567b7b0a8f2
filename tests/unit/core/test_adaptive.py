"""Lenses that know a detector: planes and lines where the answer is known, and what is not to be known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.core.adaptive import WAYS, Adaptive
from assay.core.compose import Through
from assay.core.draws import Draws
from assay.core.errors import BadInput, ModelError
from assay.core.goal import Goal, Targeted, Untargeted, among_classes
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.core.signals import Signals, excess_of, with_refusal
from assay.models import Classifier, load_model


class Refuser(nn.Module):
    """A network that refuses: what `said(x)` says of images, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = 0

    def said(self, x: Tensor) -> Signals:
        raise NotImplementedError

    def signals(self, x: Tensor) -> Signals:
        self.forwards += len(x)
        return self.said(x)

    def forward(self, x: Tensor) -> Tensor:
        return with_refusal(self.signals(x))


class Plane(Refuser):
    """Two discs of radius little more than 1 about e and -e: wrong inside the one, accepted inside the other."""

    def said(self, x: Tensor) -> Signals:
        point, e = 4 * x.flatten(1) - 2, torch.tensor([1.0, 0.0])
        f, g = (math.exp(-1) - 1e-3 - torch.exp(-(point - way * e).square().sum(1)) for way in (1, -1))
        return Signals(torch.stack([torch.zeros_like(f), -f], 1), g)


@dataclasses.dataclass(frozen=True)
class PlainSum:
    weight: float

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        return among_classes(goal).lead(logits[:, :-1]) - self.weight * excess_of(logits)


def refusing(module: nn.Module) -> Classifier:
    return load_model(module, rejects=True)


def test_where_a_plain_sum_fails_at_every_weight_both_ways_arrive() -> None:
    x = torch.tensor([[0.51, 0.516], [0.49, 0.484], [0.508, 0.484], [0.492, 0.516]]).view(4, 1, 1, 2)
    y = torch.zeros(4, dtype=torch.int64)

    def share(steps: int = 350, step: float = 0.004, **options: object) -> float:
        attack = build("pgd", steps=steps, step_size=step, random_start=False, **options)
        found = assay.attack(attack, refusing(Plane()), x, y, assay.L2(0.1))
        return float(found.success.float().mean())

    for weight in (0.2, 1.0, 5.0):
        assert share(100, 0.0125, objective=PlainSum(weight)) == 0
    assert share(objective=margin, adaptive="selective") == 1
    assert share(objective=margin, adaptive="orthogonal") == 1


class Lines(Refuser):
    """Linear in channel 0, for the classifier and the detector alike; the other channels hold each image's weights."""

    def said(self, x: Tensor) -> Signals:
        own, f, g, bias = x.flatten(2).unbind(1)
        lead, excess = ((own * (2 * weights - 1)).sum(1) + 8 * bias[:, i] - 4 for i, weights in enumerate((f, g)))
        return Signals(torch.stack([torch.zeros_like(lead), lead], 1), excess)


def lines(n: int, values: int, eps: float) -> tuple[Tensor, Tensor]:
    """Return images of `Lines`, and whether a linear program finds a point that is wrong and accepted."""
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(n, 4, 1, values, generator=draw)
    own, f, g = x[:, 0, 0], 2 * x[:, 1, 0] - 1, 2 * x[:, 2, 0] - 1
    away, refused = torch.rand(n, generator=draw), 2 * torch.rand(n, generator=draw) - 1
    x[:, 3, 0, 0] = (4 - (own * f).sum(1) - away * f.abs().sum(1) * eps) / 8
    x[:, 3, 0, 1] = (4 - (own * g).sum(1) + refused * g.abs().sum(1) * eps) / 8
    there = []
    for own, f, g, bias in x.double().numpy()[:, :, 0]:
        f, g, (at_f, at_g) = 2 * f - 1, 2 * g - 1, 8 * bias[:2] - 4
        # the largest t that the lead and minus the excess both reach
        most = linprog(
            np.r_[np.zeros(values), -1], np.array([np.r_[-f, 1], np.r_[g, 1]]), [at_f, -at_g],
            bounds=[*zip((own - eps).clip(0), (own + eps).clip(max=1), strict=True), (None, None)],
        )  # fmt: skip
        there.append(most.x[-1] > 0)
    return x, torch.tensor(there)


@pytest.mark.parametrize("n", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_linear_classifiers_with_linear_detectors_fall_where_a_linear_program_says(n: int) -> None:
    x, there = lines(n, 8, 0.2)
    assert 0.6 * n < int(there.sum()) < 0.8 * n
    y, model = torch.zeros(len(x), dtype=torch.int64), refusing(Lines())
    threat = assay.Linf(0.2, mask=torch.tensor([1, 0, 0, 0]).view(4, 1, 1))
    found = assay.attack(build("hinge-sum"), model, x, y, threat, batch=n)
    assert torch.equal(found.success, there)
    for way in ("selective", "orthogonal"):
        one = assay.attack(build("pgd", objective=margin, adaptive=way), model, x, y, threat, batch=n)
        assert not bool((one.success & ~there).any())
        assert int(one.success.sum()) > 0.85 * int(there.sum())


class Copies(Refuser):
    """A linear network that compares an image with its left half, and keeps guides where it is told to."""

    def __init__(self, guides: bool = True) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 12, generator=draw))
        if guides:
            self.register_buffer("guide_features", torch.rand(4, 12, generator=draw))
            self.register_buffer("guide_logits", 3 * torch.eye(4))

    def said(self, x: Tensor) -> Signals:
        half = torch.cat([x[..., :2], torch.zeros_like(x[..., 2:])], 3)
        views = torch.stack([one.flatten(1) @ self.weight.mT for one in (x, half)], 1)
        excess = (views[:, 0] - views[:, 1]).abs().sum(1) - 1
        return Signals(views[:, 0], excess, views, x.flatten(1))


def look(way: str, goal: Goal, x: Tensor, module: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """Return the gradient that a look behind the lens gives, and its logits."""
    oracle = Adaptive(way)(TorchOracle(module or Copies(), rejects=True))  # type: ignore[arg-type]  # a way
    draws = Draws.of([str(i) for i in range(len(x))], 0)
    seen = oracle.look(x, goal, margin, Access.GRADIENT, draws)
    assert seen.grad is not None
    assert torch.allclose(seen.loss, margin(seen.logits, goal), 0, 0, equal_nan=True)
    return seen.grad, seen.logits


IMAGES = torch.rand(6, 1, 3, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("way", WAYS)
def test_what_is_judged_is_the_answer_of_the_whole_model(way: str) -> None:
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    grad, logits = look(way, Untargeted(y, -1), IMAGES)
    assert torch.equal(logits, Copies()(IMAGES).detach())
    assert bool(grad.flatten(1).any(1).all())


@pytest.mark.parametrize("way", WAYS)
def test_class_0_is_a_target_as_any_other(way: str) -> None:
    y = torch.tensor([1, 2, 3, 1, 2, 3])
    toward = look(way, Targeted(y, torch.zeros_like(y), -1), IMAGES)[0]
    assert not torch.equal(toward, look(way, Untargeted(y, -1), IMAGES)[0])
    model = refusing(Copies())
    found = assay.attack(
        build("pgd", objective=margin, adaptive=way), model, IMAGES, y, assay.Linf(0.5),
        goal=Targeted(y, torch.zeros_like(y), -1),
    )  # fmt: skip
    assert torch.equal(found.success, found.logits.argmax(1) == 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_goal_that_knows_no_refusal_sees_the_model_as_it_is(way: str) -> None:
    goal = Untargeted(torch.zeros(6, dtype=torch.int64))
    draws = Draws.of([str(i) for i in range(6)], 0)
    plain = TorchOracle(Copies())
    own, seen = (
        one.look(IMAGES, goal, margin, Access.GRADIENT, draws).grad
        for one in (plain, Adaptive(way)(plain))  # type: ignore[arg-type]  # a way
    )
    assert own is not None and seen is not None and torch.equal(own, seen)


@pytest.mark.parametrize("way", WAYS)
def test_one_nan_ends_only_its_row(way: str) -> None:
    class Broken(Copies):
        def said(self, x: Tensor) -> Signals:
            seen = super().said(x)
            return seen._replace(excess=torch.where(x[:, 0, 0, 0] > 2, torch.nan, seen.excess))

    y = torch.tensor([0, 1, 2, 3, 0, 1])
    x = IMAGES.clone()
    x[2, 0, 0, 0] = 3
    broken, whole = (look(way, Untargeted(y, -1), x, module)[0] for module in (Broken(), Copies()))
    rest = torch.arange(6) != 2
    assert torch.equal(broken[rest], whole[rest])
    assert bool(broken.isfinite().all())


@pytest.mark.parametrize("way", WAYS)
def test_rows_do_not_depend_on_their_neighbours(way: str) -> None:
    y, model = torch.tensor([0, 1, 2, 3, 0, 1]), refusing(Copies())
    attack = build("pgd", steps=5, objective=margin, adaptive=way)
    ids = list("abcdef")
    whole = assay.attack(attack, model, IMAGES, y, assay.Linf(0.2), ids=ids, keep="last")
    for at in ([0, 1], [2, 3, 4, 5]):
        part = assay.attack(attack, model, IMAGES[at], y[at], assay.Linf(0.2), ids=[ids[i] for i in at], keep="last")
        torch.testing.assert_close(part.x_adv, whole.x_adv[at])
        assert torch.equal(part.success, whole.success[at])


@pytest.mark.parametrize(("way", "backwards"), [("selective", 1), ("orthogonal", 2), ("views", 1)])
def test_passes_are_those_of_the_looks(way: str, backwards: int) -> None:
    module = Copies()
    model = refusing(module)
    attack = build("pgd", steps=3, random_start=False, objective=margin, adaptive=way)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    assay.attack(attack, model, IMAGES, y, assay.Linf(0.01), keep="last")
    module.forwards = 0
    found = assay.attack(attack, model, IMAGES, y, assay.Linf(0.01), keep="last")
    assert found.forwards.tolist() == [4] * 6 and found.backwards.tolist() == [3 * backwards] * 6
    # and what is asked before an attack begins, of one image or two
    assert 24 <= module.forwards <= 36


def test_what_cannot_be_known_is_refused() -> None:
    y = torch.zeros(6, dtype=torch.int64)
    with pytest.raises(BadInput, match="stored no features of accepted images"):
        look("features", Untargeted(y, -1), IMAGES, Copies(guides=False))
    with pytest.raises(ModelError, match="has no views to attack"):
        look("views", Untargeted(y, -1), IMAGES, Plane2())
    with pytest.raises(BadInput, match=r"'selektive' is no way.*Did you mean 'selective'"):
        Adaptive("selektive")  # type: ignore[arg-type]  # no way
    plain = load_model(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)))
    with pytest.raises(BadInput, match="adaptive is for models that refuse images"):
        assay.attack(Through(Adaptive("selective"), assay.PGD()), plain, IMAGES, y, assay.Linf(0.1))
    with pytest.raises(BadInput, match="'deepfool' climbs several differences of logits at once"):
        build("deepfool", adaptive="selective")


class Plane2(Copies):
    def said(self, x: Tensor) -> Signals:
        return super().said(x)._replace(views=None)


@pytest.mark.parametrize("name", ["boundary", "hop-skip-jump"])
def test_label_only_attacks_want_wrong_and_accepted(name: str) -> None:
    class Half(Refuser):
        # wrong in the bright half, refused where the first value is high
        def said(self, x: Tensor) -> Signals:
            bright = 10 * (x.flatten(1).mean(1) - 0.5)
            return Signals(torch.stack([torch.zeros_like(bright), bright], 1), 10 * (x[:, 0, 0, 0] - 0.6))

    x, y = torch.full((4, 1, 4, 4), 0.45), torch.zeros(4, dtype=torch.int64)
    found = assay.attack(build(name, queries=300), refusing(Half()), x, y, assay.L2(math.inf))
    assert bool(found.success.all())
    assert bool((found.x_adv[:, 0, 0, 0] <= 0.6).all()) and float(found.size.max()) < 0.4

    class Never(Half):
        def said(self, x: Tensor) -> Signals:
            seen = super().said(x)
            return seen._replace(excess=seen.logits[:, 1])

    # whatever is wrong is refused: no start is one
    assert not bool(assay.attack(build(name, queries=100), refusing(Never()), x, y, assay.L2(9)).success.any())
