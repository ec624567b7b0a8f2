"""Lenses: gradients that are means over views, verdicts that are about the point itself, and costs that are exact."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.attacks.gradient import BIM, PGD
from assay.core.compose import Lens, Through, run
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.lenses import Averaged, Expectation, InputDiversity, ScaleCopies, TranslationInvariance
from assay.core.objective import cross_entropy, differences, margin
from assay.core.oracle import Access, TorchOracle
from assay.core.search import Keeps
from assay.core.threat import L2, Linf
from tests.support import checks
from tests.support.bench import Case, Curved, case


def blurred_at_random(points: Tensor, draws: Draws) -> Tensor:
    share = draws.uniform("share", 1).view(-1, 1, 1, 1).to(points)
    return points * (1 - share) + share * points.mean((2, 3), keepdim=True)


LENSES: dict[str, Lens] = {
    "expectation": Expectation(3),
    "transformation": Expectation(3, blurred_at_random),
    "averaged": Averaged(3, 0.02),
    "uniform": Averaged(3, 0.02, uniform=True),
    "diversity": InputDiversity(),
    "unjudged diversity": InputDiversity(judges=False),
    "scales": ScaleCopies(3),
    "translations": TranslationInvariance(3),
}

every_lens = pytest.mark.parametrize("name", LENSES)


@pytest.mark.parametrize(
    "check",
    [
        checks.check_budget,
        checks.check_honest,
        checks.check_inputs_unchanged,
        checks.check_zero_budget,
        checks.check_subsets,
        checks.check_subsets_of_every_keeping,
        checks.check_counts,
        checks.check_finished_rows,
        checks.check_grid,
    ],
    ids=lambda check: check.__name__,
)
@every_lens
def test_an_attack_behind_a_lens_keeps_its_promises(name: str, check: Any) -> None:
    # a sign of a mean may turn over a rounding, so these are equal up to floating point
    check(Through(LENSES[name], PGD(3)), case("l2").but(exact=False))


@pytest.mark.parametrize("shape", [(1, 12, 9), (3, 5, 14), (4, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_lens
def test_any_channels_sides_and_precision(name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    checks.check_honest(Through(LENSES[name], PGD(2)), case("linf", shape=shape, n=4, dtype=dtype))


def looked(lens: Lens, here: Case, access: Access = Access.GRADIENT, objective: Any = cross_entropy) -> Any:
    return lens(TorchOracle(here.model)).look(here.x, here.goal, objective, access, here.draws)


@every_lens
@pytest.mark.parametrize("access", [Access.LABELS, Access.SCORES])
def test_labels_and_scores_are_those_of_the_model_itself(name: str, access: Access) -> None:
    here = case("linf")
    seen, plain = looked(LENSES[name], here, access), TorchOracle(here.model).look(
        here.x, here.goal, cross_entropy, access, here.draws
    )  # fmt: skip
    assert torch.equal(seen.logits, plain.logits) and seen.grad is None
    assert torch.equal(seen.cost.forwards, plain.cost.forwards)


@every_lens
def test_a_look_is_billed_as_the_model_counts_and_never_above_what_is_said(name: str) -> None:
    here = case("linf")
    assert isinstance(here.model, Curved)
    cost = looked(LENSES[name], here).cost
    assert (int(cost.forwards.sum()), int(cost.backwards.sum())) == (here.model.forwards, here.model.backwards)
    forwards, backwards = LENSES[name].passes
    assert bool((cost.forwards <= forwards).all()) and bool((cost.backwards == backwards).all())


def test_what_is_not_judged_is_not_known() -> None:
    here = case("linf", shape=(3, 20, 20), n=40)
    free, judged = looked(InputDiversity(judges=False), here), looked(InputDiversity(), here)
    plain = TorchOracle(here.model).look(here.x, here.goal, cross_entropy, Access.SCORES, here.draws)
    known = free.gap > -torch.inf
    assert 10 < int(known.sum()) < 30
    assert torch.allclose(free.gap[known], plain.gap[known], atol=1e-5)
    assert not bool(free.reached[~known].any()) and bool(free.logits[~known].isnan().all())
    assert torch.allclose(judged.logits, plain.logits, atol=1e-5) and torch.equal(judged.reached, plain.reached)
    # rows that were seen as they are cost nothing more
    assert torch.equal(judged.cost.forwards, 2 - known.long())
    assert torch.equal(free.cost.forwards, torch.ones_like(known.long()))
    assert torch.allclose(free.grad, judged.grad)


def by_autograd(here: Case, change: Any, objective: Any = cross_entropy) -> Tensor:
    x = here.x.clone().requires_grad_()
    return torch.autograd.grad(objective(here.model(change(x)), here.goal).sum(), x)[0]


def test_gradients_are_those_of_the_whole_chain() -> None:
    here = case("linf", dtype=torch.float64)
    scales = torch.stack([by_autograd(here, lambda x, i=i: x / 2**i) for i in range(4)]).mean(0)
    assert torch.allclose(looked(ScaleCopies(4), here).grad, scales)
    draws = [here.draws.fold(f"view {i}") for i in range(3)]
    blurred = torch.stack([by_autograd(here, lambda x, one=one: blurred_at_random(x, one)) for one in draws]).mean(0)
    assert torch.allclose(looked(Expectation(3, blurred_at_random), here).grad, blurred)
    jacobian = looked(ScaleCopies(2), here, objective=differences(2)).grad
    for r in range(2):
        of = torch.stack([by_autograd(here, lambda x, i=i: x / 2**i, lambda z, g, r=r: differences(2)(z, g)[:, r])
                          for i in range(2)]).mean(0)  # fmt: skip
        assert torch.allclose(jacobian[:, r], of)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 30, 41)])
def test_resizing_is_torchs_bilinear_one_padded_with_black(shape: tuple[int, int, int]) -> None:
    n, draws = 60, Draws(torch.arange(60))
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lens = InputDiversity(1.0, 0.7)
    view = lens.view(x, draws, 0)
    sizes = set()
    for image, seen in zip(x, view, strict=True):
        lit = seen.abs().sum(0) > 0
        rows, columns = lit.any(1).nonzero().flatten(), lit.any(0).nonzero().flatten()
        top, left, tall, wide = int(rows[0]), int(columns[0]), len(rows), len(columns)
        sizes.add((tall, wide))
        expected = F.interpolate(image[None], (tall, wide), mode="bilinear", align_corners=False)[0]
        assert torch.allclose(seen[:, top : top + tall, left : left + wide], expected, atol=1e-6)
        assert not bool(seen[:, ~lit].any())
    assert len(sizes) > 5 and min(tall for tall, _ in sizes) >= int(0.7 * shape[1])
    coins = (InputDiversity(0.5).view(x, draws, 0) != x).flatten(1).any(1)
    assert 15 < int(coins.sum()) < 45
    assert torch.equal(InputDiversity(0.0).view(x, draws, 0), x)


@pytest.mark.parametrize(("side", "size"), [(1, 1), (4, 1), (5, 1), (12, 3), (28, 7), (32, 7), (64, 15), (224, 15)])
def test_the_kernel_fits_the_image(side: int, size: int) -> None:
    weights = TranslationInvariance().weights(side)
    assert len(weights) == size and sum(weights) == pytest.approx(1) and weights == weights[::-1]
    assert weights[size // 2] == max(weights)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_smoothing_is_a_convolution_of_each_channel(channels: int) -> None:
    here = case("linf", shape=(channels, 12, 15), n=3, dtype=torch.float64)
    plain = by_autograd(here, lambda x: x)
    line = torch.tensor(TranslationInvariance(5).weights(12), dtype=torch.float64)
    kernel = (line[:, None] * line).expand(channels, 1, 5, 5)
    assert torch.allclose(
        looked(TranslationInvariance(5), here).grad, F.conv2d(plain, kernel, padding=2, groups=channels)
    )
    # a kernel larger than the image is no error
    assert looked(TranslationInvariance(31), here).grad.shape == plain.shape


class Noisy(nn.Module):
    """A model whose answers and gradients are mostly noise of its own."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.inner, self.sigma = Curved((1, 6, 6), 4), sigma
        self.noise = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x + self.sigma * torch.randn(x.shape, generator=self.noise)).clamp(0, 1))


