"""Steps with weights: a short training helps, what it found can be taken over, and gradients go through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.errors import BadInput
from assay.core.signals import signals_of
from assay.data import load_data
from assay.defenses.denoisers import Autoencoder, LumaDenoiser
from assay.defenses.layers import Transformed, adopt
from assay.defenses.rbf import RbfHead
from assay.models import load_model
from assay.models.seeded import seeded


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    samples = load_data("mnist/train").load(range(300))
    return torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])


def trained(step: nn.Module, x: Tensor, y: Tensor, inner: nn.Module, *, epochs: int, rate: float) -> list[float]:
    """Train a step's own weights; returns the mean loss of each epoch."""
    with seeded(0):
        step.begin(x, 10)
        own = [weight for name, weight in step.named_parameters() if not name.startswith("inner.")]
        optimiser = torch.optim.Adam(own, lr=rate)
        means = []
        for _ in range(epochs):
            losses = []
            for images, labels in zip(x.split(10), y.split(10), strict=True):
                optimiser.zero_grad()
                loss = step.loss(images, labels, inner)
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            means.append(sum(losses) / len(losses))
    return means


@pytest.mark.parametrize(
    "step", [Autoencoder(filters=16), LumaDenoiser(filters=16)], ids=lambda step: type(step).__name__
)
def test_a_denoiser_takes_noise_off(step: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = (one[:200] for one in digits)
    losses = trained(step, x, y, nn.Identity(), epochs=3, rate=3e-3)
    assert losses[-1] < 0.0085, "the noise alone has a mean square of 0.01"
    again = type(step)(filters=16)
    adopt(again, step.state_dict())
    assert torch.equal(again(x[:3]), step(x[:3]))
    odd = torch.rand(2, 1, 9, 7, dtype=torch.float32, requires_grad=True)
    assert step(odd).shape == odd.shape and torch.autograd.grad(step(odd).sum(), odd)[0].any()


def test_cb_and_cr_stay_as_they_are(digits: tuple[Tensor, Tensor]) -> None:
    step = LumaDenoiser()
    step.begin(torch.rand(2, 3, 8, 8), 10)
    x = torch.rand(2, 3, 8, 8)
    change = step(x) - x
    assert change.abs().max() > 1e-3
    torch.testing.assert_close(change, change[:, :1].expand_as(change), atol=1e-6, rtol=0)


def test_an_rbf_head_answers_as_the_formula_says() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    head = RbfHead(network, rank=4)
    x = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    head.begin(x, 3)
    phi = network[:3](x)
    for k in range(3):
        away = phi - head.centres[k]
        a_k = head.factors[k] @ head.factors[k].T
        torch.testing.assert_close(head(x)[:, k], -torch.einsum("nf,fg,ng->n", away, a_k, away))
    torch.testing.assert_close(signals_of(head, x).features, phi)
    assert torch.autograd.gradcheck(head, x.requires_grad_())


def test_an_rbf_head_learns_the_digits_and_changes_nothing_inside(digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits
    network = load_model("zoo:mnist-cnn").module.eval()
    before = {name: one.clone() for name, one in network.state_dict().items()}
    head = RbfHead(network)
    trained(head, x[:200], y[:200], network, epochs=2, rate=1e-2)
    assert all(torch.equal(one, network.state_dict()[name]) for name, one in before.items())
    with torch.no_grad():
        right = (head(x[200:300]).argmax(1) == y[200:300]).float().mean()
    assert float(right) > 0.9
    again = RbfHead(network)
    adopt(again, head.state_dict())
    assert torch.equal(again(x[:3]), head(x[:3]))


def test_what_is_not_fitted_says_so() -> None:
    # of random weights, lest a fit lie in the cache
    model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    for name in ("autoencoder", "y-denoiser", "rbf-head"):
        with pytest.raises(BadInput, match="has to be fitted before it is used"):
            assay.defend(model, name)
    with pytest.raises(BadInput, match="no weights yet: assay defend fit"):
        Transformed(Autoencoder(), model.module)(torch.rand(1, 1, 28, 28))
    with pytest.raises(BadInput, match="no centres yet: assay defend fit"):
        RbfHead(model.module)(torch.rand(1, 1, 28, 28))


def test_an_rbf_head_needs_a_last_linear_layer() -> None:
    with pytest.raises(BadInput, match="the network has none"):
        RbfHead(nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())).begin(torch.rand(2, 1, 8, 8), 10)
