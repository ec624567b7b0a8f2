"""The broken defences: they keep the answers, hide what they say they hide, and leave PGD short."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.attacks.gradient import PGD
from assay.audit.broken.table import CUT
from assay.audit.zoo import BROKEN, wrap
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy, margin
from assay.core.threat import Linf
from assay.data import load_data
from assay.models import Classifier, Normalized, load_model
from assay.models.seeded import seeded

WRAPPERS = [name for name in BROKEN if name != "distillation"]
# in front of the network or instead of its image: nothing of any slope comes through
CUTS = [name for name in BROKEN if BROKEN[name].cause == CUT] + ["random_resize_pad", "test_time_optimisation"]


@pytest.fixture(scope="module")
def plain() -> Classifier:
    return load_model("zoo:mnist-cnn")


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_data("mnist/test", limit=200)
    return torch.stack([one.image for one in data.load(range(200))]), torch.tensor(data.labels)


def right(model: Classifier, x: Tensor, y: Tensor) -> float:
    with torch.no_grad(), seeded(0):
        return float((model.module(x).argmax(1) == y).float().mean())


def slope(module: nn.Module, x: Tensor, y: Tensor, objective: object = cross_entropy) -> Tensor:
    x = x.clone().requires_grad_()
    with seeded(0):
        loss = objective(module(x), Untargeted(y)).sum()  # type: ignore[operator]
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("name", BROKEN)
def test_it_keeps_the_accuracy_and_the_form_of_the_answers(
    name: str, plain: Classifier, digits: tuple[Tensor, Tensor]
) -> None:
    model = wrap(name, plain)
    # the shipped student itself is at 94.4 % on all test images
    assert right(model, *digits) >= (0.92 if name == "distillation" else 0.95)
    before = digits[0][:3].clone()
    out = model.module(digits[0][:3])
    assert out.shape == (3, 10) and out.dtype == torch.float32 and torch.equal(before, digits[0][:3])


@pytest.mark.parametrize("name", BROKEN)
def test_pgd_leaves_what_a_user_would_believe(name: str, plain: Classifier, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:20], digits[1][:20]
    with seeded(0):
        left = assay.attack(PGD(40), wrap(name, plain), x, y, Linf(0.3)).robust_accuracy
    assert left >= 0.2


def test_pgd_leaves_nothing_of_the_undefended_network(plain: Classifier, digits: tuple[Tensor, Tensor]) -> None:
    assert assay.attack(PGD(40), plain, digits[0][:20], digits[1][:20], Linf(0.3)).robust_accuracy == 0


@pytest.mark.parametrize("name", CUTS)
def test_in_front_of_the_network_every_gradient_is_zero(
    name: str, plain: Classifier, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:5], digits[1][:5]
    module = wrap(name, plain).module
    assert not slope(module, x, y).any() and not slope(module, x, y, margin).any()
    assert slope(plain.module, x, y).flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["distillation", "logit_scaling"])
def test_a_saturated_softmax_hides_the_slope_of_the_cross_entropy_alone(
    name: str, plain: Classifier, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:20], digits[1][:20]
    module = wrap(name, plain).module
    assert slope(module, x, y).flatten(1).any(1).float().mean() < 0.2
    assert slope(module, x, y, margin).flatten(1).any(1).all()


def test_a_saturated_output_hides_the_slope_of_every_loss(plain: Classifier, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:20], digits[1][:20]
    module = wrap("saturated_output", plain).module
    for objective in (cross_entropy, margin):
        assert slope(module, x, y, objective).flatten(1).any(1).float().mean() < 0.3
    assert torch.equal(module(x).argmax(1), plain.module(x).argmax(1))
    assert torch.allclose(module(x).exp().sum(1), torch.ones(20), atol=1e-4)


@pytest.mark.parametrize("name", BROKEN)
def test_it_is_random_where_it_says_so(name: str, plain: Classifier, digits: tuple[Tensor, Tensor]) -> None:
    module = wrap(name, plain).module
    x = digits[0][:10]
    with torch.no_grad():
        assert torch.equal(module(x), module(x)) is not BROKEN[name].random


def test_noise_on_the_logits_is_small_and_its_slope_is_not(plain: Classifier, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:10], digits[1][:10]
    module = wrap("noisy_logits", plain).module
    logits = plain.module(x)
    assert ((module(x) - logits).abs() <= 0.2 * logits.std(1, keepdim=True) + 1e-4).all()
    own, noisy = (slope(one, x, y, margin).flatten(1) for one in (plain.module, module))
    assert float(torch.cosine_similarity(own, noisy).abs().median()) < 0.2


def test_winners_are_few_and_the_sum_of_a_layer_stays(plain: Classifier, digits: tuple[Tensor, Tensor]) -> None:
    module = wrap("k_winners", plain).module
    assert isinstance(module, nn.Sequential) and isinstance(plain.module, nn.Sequential)
    before = plain.module[0](digits[0][:4])
    after = module[1](before).flatten(1)
    assert ((after > 0).sum(1) <= round(0.03 * after.shape[1]) + 5).all()
    assert torch.allclose(after.sum(1), before.flatten(1).relu().sum(1), rtol=1e-4)
    assert isinstance(plain.module[1], nn.ReLU), "the given network stays as it is"


def test_test_time_optimisation_moves_towards_the_networks_own_answer(
    plain: Classifier, digits: tuple[Tensor, Tensor]
) -> None:
    x = digits[0][:20]
    with torch.no_grad():
        before, after = (one(x).softmax(1).amax(1) for one in (plain.module, wrap(CUTS[-1], plain).module))
    assert (after >= before - 1e-6).all()


@pytest.mark.parametrize("name", WRAPPERS)
def test_it_takes_colour_and_a_thousand_classes(name: str) -> None:
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), nn.Flatten(), nn.Linear(8 * 15 * 15, 1000))
        model = Classifier(Normalized(network, (0.5,) * 3, (0.25,) * 3), mean=(0.5,) * 3, std=(0.25,) * 3)
        out = wrap(name, model).module(torch.rand(4, 3, 32, 32))
    assert out.shape == (4, 1000) and bool(out.isfinite().all())


def test_every_defence_has_a_digest_of_its_own(plain: Classifier) -> None:
    digests = {plain.digest, *(wrap(name, plain).digest for name in BROKEN)}
    assert len(digests) == len(BROKEN) + 1


def test_they_load_by_name_as_the_same_models(plain: Classifier) -> None:
    made, loaded = wrap("thermometer", plain), load_model("assay.audit.zoo.mnist:thermometer")
    assert made.spec == loaded.spec and made.digest == loaded.digest and made.published_accuracy is None
    with pytest.raises(BadInput, match=r"no 'roundin'\. Did you mean 'rounding'"):
        load_model("assay.audit.zoo.mnist:roundin")


def test_what_cannot_be_wrapped_is_refused_with_the_fix(plain: Classifier) -> None:
    with pytest.raises(BadInput, match=r"'median_filtre'\. Did you mean 'median_filter'"):
        wrap("median_filtre", plain)
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)))
    with pytest.raises(BadInput, match="Assay ships one"):
        wrap("distillation", flat)
    with pytest.raises(BadInput, match="no ReLU or ReLU6"):
        wrap("k_winners", flat)
    with pytest.raises(BadInput, match="1 or 3 channels, and the images have 2"):
        wrap("jpeg", flat).module(torch.rand(1, 2, 4, 4))


def test_every_entry_says_what_it_is() -> None:
    for one in BROKEN.values():
        assert one.summary and one.paper and one.masks and one.cause and one.needs