class Staircase(nn.Module):
    """A model that sees brightness in steps: its gradient is right on one point in seven, and 0 on all others."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Curved((1, 6, 6), 4)

    def forward(self, x: Tensor) -> Tensor:
        place = x * 20
        rise = (place - place.floor()).clamp(0, 1 / 7) * 7
        return self.inner((place.floor() + rise) / 20)


def broken(model: nn.Module, method: Any, eps: float, n: int = 60) -> Tensor:
    x = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    inner = model.inner
    y = inner(x).argmax(1).detach()
    here = Case(model, x, Untargeted(y), Linf(eps))
    adversarial = here.run(method, Keeps.LAST).x
    # of a model with noise: by the mean over many answers
    with torch.no_grad():
        logits = torch.stack([model(adversarial) for _ in range(50)]).mean(0)
    return logits.argmax(1) != y


def test_expectation_breaks_a_model_that_hides_in_noise() -> None:
    method = BIM(10)
    plain = broken(Noisy(0.5), method, 0.1)
    averaged = broken(Noisy(0.5), Through(Expectation(20), method), 0.1)
    assert int(averaged.sum()) >= int(plain.sum()) + 6


def test_smoothed_gradients_climb_a_staircase() -> None:
    method = BIM(10, objective=margin)
    plain = broken(Staircase(), method, 0.08)
    for lens in (Averaged(20, 0.03), Averaged(20, 0.05, uniform=True)):
        smoothed = broken(Staircase(), Through(lens, method), 0.08)
        assert int(smoothed.sum()) >= int(plain.sum()) + 10


def test_a_random_model_is_judged_by_its_mean() -> None:
    class Coin(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            # class 1 by a little most of the time, class 0 by far once
            up = 10.0 if self.calls == 1 else 0.0
            return torch.stack([x.flatten(1).sum(1) * 0 + up, x.flatten(1).sum(1) * 0 + 1], 1)

    x, y = torch.rand(3, 1, 2, 2), torch.ones(3, dtype=torch.int64)
    seen = Expectation(20)(TorchOracle(Coin())).look(x, Untargeted(y), margin, Access.GRADIENT, Draws(torch.arange(3)))
    assert not bool(seen.reached.any()) and torch.allclose(seen.logits[:, 0], torch.tensor(0.5))


def test_lenses_stand_behind_each_other() -> None:
    here = case("l2", shape=(1, 12, 12)).but(threat=L2(1.0))
    method = Through(InputDiversity(1.0), Through(TranslationInvariance(3), BIM(3)))
    one = here.run(method)
    assert not torch.allclose(one.x, here.run(Through(InputDiversity(1.0), BIM(3))).x)
    assert not torch.allclose(one.x, here.run(Through(TranslationInvariance(3), BIM(3))).x)
    squared = Through(Expectation(2), Through(ScaleCopies(3), BIM(3)))
    assert torch.equal(here.run(squared).backwards, torch.full((len(here.x),), 18))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Expectation(0), "0 samples"),
        (lambda: Averaged(0), "0 samples"),
        (lambda: Averaged(3, -0.1), r"sigma is -0\.1"),
        (lambda: Averaged(3, float("nan")), "sigma is nan"),
        (lambda: ScaleCopies(0), "0 samples"),
        (lambda: InputDiversity(1.5), r"probability 1\.5"),
        (lambda: InputDiversity(0.5, 0.0), r"smallest 0\.0"),
        (lambda: TranslationInvariance(4), "A kernel of 4 pixels has no middle"),
    ],
)
def test_lenses_that_cannot_be(make: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()


def test_a_transformation_without_gradient_is_told() -> None:
    here = case("linf")
    method = Through(Expectation(2, lambda points, draws: points.detach().round()), BIM(2))
    with pytest.raises(BadInput, match="The transformation cannot be differentiated"):
        run(method, here.problem(), here.draws)


def test_lenses_are_values() -> None:
    for lens in LENSES.values():
        assert dataclasses.replace(lens) == lens and hash(lens) == hash(dataclasses.replace(lens))
        assert lens.access is Access.GRADIENT
