from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.models.normalized import Normalized
from assay.training.certified import CertifiedProbe, CertifiedTraining
from assay.training.dataset_view import InMemory
from assay.training.fit import FitLog, FitProgress, FitSettings, fit
from assay.training.losses import CrossEntropy

DRAWS = Draws(torch.arange(2))


def by_hand() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network of two values, two neurons and two classes, and two images.

    At eps 0.25 the first image's values are in [.25, .75] and [0, .5]: so h1 = x1 - x2 in [-.25, .75] and
    h2 = 2 x1 - .5 in [0, 1]. The second's x2 is in [0, .35], for the box ends at 0: h1 in [-.1, .75].
    """
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
        network[1].bias.copy_(torch.tensor([0.0, -0.5]))
        network[3].weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 2.0]]))
        network[3].bias.copy_(torch.tensor([0.5, 0.0]))
    return network, torch.tensor([[0.5, 0.25], [0.5, 0.1]]).view(2, 1, 1, 2), torch.tensor([0, 1])


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_the_loss_is_that_of_a_calculation_by_hand() -> None:
    network, x, y = by_hand()
    # the first leads by 2 h1 - h2 + .5: .5 at the image, at least 0 - 1 + .5; the second by the opposite: -.8 and
    # -1.5 + 0 - .5
    at_image, worst = [softplus(-0.5), softplus(0.8)], [softplus(0.5), softplus(2.0)]
    for kappa in (0.0, 0.3, 1.0):
        loss = CertifiedTraining(0.25, kappa=kappa)(network, x, y, DRAWS)
        mixed = [kappa * a + (1 - kappa) * b for a, b in zip(at_image, worst, strict=True)]
        torch.testing.assert_close(loss, torch.tensor(mixed))
    soft = CertifiedTraining(0.25)(network, x, F.one_hot(y).float(), DRAWS)
    torch.testing.assert_close(soft, CertifiedTraining(0.25)(network, x, y, DRAWS))


def test_linear_bounds_come_first_and_intervals_last() -> None:
    network, x, y = (part if isinstance(part, nn.Module) else part[:1] for part in by_hand())
    loss = CertifiedTraining(0.5, "crown-ibp", warmup=0.0, kappa=0.0, ramp=1.0)
    # h1 - h2 = x1 - x2 - 2 x1 + .5 where both take the line h, so 2 h1 - h2 + .5 = 1 - 2 x2: at least 0, not -.5
    lead = 0.5 * 0.0 + 0.5 * -0.5
    expected = 0.5 * softplus(-0.5) + 0.5 * softplus(-lead)
    torch.testing.assert_close(loss.during(0.5)(network, x, y, DRAWS), torch.tensor([expected]))
    torch.testing.assert_close(loss(network, x, y, DRAWS), CertifiedTraining(0.5, kappa=0.0)(network, x, y, DRAWS))


def test_the_size_grows_after_the_images_alone() -> None:
    loss = CertifiedTraining(0.25, warmup=0.2, ramp=0.4, kappa=0.5)
    assert [loss.during(share).grown for share in (0.0, 0.2, 0.4, 0.6, 0.9)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert [CertifiedTraining(0.1, warmup=0.0, ramp=0.0).during(share).grown for share in (0.0, 1.0)] == [1, 1]
    network, x, y = by_hand()
    first = loss.during(0.1)(network, x, y, DRAWS)
    torch.testing.assert_close(first, F.cross_entropy(network(x), y, reduction="none"))
    # at half of it the weight of the bounds is a quarter, and x1 in [.375, .625], x2 in [.125, .375]
    half = loss.during(0.4)(network, x[:1], y[:1], DRAWS)
    worst = softplus(0.75 - 0.5)  # h1 from 0, h2 to .75
    torch.testing.assert_close(half, torch.tensor([0.75 * softplus(-0.5) + 0.25 * worst]))


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 + 0.1


def test_the_network_keeps_its_modes_and_all_of_it_learns() -> None:
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), Halved(), nn.Dropout(), nn.Conv2d(4, 4, 2), nn.ReLU())
    inner = nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 3))
    network = Normalized(inner, (0.5,), (0.25,)).train()
    inner[4].eval()
    x, y = torch.rand(12, 1, 6, 6), torch.arange(12) % 3
    certified = CertifiedTraining(0.1, "crown-ibp", kappa=0.0, grown=0.9)
    loss = certified(network, x, y, DRAWS)
    loss.mean().backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in network.parameters())
    assert [module.training for module in inner].count(False) == 1 and not inner[4].training
    # the weights are read anew at each call
    with torch.no_grad():
        inner[-1].weight.mul_(2)
    assert not torch.equal(certified(network, x, y, DRAWS), loss)


def tempting(count: int, seed: int) -> InMemory:
    """Return images with a bright or dark column, right in nine of ten, and faint pixels that are always right."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    side = (2 * y - 1).float()[:, None]
    strong = side * (1 - 2 * (torch.rand(count, 1, generator=generator) < 0.1).float())
    x = 0.5 + 0.08 * side.expand(count, 36) + 0.1 * (torch.rand(count, 36, generator=generator) - 0.5)
    x[:, :6] = 0.5 + 0.25 * strong
    return InMemory(x.view(count, 1, 6, 6), y)


