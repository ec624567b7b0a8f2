"""The fit of a chain of defences: thresholds, files, interruptions, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.errors import BadInput, ModelError
from assay.core.signals import signals_of
from assay.defenses import DEFENSES, Defense
from assay.defenses.features import network_of
from assay.defenses.layers import Detection, Rejecting
from assay.training.defense_fit import DefenseFit, FitStage, fit_defense
from tests.support.striped import network, pictures

DATA = pictures(150)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))


def refused(fit: DefenseFit, x: Tensor) -> Tensor:
    logits: Tensor = fit.classifier.module(x)
    return logits.argmax(1) == logits.shape[1] - 1


def test_a_threshold_is_the_kth_of_the_held_out_scores_and_the_spec_finds_it() -> None:
    fit = assay.fit_defense(network(), "margin:fpr=0.1", DATA, held_out=60)
    model = fit.classifier
    assert model.fitted is not None and not fit.known
    one = model.fitted.thresholds[0]
    assert one.n == 60 == len(model.fitted.images)
    assert one.value == float(one.scores[math.ceil(60 * 0.9) - 1])
    spread = float(one.scores[44] - one.scores[14])
    assert one.scale == pytest.approx(float((-one.scores).median()) / spread, rel=0.05)
    low, high = fit.intervals[0]
    assert low < 0.1 < high
    # the plain spec finds it, and says the same of every image
    again = assay.defend(network(), "margin:fpr=0.1")
    assert again.digest == model.digest
    assert int(refused(fit, DATA[0]).sum()) == int((assay.load_model(again).module(DATA[0]).argmax(1) == 4).sum()) > 0
    other = assay.fit_defense(network(), "margin:fpr=0.1", DATA, held_out=60, seed=1)
    assert other.classifier.digest != model.digest


def test_a_chain_is_fitted_from_the_inside_out_and_only_once(tmp_path: Path) -> None:
    stages: list[FitStage] = []
    chain = "kernel-density:samples=20|bit-depth:bits=3|mahalanobis:layers=9|max-softmax"
    fit = fit_defense(network(), chain, DATA, out=tmp_path / "a.safetensors", on_progress=stages.append)
    assert [stage.note.partition(":")[0] for stage in stages if "threshold" in stage.note] == [
        "max-softmax", "mahalanobis", "kernel-density",
    ]  # fmt: skip
    fitted = fit.classifier.fitted
    assert fitted is not None and sorted(fitted.thresholds) == [0, 2, 3]
    assert fitted.told["held_out"] == 30 == len(fitted.images)
    # the outer density saw unrounded images, the inner distance rounded ones
    rounded = (DATA[0] * 7).round() / 7
    inner = assay.defend(network(), "bit-depth:bits=3").module
    assert torch.equal(signals_of(fit.classifier.module, DATA[0]).logits, inner(DATA[0]))
    assert torch.equal(inner(DATA[0]), network()(rounded))
    again = fit_defense(network(), chain, DATA, out=tmp_path / "a.safetensors")
    assert again.known and again.classifier.digest == fit.classifier.digest
    loaded = assay.defend(network(), again.spec(named=True).partition("|")[2])
    assert torch.equal(loaded.module(DATA[0]), fit.classifier.module(DATA[0]))
    with pytest.raises(BadInput, match=r"a.safetensors is there already, and is not overwritten"):
        fit_defense(network(), "margin", DATA, out=tmp_path / "a.safetensors")


class Stopped(Exception):
    pass


@pytest.mark.parametrize("chain", ["binary-detector", "rbf-head:rank=2|margin"])
def test_an_interrupted_training_ends_as_if_it_had_not_been(chain: str, tmp_path: Path) -> None:
    def stop(stage: FitStage) -> None:
        if "epoch 3" in stage.note:
            raise Stopped

    whole = fit_defense(network(), chain, DATA, epochs=4, out=tmp_path / "whole.safetensors")
    with pytest.raises(Stopped):
        fit_defense(network(), chain, DATA, epochs=4, out=tmp_path / "cut.safetensors", on_progress=stop)
    assert list(tmp_path.glob("cut.*.training"))
    seen: list[str] = []
    cut = fit_defense(
        network(),
        chain,
        DATA,
        epochs=4,
        out=tmp_path / "cut.safetensors",
        on_progress=lambda now: seen.append(now.note),
    )
    assert cut.classifier.digest == whole.classifier.digest
    assert not any("epoch 1" in note or "attacked images" in note for note in seen) and not list(
        tmp_path.glob("*.training")
    )
    assert network()[6].training is False and not network()[0].weight.requires_grad


@pytest.mark.parametrize(
    ("chain", "settings", "told"),
    [
        ("margin", {"held_out": 151}, "151 images to be held out for thresholds, of 150"),
        ("kernel-density", {"held_out": 150}, "and at least 1 to learn from"),
        ("margin:threshold=1", {}, "Nothing has to be fitted for margin:threshold=1"),
        ("bit-depth", {}, "Nothing has to be fitted for bit-depth"),
        ("margin:fpr=1", {}, "fpr is 1, expected a share between 0 and 1"),
        ("kernel-density:layer=8+9", {}, "layer is '8[+]9'"),
        ("kernel-density:layer=hidden", {}, "has no layer 'hidden'"),
        ("lid:reference=140", {}, "expected more than the 140 of the reference"),
        ("lid:k=101", {}, "k is 101, more than the 100 reference images"),
        ("mahalanobis:size=1e-9", {}, "No attack fooled the network on 120 training images"),
        ("binary-detector:layers=9", {}, "the detector looks at the image"),
        ("dropout-uncertainty", {"weight": 1.0}, "The network calls no dropout"),
        ("margin", {"weight": 0.0}, "gives all 150 held-out images the score 0"),
        ("margin:file=a.safetensors", {}, "fit with --out a.safetensors"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(chain: str, settings: dict[str, object], told: str) -> None:
    weight = settings.pop("weight", None)
    net = network() if weight is None else nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    if weight == 0:
        nn.init.zeros_(net[1].weight)
        nn.init.zeros_(net[1].bias)
    with pytest.raises((BadInput, ModelError), match=told):
        fit_defense(net, chain, DATA, **settings)  # type: ignore[arg-type]  # by name


def test_a_step_that_was_not_fitted_or_for_another_model_is_refused(tmp_path: Path) -> None:
    for chain in ("kernel-density:threshold=1", "binary-detector", "autoencoder"):
        with pytest.raises(BadInput, match="has to be fitted before it is used, and no fit of it is kept here"):
            assay.defend(network(), chain)
    fit_defense(network(), "margin", DATA, out=tmp_path / "a.safetensors")
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(BadInput, match="was fitted for another model"):
        assay.defend(other, f"margin:file={tmp_path / 'a.safetensors'}")
    with pytest.raises(BadInput, match="was fitted for 'margin', not for 'energy'"):
        assay.defend(network(), f"energy:file={tmp_path / 'a.safetensors'}")


class Neighbours(nn.Module):
    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        seen = signals_of(inner, x)
        return Detection(seen, seen.logits.amax(1) - seen.logits.mean())


class Own(nn.Module):
    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        return Detection(signals_of(inner, x), x.mean((1, 2, 3)))


def test_a_users_own_detector_joins_the_table_and_may_not_look_at_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DEFENSES, "brightness", Defense(Own, "refuses bright images", "ours", detects=True))
    monkeypatch.setitem(DEFENSES, "neighbours", Defense(Neighbours, "compares a batch", "ours", detects=True))
    fit = fit_defense(network(), "brightness", DATA)
    assert fit.classifier.fitted is not None
    bright = DATA[0].mean((1, 2, 3)) > fit.classifier.fitted.thresholds[0].value
    assert torch.equal(refused(fit, DATA[0]), bright) and bool(bright.any())
    with pytest.raises(BadInput, match=r"neighbours scores an image .* a detector must not depend on the other images"):
        fit_defense(network(), "neighbours", DATA)


def test_what_a_user_model_refuses_itself_stays_refused() -> None:
    own = assay.load_model(network(), rejects=True)
    fit = fit_defense(own, "margin", DATA)
    assert fit.classifier.module(DATA[0]).shape == (150, 4)


def test_a_half_precision_network_is_fitted_as_it_is_asked() -> None:
    import copy

    half = copy.deepcopy(network()).bfloat16()
    fit = fit_defense(half, "kernel-density:samples=20", DATA)
    assert fit.classifier.fitted is not None and fit.classifier.precision is torch.bfloat16
    found = assay.attack(assay.PGD(steps=2), fit.classifier, *(part[:8] for part in DATA), assay.Linf(0.05))
    assert found.x_adv.dtype is torch.float32


@pytest.fixture(scope="module")
def digits() -> Tensor:
    data = assay.load_data("mnist/test", sample=2000)
    return torch.stack([one.image for one in data.load(range(2000))])  # type: ignore[union-attr]  # it is there, as the test made it


def test_fresh_digits_are_refused_as_often_as_the_interval_says(digits: Tensor) -> None:
    fit = fit_defense("zoo:mnist-cnn", "max-softmax|margin|energy", "mnist/train", limit=500)
    model = fit.classifier.module
    with torch.no_grad():
        logits = torch.cat([network_of(model)(part) for part in digits.split(100)])
    for at in range(3):
        assert isinstance(model, Rejecting)
        # these read the logits alone
        above = model.detector(logits, nn.Identity()).score > model.threshold
        low, high = fit.intervals[at]
        assert low <= float(above.double().mean()) <= high
        model = model.inner


@pytest.mark.slow
@pytest.mark.parametrize("chain", ["kernel-density", "squeeze-detector", "mahalanobis"])
def test_fresh_digits_are_refused_as_often_by_what_is_fitted(chain: str, digits: Tensor) -> None:
    fit = fit_defense("zoo:mnist-cnn", chain, "mnist/train", limit=2500)
    with torch.no_grad():
        share = float(torch.cat([refused(fit, part) for part in digits.split(100)]).double().mean())
    low, high = fit.intervals[0]
    assert low <= share <= high


def test_a_function_of_the_users_is_known_by_its_answers_alone() -> None:
    def answers(x: Tensor) -> Tensor:
        return network()(x).detach()

    fit = fit_defense(answers, "margin", DATA)
    assert fit.classifier.rejects
    with pytest.raises(assay.AssayError, match="no gradient"):
        fit_defense(answers, "binary-detector", DATA)


def test_the_data_of_a_fit_are_a_share_of_each_class() -> None:
    x, y = pictures(400)
    fit = fit_defense(dataclasses.replace(assay.load_model(network())), "kernel-density", (x, y), limit=200)
    fitted = fit.classifier.fitted
    assert fitted is not None and fitted.told["images"] == 200 and fitted.told["held_out"] == 40
    assert torch.bincount(fitted.tensors["0.labels"]).tolist() == [40, 40, 40, 40]
