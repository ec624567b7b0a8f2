"""Certificates of smoothed classifiers against closed forms, and wrong ones that the same checks catch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm
from torch import nn

import assay
from assay.certification import ABSTAINED, Certificates, make_certificate
from assay.certification.smoothing import certified_at, certified_radius, reach
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Targeted, Untargeted
from assay.core.problem import Problem
from assay.core.threat import L0, L1, L2, Linf, Threat
from assay.models import Classifier
from tests.support.broken_smoothing import BROKEN, CHECKS, Certifier, Plane, sound

X = torch.full((8, 1, 2, 2), 150 / 255)
Y = torch.ones(8, dtype=torch.int64)
DISTANCE = (4 * 150 / 255 - 2) / 2


def plane(options: str = "clip=false") -> Classifier:
    return assay.defend(Classifier(Plane(torch.ones(4), -2.0).eval()), f"smoothed:{options}")


def prove(
    name: str, budgets: list[float], threat: Threat | None = None, x: torch.Tensor = X, seed: int = 0, **options: object
) -> Certificates:
    model = plane()
    problem = Problem(model.oracle(), x, Untargeted(Y[: len(x)], -1), threat or L2(0.1, grid=255))
    return make_certificate(name, options).prove(model, problem, budgets, Draws(torch.arange(len(x))).fold(seed))


@pytest.mark.parametrize(
    ("k", "n", "p", "radius"),
    [
        (100, 100, 0.9332543008, 1.500475),
        (990, 1_000, 0.9760361872, 1.978010),
        (1_000, 1_000, 0.9931160484, 2.463263),
        (9_900, 10_000, 0.9865311593, 2.212420),
        (10_000, 10_000, 0.9993094630, 3.198578),
        (90_000, 100_000, 0.8970364962, 1.264845),
        (99_000, 100_000, 0.9889893404, 2.290000),
        (100_000, 100_000, 0.9999309248, 3.811457),
    ],
)
def test_radii_are_those_of_the_exact_binomial_test(k: int, n: int, p: float, radius: float) -> None:
    own = float(certified_radius(np.array([k]), n, 0.001, 0.5)[0]) / 0.5
    bound = binomtest(k, n, alternative="greater").proportion_ci(0.999, "exact").low
    assert own == pytest.approx(norm.ppf(bound), abs=1e-9)
    assert bound == pytest.approx(p, abs=1e-9) and own == pytest.approx(radius, abs=1e-6)


def test_the_fewest_votes_that_certify() -> None:
    counts = np.array([50_489, 50_490])
    assert (certified_radius(counts, 100_000, 0.001, 1.0) > 0).tolist() == [False, True]
    for n in (9, 10):
        assert bool(certified_radius(np.array([n]), n, 0.001, 1.0)[0] > 0) == (n == 10)
    assert certified_radius(np.array([0]), 100, 0.001, 1.0).tolist() == [0.0]
    with pytest.raises(
        BadInput, match=r"votes is 12: at alpha 0.0001 even as many equal votes certify nothing. Take 14"
    ):
        make_certificate("smoothing", {"votes": 12, "alpha": 0.0001})


@pytest.mark.parametrize(
    ("radius", "p", "votes"),
    [
        (0.5, 1, 25),
        (0.5, 0.9, 73),
        (1, 1, 55),
        (1, 0.99, 76),
        (1, 0.9, 704),
        (2, 1, 459),
        (2, 0.99, 2_400),
        (3, 1, 8_950),
        (3, 0.999, 265_450),
    ],
)
def test_a_sequence_ends_after_the_votes_of_the_published_threshold(radius: float, p: float, votes: int) -> None:
    def certified(n: int) -> bool:
        return bool(certified_at(np.array([round(p * n)]), n, np.array([[radius]]), 0.001)[0, 0])

    # a share of 0.9 is one of whole votes every tenth time alone
    room = max(1, round(0.01 * votes)) if p == 1 else round(0.1 * votes)
    assert certified(votes + room) and not certified(votes - room)


def test_at_the_threshold_itself_a_sequence_is_wrong_at_most_alpha_often() -> None:
    generator, alpha, radius = np.random.default_rng(0), 0.01, 1.0
    counts, wrong = np.zeros(10_000, np.int64), np.zeros(10_000, bool)
    asked = 0
    for more in [25] * 40 + [100] * 90:
        counts += generator.binomial(more, norm.cdf(radius), len(counts))
        asked += more
        wrong |= certified_at(counts, asked, np.full((1, len(counts)), radius), alpha)[0]
    assert asked == 10_000
    # the threshold 1 / alpha halves it at least: the test has two sides and one counts
    assert 0.0005 * len(wrong) < wrong.sum() <= binom.ppf(0.999, len(wrong), alpha)


def test_claims_of_a_sequence_nest() -> None:
    counts = np.arange(0, 1001, 10)
    above = certified_at(counts, 1000, np.linspace(0, 3, 13)[:, None].repeat(len(counts), 1), 0.001)
    assert bool((above[:-1] >= above[1:]).all()) and above.any() and not above.all()


def test_the_radius_of_a_plane_rises_to_the_distance() -> None:
    ratios = []
    for votes in (100, 1_000, 10_000):
        found = prove("smoothing", [0.1], votes=votes)
        assert found.radius is not None and found.radius.dtype == torch.float64
        ratios.append(float(found.radius.median()) / DISTANCE)
        assert found.cost.forwards.tolist() == [votes] * 8
    assert ratios[0] < ratios[1] < ratios[2] and 0.92 < ratios[2] < 1


@pytest.mark.parametrize("check", CHECKS)
def test_assays_own_certificates_are_sound(check: str) -> None:
    assert not CHECKS[check](sound)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.__name__)
def test_broken_certificates_are_caught(broken: Certifier) -> None:
    assert CHECKS[BROKEN[broken]](broken)


def test_a_sequence_agrees_with_the_fixed_number_and_stops_early() -> None:
    budgets = [0.02, 0.1, 0.25, 0.4]
    fixed = prove("smoothing", budgets, votes=10_000)
    early = prove("smoothing-sequential", budgets, votes=10_000)
    assert torch.equal(fixed.certified, early.certified)
    assert fixed.certified[:, 0].tolist() == [True, True, False, False]
    assert early.prediction.tolist() == fixed.prediction.tolist() == [1] * 8
    assert early.cost.forwards.float().mean() < 10_000 / 5


def test_results_are_the_same_for_a_seed_in_any_company() -> None:
    for name in ("smoothing", "smoothing-sequential"):
        whole, again = (prove(name, [0.1, 0.15], votes=500) for _ in range(2))
        alone = prove(name, [0.1, 0.15], x=X[:3], votes=500)
        other = prove(name, [0.1, 0.15], seed=1, votes=500)
        assert torch.equal(whole.certified, again.certified) and torch.equal(whole.cost.forwards, again.cost.forwards)
        assert torch.equal(whole.certified[:, :3], alone.certified)
        if whole.radius is not None and alone.radius is not None and other.radius is not None:
            assert torch.equal(whole.radius, again.radius) and not torch.equal(whole.radius, other.radius)
            assert torch.equal(whole.radius[:3], alone.radius)


def test_what_the_judge_accepts_is_inside_the_radius() -> None:
    found = prove("smoothing", [0.1], votes=1_000, threat=L2(0.1, grid=255))
    assert found.radius is not None
    for i, radius in enumerate(found.radius.tolist()):
        at = prove("smoothing", [radius * (1 - 1e-9), radius * (1 + 1e-9)], votes=1_000)
        assert at.certified[:, i].tolist() == [True, False]
        # radius * (1 + 1e-5) + 1e-6 is what an attack at this budget may use
        assert float(L2(radius, grid=255).bound) == pytest.approx(float(reach(L2(radius, grid=255), X)))


def test_other_norms_follow_from_the_euclidean_one() -> None:
    radii = {}
    for name, threat in {"l2": L2(0.1, grid=255), "l1": L1(0.1, grid=255), "linf": Linf(0.1, grid=255)}.items():
        found = prove("smoothing", [0.1], threat, votes=1_000)
        assert found.radius is not None
        radii[name] = found.radius
    assert torch.equal(radii["l1"], radii["l2"])
    torch.testing.assert_close(radii["linf"], radii["l2"] / 2, atol=1e-6, rtol=0)
    one_pixel = Linf(0.1, grid=255, mask=torch.tensor([[1, 0], [0, 0]]))
    found = prove("smoothing", [0.1], one_pixel, votes=1_000)
    assert found.radius is not None
    torch.testing.assert_close(found.radius, radii["l2"], atol=1e-9, rtol=0)


def test_off_the_lattice_half_a_grey_level_per_value_is_left_out() -> None:
    on = prove("smoothing", [0.1], L2(0.1, grid=255), votes=1_000)
    off = prove("smoothing", [0.1], L2(0.1), votes=1_000)
    coarse = prove("smoothing", [0.1], L2(0.1, grid=51), votes=1_000)
    assert on.radius is not None and off.radius is not None and coarse.radius is not None
    # sqrt(4) values of half a level
    torch.testing.assert_close(on.radius - off.radius, torch.full((8,), 1 / 255).double(), atol=1e-5, rtol=0)
    assert torch.equal(coarse.radius, on.radius)


def test_votes_of_their_own_may_choose_the_class() -> None:
    chosen = prove("smoothing", [0.1], votes=1_000, selection=100)
    plain = prove("smoothing", [0.1], votes=1_000)
    assert chosen.radius is not None and plain.radius is not None
    assert torch.equal(chosen.radius, plain.radius) and chosen.cost.forwards.tolist() == [1_100] * 8
    wrong = Problem(plane().oracle(), X, Untargeted(1 - Y, -1), L2(0.1, grid=255))
    for selection in (0, 100):
        method = make_certificate("smoothing", {"votes": 1_000, "selection": selection})
        found = method.prove(plane(), wrong, [0.0, 0.1], Draws(torch.arange(8)))
        assert not bool(found.certified.any()) and found.prediction.tolist() == [1] * 8
        assert found.radius is not None and found.radius.tolist() == [0.0] * 8


def test_on_the_boundary_it_abstains() -> None:
    model = assay.defend(Classifier(Plane(torch.ones(4), -4 * 150 / 255).eval()), "smoothed:clip=false")
    problem = Problem(model.oracle(), X, Untargeted(Y, -1), L2(0.1, grid=255))
    for name in ("smoothing", "smoothing-sequential"):
        found = make_certificate(name, {"votes": 300}).prove(model, problem, [0.1], Draws(torch.arange(8)))
        assert found.prediction.tolist() == [ABSTAINED] * 8 and not bool(found.certified.any())


@pytest.mark.parametrize(
    ("chain", "threat", "told"),
    [
        ("", L2(0.1), r"is not smoothed.*Name that one: MODEL\|smoothed:sigma=0.25, with smoothed as the first"),
        ("median|smoothed", L2(0.1), r"MODEL\|smoothed:sigma=0.25\|median\|smoothed"),
        ("smoothed", L0(1), "The threat is l0, and a radius of smoothing speaks of l2, l1, linf"),
    ],
)
def test_what_smoothing_says_nothing_about_is_refused(chain: str, threat: Threat, told: str) -> None:
    network = Classifier(Plane(torch.ones(4), -2.0).eval())
    model = assay.defend(network, chain) if chain else network
    problem = Problem(model.oracle(), X, Untargeted(Y), threat)
    for name in ("smoothing", "smoothing-sequential"):
        with pytest.raises(BadInput, match=told):
            make_certificate(name, {}).check(model, problem)


def test_other_goals_and_coarse_precision_are_refused() -> None:
    model = plane()
    method = make_certificate("smoothing", {})
    with pytest.raises(BadInput, match=r"The goal is Targeted.*needs Untargeted"):
        method.check(model, Problem(model.oracle(), X, Targeted(Y, 1 - Y), L2(0.1)))
    half = assay.defend(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).bfloat16()), "smoothed")
    with pytest.raises(BadInput, match="bfloat16, which does not hold 256 grey levels"):
        method.check(half, Problem(half.oracle(), X, Untargeted(Y), L2(0.1)))


# quantiles of the shares of 5,000 votes that 50 digits got, of a network trained under noise
_SHARES = (
    "3.43 3.43 2.95 3.43 2.37 3.54 2.64 1.32 -1.64 2.30 3.43 3.09 2.28 3.43 3.43 2.44 2.12 3.43 1.09 2.95 "
    "1.90 2.67 2.21 3.24 1.92 3.43 2.73 3.24 3.43 3.16 3.43 2.82 3.43 1.41 3.43 3.43 2.75 3.43 1.86 3.54 "
    "1.97 1.79 3.09 3.04 2.59 1.39 1.92 2.85 2.95 2.58 "
)


@pytest.mark.slow
def test_a_sequence_takes_a_twentieth_of_the_votes_and_decides_the_same() -> None:
    distance = 0.25 * torch.tensor([float(one) for one in _SHARES.split()])
    x = ((distance + 1) / 2 * 255).round()[:, None, None, None].expand(-1, 1, 2, 2) / 255
    model, y = plane(), torch.ones(len(x), dtype=torch.int64)
    problem = Problem(model.oracle(), x, Untargeted(y, -1), L2(0.1, grid=255))
    budgets = [0.25 * radius for radius in (0, 0.5, 1, 1.5, 2)]
    early, fixed = (
        make_certificate(name, {}).prove(model, problem, budgets, Draws(torch.arange(len(x))).fold(name))
        for name in ("smoothing-sequential", "smoothing")
    )
    assert float(early.cost.forwards.float().mean()) <= 100_000 / 20
    assert float((early.certified != fixed.certified).any(0).float().mean()) <= 0.01
    assert fixed.certified.float().mean(1).tolist() == sorted(fixed.certified.float().mean(1).tolist(), reverse=True)
