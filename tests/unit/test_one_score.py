"""Binary models with one score per image, attacked from Python: closed forms, probabilities, thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay
from assay.attacks import ATTACKS, build
from assay.core.errors import ModelError
from assay.core.oracle import Access
from assay.models.ensemble import Ensemble
from assay.models.function import Predictions
from assay.training.dataset_view import InMemory
from assay.training.recipes import check_network

N = 14
X = 0.35 + 0.3 * torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(8))


class Scorer(nn.Module):
    """A linear score per image, sharp enough that a sigmoid of it is readable, in any of the usual shapes."""

    def __init__(self, shape=lambda score: score) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.inner = nn.Linear(36, 1)
        self.shape = shape
        with torch.no_grad():
            self.inner.weight.mul_(6)
            self.inner.bias.copy_(-(X.flatten(1) @ self.inner.weight[0]).median() + 0.03)

    def forward(self, x: Tensor) -> Tensor:
        return self.shape(self.inner(x.flatten(1)))


SHAPES = {"[N, 1]": lambda score: score, "[N]": lambda score: score[:, 0], "squeezed": lambda score: score.squeeze()}
SCORE = Scorer()(X).detach()[:, 0]
REACH = float(Scorer().inner.weight.detach().abs().sum())


def labels(threshold: float = 0.0) -> Tensor:
    return (threshold < SCORE).long()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [0.005, 0.02])
def test_a_linear_score_breaks_exactly_within_its_margin(shape: str, eps: float) -> None:
    expected = eps * REACH > SCORE.abs()
    assert 0 < int(expected.sum()) < N
    for method in (assay.FGSM(), assay.PGD(steps=10), build("apgd", steps=10, objective="dlr"), build("fab", steps=10)):
        result = assay.attack(method, Scorer(SHAPES[shape]), X, labels(), assay.Linf(eps))
        assert torch.equal(result.success, expected)
        assert result.logits.shape == (N, 2) and not result.logits[:, 0].any()


@pytest.mark.parametrize("threshold", [-0.4, 0.3])
def test_a_threshold_moves_the_boundary(threshold: float) -> None:
    y = labels(threshold)
    model = assay.load_model(Scorer(), threshold=threshold)
    result = assay.attack(assay.PGD(steps=10), model, X, y, assay.Linf(0.02))
    assert torch.equal(result.success, (SCORE - threshold).abs() < 0.02 * REACH)
    assert not torch.equal(y, labels())


@pytest.mark.parametrize("threshold", [None, 0.3, 0.8])
def test_probabilities_and_their_threshold(threshold: float | None) -> None:
    odds = torch.logit(torch.tensor(threshold or 0.5))
    model = assay.load_model(Scorer(torch.sigmoid), outputs="probabilities", threshold=threshold)
    clean = model.module(X).argmax(1)
    assert torch.equal(clean, (odds < SCORE).long())
    result = assay.attack(assay.PGD(steps=10), model, X, clean, assay.Linf(0.02))
    assert torch.equal(result.success, (SCORE - odds).abs() < 0.02 * REACH)


def test_undeclared_probabilities_are_refused_however_few_the_images() -> None:
    for n in (1, N):
        with pytest.raises(assay.BadInput, match="one score per image, and all of them lie from 0 to 1"):
            assay.attack(assay.FGSM(), Scorer(torch.sigmoid), X[:n], labels()[:n], assay.Linf(0.01))
    # a score that happens to lie in [0, 1] is a score
    at = int(((SCORE > 0) & (SCORE < 1)).nonzero()[0])
    assert assay.attack(assay.FGSM(), Scorer(), X[at : at + 1], labels()[at : at + 1], assay.Linf(0.2)).success.all()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: assay.load_model(Scorer(), outputs="probabilities"), "where probabilities were stated, expected 0"),
        (lambda: assay.load_model(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), threshold=0.2), "returns 3 scores"),
        (
            lambda: assay.load_model(
                nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Softmax(1)), outputs="probabilities", threshold=0.2
            ),
            "returns 3 scores per image, and the threshold 0.2",
        ),
        (lambda: Scorer(lambda score: score * torch.inf), "NaN or infinite scores for 14 of 14 images"),
    ],
)
def test_answers_that_are_not_what_was_said(model, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        assay.attack(assay.FGSM(), model(), X, torch.zeros(N, dtype=torch.int64), assay.Linf(0.01))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": "high"}, "threshold is 'high'; expected a number such as 0.5"),
        ({"threshold": float("nan")}, "threshold is nan, expected a finite number"),
        ({"threshold": 1.2, "outputs": "probabilities"}, "above 0 and below 1"),
    ],
)
def test_thresholds_that_are_none(options, words: str) -> None:
    with pytest.raises(assay.BadInput, match=words):
        assay.load_model(Scorer(), **options)


def test_labels_are_two_classes() -> None:
    with pytest.raises(assay.BadInput, match="has label 2, but the model has 2 classes"):
        assay.attack(assay.FGSM(), Scorer(), X, torch.full((N,), 2), assay.Linf(0.01))
    with pytest.raises(assay.BadInput, match=r"y.flatten\(\).long\(\)"):
        assay.attack(assay.FGSM(), Scorer(), X, labels()[:, None].float(), assay.Linf(0.01))


def test_a_threshold_is_another_model_and_its_absence_is_none() -> None:
    plain, same, other = (assay.load_model(Scorer(), **one).digest for one in ({}, {}, {"threshold": 0.2}))
    assert plain == same != other


def test_class_numbers_are_no_scores() -> None:
    """Of another framework, where nobody said how many classes there are."""
    predict = Predictions(lambda images: (images.mean((1, 2, 3)) > 0.5).astype(np.int64))
    model = assay.Classifier(predict, access=Access.SCORES)
    with pytest.raises(ModelError, match=r"returned class numbers .* Say how many classes there are"):
        assay.attack(build("square", queries=5), model, X, labels(), assay.Linf(0.1))


def test_training_builds_two_outputs() -> None:
    examples = InMemory(X, labels())
    with pytest.raises(ModelError, match="one score per image, and training expects one per class"):
        check_network(assay.load_model(Scorer()), assay.load_data((X, labels())), examples, 4)


@pytest.mark.parametrize("fuse", ["logits", "probabilities"])
def test_ensembles_of_single_scores(fuse: str) -> None:
    net = Ensemble([Scorer(), Scorer(lambda score: score[:, 0])], fuse=fuse)
    logits = net(X)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], SCORE)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_asks_a_single_score(name: str) -> None:
    entry = ATTACKS[name]
    quick = {"steps": 8, "queries": 200, "rounds": 2, "generations": 3, "population": 40}
    method = build(name, **{option: value for option, value in quick.items() if option in entry.options})
    threat = {
        "linf": assay.Linf(0.2),
        "l2": assay.L2(1.2),
        "l1": assay.L1(5),
        "l0": assay.L0(12),
        "patch": assay.Patch(2),
    }[entry.norms[0]]
    result = assay.attack(method, Scorer(), X[:3], labels()[:3], threat)
    score = Scorer()(result.x_adv)[:, 0]
    # beside a boundary the last digit depends on the batch
    clear = score.abs() > 1e-5
    assert torch.equal(result.success[clear], ((score > 0).long() != labels()[:3])[clear])
    assert entry.family in ("baseline", "label", "score") or result.success.all()
