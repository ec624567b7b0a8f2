"""Randomised smoothing as a defence: exact noise on the lattice, answers by vote, gradients of the mean."""

from __future__ import annotations

import itertools

import mpmath
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.core.draws import Draws, drawing
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access
from assay.defenses.lattice import BITS, from_bits, from_levels, lattice_noise, thresholds, to_levels
from assay.defenses.smoothing import Smoothed, answer_by_vote, least_accepted
from assay.models import Classifier
from tests.support.broken_smoothing import Plane

LEVELS = torch.arange(256) / 255


def draws(count: int, look: int = 0) -> Draws:
    return Draws(torch.arange(count)).at(look)


def test_thresholds_are_the_normal_distribution_to_the_last_bit() -> None:
    lowest, bounds = thresholds(0.25)
    assert BITS >= 60 and bounds == sorted(bounds) and bounds[0] == 0 and bounds[-1] == 2**BITS - 1
    for i in (-300, -64, -1, 0, 1, 255):
        with mpmath.workdps(60):
            exact = mpmath.ncdf(mpmath.mpf(2 * i + 1) / (510 * mpmath.mpf(0.25))) * 2**BITS
            assert bounds[i - lowest] <= exact < bounds[i - lowest] + 1
    # double precision would not do: it is off by hundreds
    assert bounds[-1 - lowest] + bounds[-lowest] == 2**BITS - 1


def test_bits_between_two_thresholds_are_one_grey_level_and_a_threshold_itself_is_none() -> None:
    lowest, bounds = thresholds(0.25)
    at = torch.tensor([[bounds[i - lowest]] for i in (-70, -1, 0, 33)])
    above, on, below = (from_bits(at + by, 0.25) for by in (1, 0, -1))
    assert above.levels.flatten().tolist() == [-69, 0, 1, 34]
    assert below.levels.flatten().tolist() == [-70, -1, 0, 33]
    assert bool(above.known.all()) and bool(below.known.all()) and not bool(on.known.any())


def test_noise_has_the_chances_of_the_normal_distribution() -> None:
    noise = lattice_noise(draws(100), 0.01, 40, 40).levels.flatten()
    lowest, bounds = thresholds(0.01)
    for i in range(-4, 5):
        chance = (bounds[i - lowest] - bounds[i - 1 - lowest]) / 2**BITS
        met = int((noise == i).sum())
        assert abs(met - chance * len(noise)) < 4 * (len(noise) * chance * (1 - chance)) ** 0.5, i


def test_every_grey_level_comes_back_from_its_float() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert to_levels(LEVELS.to(dtype)).tolist() == list(range(256))
        assert torch.equal(
            from_levels(torch.arange(256).float(), LEVELS.to(dtype)),
            (torch.arange(256).to(torch.float64 if dtype is torch.float64 else torch.float32) / 255).to(dtype),
        )


