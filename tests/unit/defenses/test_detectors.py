"""Detectors: scores whose values are known, features that are heard, and passes that the table promises."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from torch import Tensor, nn

import assay
from assay.core.draws import Draws, drawing
from assay.core.errors import BadInput
from assay.core.signals import Signals, signals_of
from assay.defenses import DEFENSES
from assay.defenses.attacked import attacked, logistic_weights
from assay.defenses.copy_detectors import DropoutUncertainty, Odds, SqueezeDetector
from assay.defenses.detectors import Energy, LogitMargin
from assay.defenses.feature_detectors import KernelDensity, Mahalanobis, local_dimension, tied_gaussians
from assay.defenses.features import guides, heard, last_linear, several
from assay.defenses.layers import Rejecting, Transformed
from assay.defenses.learned_detectors import MagNet
from assay.defenses.transformations import BitDepth
from assay.training.defense_fit import fit_defense
from tests.support.striped import network, pictures

X, Y = pictures(12)


def test_scores_of_answers() -> None:
    z = network()(X)
    first, second = z.topk(2, 1).values.T
    torch.testing.assert_close(LogitMargin()(X, network()).score, second - first)
    torch.testing.assert_close(Energy(temperature=2.0)(X, network()).score, -2 * (z / 2).logsumexp(1))


def test_squeezing_is_zero_where_nothing_is_squeezed_and_two_at_most() -> None:
    sure = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).requires_grad_(False)
    plain = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    detector = SqueezeDetector()
    assert detector(plain, sure).score.tolist() == [0, 0]
    seen = detector(X, lambda x: 1e4 * sure(x))  # type: ignore[arg-type]  # answers of one class alone
    assert float(seen.score.max()) <= 2 and float(detector(X, sure).score.max()) > 0
    assert seen.inside.views is not None and seen.inside.views.shape == (12, 3, 4)
    # the largest over the squeezers, each by itself
    each = [SqueezeDetector(squeezers=one)(X, sure).score for one in ("bit-depth-1", "median-2")]
    torch.testing.assert_close(detector(X, sure).score, torch.maximum(*each))


@pytest.mark.parametrize(
    ("squeezers", "told"),
    [
        ("medain-2", r"Unknown squeezer 'medain-2'. Did you mean 'median'\?"),
        ("median-2-2", "has 2 numbers, expected 1"),
        ("median", "has 0 numbers, expected 1"),
        ("bit-depth-9", "bits is 9"),
    ],
)
def test_slips_in_squeezers_are_named(squeezers: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        assay.defend(network(), f"squeeze-detector:threshold=1,squeezers={squeezers}")


def test_usual_squeezers_follow_from_the_images_that_the_model_takes() -> None:
    bare = dataclasses.replace(assay.load_model(network()), input_shape=(1, 8, 8))
    assert assay.defend(bare, "squeeze-detector:threshold=1").passes.forwards == 3
    colours = dataclasses.replace(bare, input_shape=(3, 32, 32))
    assert assay.defend(colours, "squeeze-detector:threshold=1").passes.forwards == 4
    with pytest.raises(BadInput, match="does not know which images the model takes"):
        assay.defend(assay.load_model(network()), "squeeze-detector:threshold=1")


def test_dropout_uncertainty_is_feinmans_and_a_row_draws_for_itself() -> None:
    class Coin(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kept = nn.functional.dropout(torch.ones(len(x), 1), 0.5)
            return torch.cat([kept * 1000, torch.full_like(kept, 500)], 1)

    # p is (1, 0) or (0, 1): mean p'p is 1, and of a fair coin U = 1 - q^2 - (1 - q)^2
    detector = DropoutUncertainty(masks=400)
    draws = Draws.of([str(i) for i in range(12)], 0)
    with drawing(draws):
        scores = detector(X, Coin()).score
    assert scores.tolist() == pytest.approx([0.5] * 12, abs=0.02)
    with drawing(draws.take(torch.tensor([3]))):
        assert detector(X[3:4], Coin()).score.item() == pytest.approx(scores[3].item(), abs=1e-6)


def test_kernel_density_is_scipys() -> None:
    torch.manual_seed(0)
    detector = KernelDensity(bandwidth=1.7, samples=30)
    detector.fit([pictures(80)], network())
    seen = detector(X, network())
    features = heard(network(), X, last_linear(network())).joined
    for row, predicted in enumerate(seen.inside.logits.argmax(1)):
        own = detector.features[detector.labels == predicted]
        assert len(own) == 20
        apart = cdist(features[row : row + 1].double(), own.double(), "sqeuclidean")[0]
        wanted = -(logsumexp(-apart / 1.7**2) - np.log(len(own)))
        assert seen.score[row].item() == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dimension", [2, 8])
def test_local_dimension_of_a_uniform_cube_is_its_dimension(dimension: int) -> None:
    draw = torch.Generator().manual_seed(0)
    cube = torch.rand(20_000, dimension, generator=draw)
    middle = 0.5 + 0.1 * (torch.rand(200, dimension, generator=draw) - 0.5)
    found = local_dimension(middle, cube, 100)
    assert float(found.median()) == pytest.approx(dimension, rel=0.1)


def test_mahalanobis_is_zero_at_a_mean_and_has_the_tied_covariance() -> None:
    torch.manual_seed(0)
    labels = torch.arange(600) % 3
    mixed = torch.randn(600, 5) @ torch.randn(5, 5) + 3 * torch.randn(3, 5)[labels]
    means, whitening = tied_gaussians(mixed, labels, [2, 3])
    about = mixed - torch.stack([mixed[labels == k].mean(0) for k in range(3)])[labels]
    for own, size in ((slice(0, 2), 2), (slice(2, 5), 3)):
        block = whitening[own, :size].double()
        covariance = np.cov(about[:, own].double().numpy(), rowvar=False, bias=True)
        np.testing.assert_allclose(block @ block.T, np.linalg.inv(covariance), rtol=1e-4)
    detector = Mahalanobis()
    detector.means, detector.whitening = means, whitening
    from assay.defenses.features import Heard

    point = Heard(Signals(means), tuple(means.split([2, 3], 1)))
    assert detector.distances(point).abs().max() == 0


def test_a_logistic_regression_finds_the_line_that_made_its_answers() -> None:
    torch.manual_seed(0)
    values = torch.randn(20_000, 2) * torch.tensor([1.0, 10.0]) + 5
    positive = torch.rand(20_000) < torch.sigmoid(2 * (values[:, 0] - 5) - 0.1 * (values[:, 1] - 5))
    weights, offset = logistic_weights(values, positive)
    assert weights.tolist() == pytest.approx([2.0, -0.1], rel=0.1)
    assert float(offset) == pytest.approx(-9.5, rel=0.1)


def test_odds_measure_shifts_against_those_of_training_images() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).requires_grad_(False)
    detector = Odds(looks=64, sigma=0.5)
    torch.manual_seed(0)
    detector.fit([pictures(100)], linear)
    # noise of mean zero does not shift a linear network: what is left is that of 64 draws
    weights = linear[1].weight
    apart = (weights[0] - weights[1]).norm() * 0.5 / 8
    own = detector.deviation[0, 1] if float(detector.deviation[0, 1]) else detector.deviation[1, 0]
    assert 0.3 * float(apart) < float(own) < 3 * float(apart)


def test_magnets_divergence_is_zero_for_equal_answers() -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    detector = MagNet(measure="jsd")
    detector.autoencoder = Same()  # type: ignore[assignment]  # it stands in for another
    seen = detector(X, network())
    assert float(seen.score.abs().max()) < 1e-6 and seen.inside.views is not None
    detector.measure = "l2"
    assert float(detector(X, network()).score.max()) < 1e-5


def test_a_tie_is_accepted_and_the_scale_changes_no_answer() -> None:
    scores = LogitMargin()(X, network()).score
    for scale in (1e-6, 1.0, 1e6):
        found = Rejecting(LogitMargin(), network(), float(scores[4]), scale)(X).argmax(1) == 4
        assert torch.equal(found, scores > scores[4]) and not bool(found[4])


def test_features_are_what_the_layer_is_given_through_any_defence() -> None:
    net = network()
    assert last_linear(net) == ("9",) and last_linear(net, "7") == ("7",)
    assert several(net) == ("2", "4", "9") and several(net, "4+9") == ("4", "9")
    inside = Transformed(BitDepth(bits=2), Rejecting(LogitMargin(), net, -1.0))
    found = heard(inside, X, several(inside))
    maps = net[:4]((X * 3).round() / 3)
    torch.testing.assert_close(found.features[1], maps.mean((2, 3)))
    torch.testing.assert_close(found.joined, torch.cat(found.features, 1))
    assert found.joined.shape == (12, 8 + 8 + 16) and torch.equal(found.told.features, found.joined)  # type: ignore[arg-type]  # as the test made it
    assert not net[9]._forward_pre_hooks
    # an attack follows the features
    x = X.clone().requires_grad_()
    heard(net, x, ("9",)).joined.sum().backward()
    assert float(x.grad.abs().sum()) > 0  # type: ignore[union-attr]  # it is there, as the test made it


def test_models_without_features_are_refused_in_words(tmp_path: Path) -> None:
    data, out = pictures(60), tmp_path / "a.safetensors"
    with warnings.catch_warnings(action="ignore"):
        compiled = torch.jit.trace(network(), X[:1])
    for model, chain, told in (
        (lambda x: x.flatten(1)[:, :4], "kernel-density", "has no linear layer"),
        (compiled, "lid", "is compiled"),
        (network(), "mahalanobis:layers=4+head", "has no layer 'head'"),
        (network(), "kernel-density:layer=lost", "has no layer 'lost'"),
        (assay.load_model(network(), access="labels"), "margin", "gives labels alone"),
    ):
        with pytest.raises(BadInput, match=told):
            fit_defense(model, chain, data, out=out)


def test_guides_are_means_of_right_images() -> None:
    logits = torch.tensor([[2.0, 1.0], [3.0, 0.0], [5.0, 0.0]])
    found = guides(torch.tensor([[1.0], [3.0], [9.0]]), logits, torch.tensor([0, 0, 1]))
    # nothing is right about class 1: it gets the mean of what is
    assert found.features.tolist() == [[2.0], [2.0]] and found.logits[0].tolist() == [2.5, 0.5]


def test_attacked_images_fool_the_network_within_their_size() -> None:
    torch.manual_seed(0)
    images, fooled = attacked(network(), X, Y, 0.3)
    assert bool(fooled.any())
    answers = network()(images).argmax(1)
    assert torch.equal(answers[fooled] != Y[fooled], torch.ones(int(fooled.sum()), dtype=torch.bool))
    assert float((images - X)[0::2].abs().max()) <= 0.3 + 1e-6 and float(images.min()) >= 0 and float(images.max()) <= 1


# small versions of what costs hundreds of passes
OPTIONS = {
    "dropout-uncertainty": "masks=7", "odds": "looks=9", "lid": "k=5,reference=20", "mahalanobis": "step=0.01",
    "magnet": "measure=jsd", "crop-ensemble": "crops=4", "non-local-means": "search=3",
}  # fmt: skip


@pytest.mark.parametrize("name", DEFENSES)
def test_passes_of_a_look_are_those_of_the_table(name: str, tmp_path: Path) -> None:
    written = f"{name}:{OPTIONS[name]}" if name in OPTIONS else name
    bare = dataclasses.replace(assay.load_model(network()), input_shape=(1, 8, 8))
    data = pictures(120)
    needs = DEFENSES[name].fitted or DEFENSES[name].detects
    model = (
        fit_defense(bare, written, data, out=tmp_path / "a.safetensors", epochs=1).classifier
        if needs
        else assay.defend(bare, written)
    )
    rows: list[int] = []
    hook = network().register_forward_hook(lambda module, given, out: rows.append(len(given[0])))
    try:
        oracle, draws = model.oracle(), Draws.of([str(i) for i in range(12)], 0)
        goal = assay.Untargeted(Y, -1 if model.rejects else None)
        from assay.core.objective import margin
        from assay.core.oracle import Access

        oracle.look(X, goal, margin, Access.SCORES, draws)
        rows.clear()
        seen = oracle.look(X, goal, margin, Access.SCORES, draws)
        assert sum(rows) == int(seen.cost.forwards.sum())
        # where answers disagree, double masking asks on, and says so
        least = 12 * model.passes.forwards
        assert sum(rows) > least if DEFENSES[name].outermost else sum(rows) == least
        assert bool((seen.cost.queries == 1).all())
        again = oracle.look(X, goal, margin, Access.SCORES, draws)
        assert torch.equal(again.logits, seen.logits)
        # a row is the same by itself, within rounding
        alone = oracle.look(
            X[5:6], assay.Untargeted(Y[5:6], goal.reject), margin, Access.SCORES, draws.take(torch.tensor([5]))
        )
        torch.testing.assert_close(alone.logits, seen.logits[5:6], rtol=1e-4, atol=1e-4)
        slope = oracle.look(X, goal, margin, Access.GRADIENT, draws)
        assert slope.grad is not None and bool(slope.grad.isfinite().all())
    finally:
        hook.remove()
    signals = signals_of(model.module, X)
    assert signals.logits.shape == (12, 4)