def trained(folder: Path, loss: Any, on_progress: Any = lambda progress: None) -> tuple[dict[str, Tensor], FitLog]:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    network = Normalized(inner, (0.5,), (0.1,))
    settings = FitSettings(6, 40, 0.03, loss=loss, schedule="triangular", probe=CertifiedProbe(0.1))
    log = fit(network, tempting(400, 0), tempting(200, 1), settings, folder, on_progress)
    return network.state_dict(), log


@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_training_gives_up_what_cannot_be_proved(tmp_path: Path, method: str) -> None:
    plain = trained(tmp_path / "plain", CrossEntropy())[1].kept
    proved = trained(tmp_path / "certified", CertifiedTraining(0.1, method, kappa=0.0))[1].kept
    assert plain.validation_accuracy > 0.98 and proved.validation_accuracy > 0.85
    assert plain.certified_accuracy is not None and proved.certified_accuracy is not None
    assert proved.certified_accuracy > plain.certified_accuracy + 0.15


def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    class Interrupt(Exception):
        pass

    def stop(progress: FitProgress) -> None:
        if (progress.epoch, progress.batch) == (3, 2):
            raise Interrupt

    loss = CertifiedTraining(0.1, "crown-ibp")
    whole = trained(tmp_path / "whole", loss)[0]
    with pytest.raises(Interrupt):
        trained(tmp_path / "part", loss, stop)
    resumed = trained(tmp_path / "part", loss)[0]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(BadInput, match="holds another training"):
        trained(tmp_path / "part", CertifiedTraining(0.12, "crown-ibp"))


def test_the_probe_counts_what_is_right_and_proved() -> None:
    network, x, y = by_hand()
    # the first leads by at least .5 - 6 eps, for a small eps; the second is wrong
    assert CertifiedProbe(0.08)(network, InMemory(x, y), 0).certified == 0.5
    assert CertifiedProbe(0.09)(network, InMemory(x, y), 0).certified == 0
    assert CertifiedProbe(0.08, count=1)(network, InMemory(x, y), 0).certified == 1


def test_a_network_without_bounds_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    before = [parameter.clone() for parameter in network.parameters()]
    settings = FitSettings(2, 40, 0.02, loss=CertifiedTraining(0.1))
    with pytest.raises(BadInput, match=r"layer '2' \(MaxPool2d\)"):
        fit(network, tempting(80, 0), tempting(40, 1), settings, tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"eps": 0.0}, "eps is 0.0"),
        ({"eps": math.nan}, "eps is nan"),
        ({"method": "crown"}, "method is 'crown'; expected ibp or crown-ibp"),
        ({"kappa": 1.5}, "kappa is 1.5"),
        ({"warmup": -0.1}, "warmup is -0.1"),
        ({"warmup": 0.7, "ramp": 0.5}, "together more than the whole training"),
    ],
)
def test_settings_that_no_training_can_use(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        CertifiedTraining(**{"eps": 0.1, **given})