class Recorder(nn.Module):
    """Two logits of the mean; what it is shown is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        score = 20 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("clip", [True, False])
def test_the_network_sees_whole_grey_levels_alone(clip: bool) -> None:
    inside = Recorder()
    Smoothed(inside, votes=20, clip=clip)(LEVELS.view(4, 1, 8, 8) + 0.4 / 255)
    shown = torch.cat(inside.seen)
    assert len(shown) == 80 and torch.equal(shown, to_levels(shown) / 255)
    assert bool((shown.min() < 0) == (not clip)) and bool((shown.max() > 1) == (not clip))


def test_answers_do_not_depend_on_company_parts_or_memory() -> None:
    x, module = torch.rand(6, 1, 4, 4), Smoothed(Recorder(), votes=30)
    few = torch.tensor([4, 1])
    with torch.no_grad():
        with drawing(draws(6)):
            whole, counts = module(x), module.count(x, 50)
        module.most = 7
        with drawing(draws(6)):
            parts, again = module(x), module.count(x, 50)
        with drawing(draws(6).take(few)):
            some = module(x[few])
        with drawing(draws(6, look=1)):
            other = module.count(x, 50)
    assert torch.equal(counts, again) and not torch.equal(counts, other)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(some, whole[few])


def test_memory_that_runs_out_means_fewer_copies_at_once() -> None:
    class Narrow(Recorder):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 5:
                raise RuntimeError("CUDA out of memory")
            return super().forward(x)

    inside = Narrow()
    Smoothed(inside, votes=40)(torch.rand(2, 1, 4, 4))
    assert sum(map(len, inside.seen)) == 80 and {len(one) for one in inside.seen} <= {2, 4}


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_an_answer_is_refused_as_the_binomial_test_says(alpha: float) -> None:
    pairs = [(n1, n2) for n1, n2 in itertools.product(range(0, 60, 3), range(0, 60, 7)) if n1 >= n2]
    counts = torch.tensor([[n2, 0, n1] for n1, n2 in pairs])
    answer = answer_by_vote(counts, alpha)
    expected = [n1 == 0 or binomtest(n1, n1 + n2, 0.5).pvalue > alpha for n1, n2 in pairs]
    assert answer.refused.tolist() == expected
    assert bool((answer.top[counts[:, 2] > counts[:, 0]] == 2).all())


def test_ten_equal_votes_are_no_answer_and_eleven_are() -> None:
    for n in (9, 10, 11, 12):
        assert bool(answer_by_vote(torch.tensor([[n, 0]]), 0.001).refused) == (n <= 10)
        assert (least_accepted(n, 0.001) > n) == (n <= 10)
    with pytest.raises(BadInput, match=r"votes is 10: at alpha 0.001 even 10 equal votes are no answer.*Take 11"):
        assay.defend(nn.Flatten(), "smoothed:votes=10")


def test_the_class_with_most_votes_leads_also_where_the_mean_probability_says_another() -> None:
    class Loud(nn.Module):
        # a bright copy is class 0 for sure, the others class 1 by a hair
        def forward(self, x: Tensor) -> Tensor:
            bright = x.flatten(1)[:, 0] > 0.7
            return torch.stack([torch.where(bright, 50.0, -0.01), torch.zeros(len(x))], 1)

    module = Smoothed(Loud(), votes=400, sigma=0.25)
    x = torch.full((1, 1, 1, 1), 128 / 255)
    with torch.no_grad(), drawing(draws(1)):
        logits = module(x)
    assert logits.argmax(1).tolist() == [1]
    # a fifth of the copies is bright, and the others are divided
    assert float(logits[0, 0].exp()) == pytest.approx(0.61, abs=0.05)


def test_a_copy_that_the_network_refuses_or_does_not_score_votes_for_nobody() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).mean(1) - 0.5
            return torch.stack([score, -score], 1).masked_fill((score < 0)[:, None], torch.nan)

    x = torch.full((1, 1, 4, 4), 128 / 255)
    counts = Smoothed(Silent()).count(x, 200)
    assert 60 < int(counts[0, 0]) < 140 and int(counts[0, 1]) == 0
    refusing = assay.defend(Classifier(Recorder()), "smoothed:votes=50|max-softmax:threshold=-1")
    assert refusing.module.count(x, 200).sum() == 0 and bool(refusing.module(x).argmax(1) != 2) is False


def test_the_gradient_is_that_of_the_logarithm_of_the_mean_probability() -> None:
    # of a plane the smoothed probability has a closed form: both are summed over the same noise here
    model = assay.defend(Classifier(Plane(torch.ones(4), -2.0).eval()), "smoothed:draws=400,votes=20,clip=false")
    x, y = torch.full((1, 1, 2, 2), 140 / 255), torch.ones(1, dtype=torch.int64)
    seen = model.oracle().look(x, Untargeted(y, -1), cross_entropy, Access.GRADIENT, draws(1))
    assert (int(seen.cost.forwards), int(seen.cost.backwards)) == (400, 400)
    with drawing(draws(1)):
        noise = lattice_noise(draws(1).fold("smoothed").copies(0, 400), 0.25, 1, 2, 2).levels / 255
    free = x.double().requires_grad_()
    shares = Plane(torch.ones(4), -2.0).double()(free + noise.double()).softmax(1).mean(0, keepdim=True)
    (expected,) = torch.autograd.grad(shares.log()[0, 1], free)
    own = seen.grad
    assert own is not None
    cosine = torch.cosine_similarity(-own.flatten().double(), expected.flatten(), 0)
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_looks_cost_votes_or_draws_and_attacks_are_judged_by_votes() -> None:
    model = assay.defend(Classifier(Plane(torch.ones(4), -2.0).eval()), "smoothed:votes=40,draws=8,sigma=0.1")
    assert model.rejects and model.random and (model.passes.forwards, model.passes.with_gradient) == (40, 8)
    x, y = torch.full((3, 1, 2, 2), 160 / 255), torch.ones(3, dtype=torch.int64)
    attack = build("pgd", steps=5, step_size=0.4, random_start=False, adaptive="selective")
    # the plane is .255 away
    near, far = (assay.attack(attack, model, x, y, assay.L2(eps, grid=255)) for eps in (0.1, 0.6))
    assert not bool(near.success.any()) and bool(far.success.all())
    assert bool((far.logits.argmax(1) == 0).all())
    # five gradients, perhaps the last point, and ten answers
    assert set(near.forwards.tolist()) <= {5 * 8 + 10 * 40, 5 * 8 + 11 * 40} and near.backwards.tolist() == [40] * 3


def test_the_digest_tells_every_option() -> None:
    options = ("", ":sigma=0.5", ":votes=2000", ":draws=8", ":alpha=0.01", ":clip=false")
    plane = Plane(torch.ones(4), -2.0)
    assert len({assay.defend(plane, f"smoothed{one}").digest for one in options}) == len(options)
