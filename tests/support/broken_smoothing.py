"""Certificates of smoothing that are wrong, each by a slip that is easily made, and the checks that catch them.

A certifier is asked about a network, images and a label, and returns a radius per image, 0 where it has none. `CHECKS`
hold for every sound one, a user's own too: the answers are known in closed form.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from scipy.stats import binom, norm
from torch import Tensor, nn

import assay
from assay.certification import make_certificate
from assay.certification.smoothing import certified_radius
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.problem import Problem
from assay.core.threat import threat_in
from assay.models import Classifier, Normalized


class Plane(nn.Module):
    """Two classes on the sides of a plane: class 1 where w . x + b is above 0."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(score), score], 1)


class LowBits(nn.Module):
    """Class 1 for one pixel above -1/4 that is a multiple of 2^-25: near 1/2 every float is, near 0 few are."""

    def forward(self, x: Tensor) -> Tensor:
        value = x.flatten(1)[:, 0]
        coarse = (value * 2**25 == (value * 2**25).round()) & (value > -0.25)
        return torch.stack([~coarse, coarse], 1).float()


@dataclasses.dataclass(frozen=True)
class Question:
    """What a certifier is asked: `votes` votes at deviation `sigma` about class `y` of images `x` `[N, 1, H, W]`."""

    network: nn.Module
    x: Tensor
    y: int = 1
    sigma: float = 0.25
    votes: int = 130
    alpha: float = 0.05
    norm: str = "l2"
    clip: bool = False


Certifier = Callable[[Question], Tensor]


def sound(asked: Question) -> Tensor:
    """Assay's own."""
    chain = f"smoothed:sigma={asked.sigma},clip={str(asked.clip).lower()}"
    model = assay.defend(Classifier(asked.network, outputs="logits"), chain)
    y = torch.full((len(asked.x),), asked.y)
    problem = Problem(model.oracle(), asked.x, Untargeted(y, -1), threat_in(asked.norm, eps=0.1, grid=255))
    method = make_certificate("smoothing", {"votes": asked.votes, "alpha": asked.alpha})
    found = method.prove(model, problem, [0.1], Draws(torch.arange(len(y))))
    assert found.radius is not None
    return found.radius


def _votes(asked: Question, shown: Callable[[Tensor], Tensor], network: nn.Module, scale: float = 1.0) -> Tensor:
    # the votes of class y, as most write it: noise from torch's generator, in single precision
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(len(asked.x), dtype=torch.int64)
    for _ in range(asked.votes):
        noise = asked.sigma * scale * torch.randn(asked.x.shape, generator=generator)
        total += network(shown(asked.x) + noise).argmax(1) == asked.y
    return total


def _radius(counts: Tensor, asked: Question, alpha: float | None = None) -> Tensor:
    found = certified_radius(counts.numpy(), asked.votes, alpha or asked.alpha, asked.sigma)
    radius = torch.from_numpy(found)
    return radius / math.sqrt(asked.x[0].numel()) if asked.norm == "linf" else radius


def _plain(x: Tensor) -> Tensor:
    return x


def float_noise(asked: Question) -> Tensor:
    """Image plus Gaussian noise in single precision."""
    return _radius(_votes(asked, _plain, asked.network), asked)


def share_without_bound(asked: Question) -> Tensor:
    """p = k / n, without a bound."""
    share = _votes(asked, _plain, asked.network).double() / asked.votes
    radius = torch.from_numpy(norm.ppf(share.numpy())) * asked.sigma
    return radius.clamp_min(0) / (math.sqrt(asked.x[0].numel()) if asked.norm == "linf" else 1)


def half_alpha(asked: Question) -> Tensor:
    """`alpha` where the library's interval has two sides and takes 2 alpha."""
    return _radius(_votes(asked, _plain, asked.network), asked, asked.alpha / 2)


def votes_reused(asked: Question) -> Tensor:
    """The votes that choose the class bound its share as well."""
    own = _votes(asked, _plain, asked.network)
    return _radius(torch.maximum(own, asked.votes - own), asked)


def shared_noise(asked: Question) -> Tensor:
    """One draw of noise for all images."""
    generator, total = torch.Generator().manual_seed(0), torch.zeros(len(asked.x), dtype=torch.int64)
    for _ in range(asked.votes):
        noise = asked.sigma * torch.randn(asked.x.shape[1:], generator=generator)
        total += asked.network(asked.x + noise).argmax(1) == asked.y
    return _radius(total, asked)


def _parts(network: nn.Module) -> tuple[Callable[[Tensor], Tensor], nn.Module, float]:
    # what normalises, what comes behind, and the deviation it divides by
    if not isinstance(network, Normalized):
        return _plain, network, 1.0
    mean, std = float(network.mean.flatten()[0]), float(network.std.flatten()[0])
    return (lambda x: (x - mean) / std), network.module, std


def noise_after_normalisation(asked: Question) -> Tensor:
    """Noise on the normalised image, the radius told in pixels."""
    shown, behind, _ = _parts(asked.network)
    return _radius(_votes(asked, shown, behind), asked)


def radius_in_normalised_units(asked: Question) -> Tensor:
    """Noise on the pixels, sigma written in normalised units, and with it the radius."""
    return _radius(_votes(asked, _plain, asked.network), asked) / _parts(asked.network)[2]


def batch_statistics(asked: Question) -> Tensor:
    """The network left in train mode: batch norm sees the noisy copies of one image alone."""
    asked.network.train()
    generator, counts = torch.Generator().manual_seed(0), []
    for image in asked.x:
        noise = asked.sigma * torch.randn(asked.votes, *image.shape, generator=generator)
        counts.append(int((asked.network(image + noise).argmax(1) == asked.y).sum()))
    return _radius(torch.tensor(counts), asked)


def linf_without_root(asked: Question) -> Tensor:
    """The Euclidean radius, told as one in Linf."""
    return _radius(_votes(asked, _plain, asked.network), dataclasses.replace(asked, norm="l2"))


BROKEN: Mapping[Certifier, str] = {
    share_without_bound: "too long",
    half_alpha: "not the bound",
    votes_reused: "too long on the boundary",
    shared_noise: "the same for all",
    noise_after_normalisation: "too long in units",
    radius_in_normalised_units: "too long in units",
    batch_statistics: "too long behind batch norm",
    float_noise: "two answers inside one radius",
    linf_without_root: "too long in linf",
}
"""Each with a check that catches it."""

_REPEATS = 1000
_POINT = torch.full((_REPEATS, 1, 2, 2), 150 / 255)


def _exceeds(radius: Tensor, distance: float, asked: Question) -> bool:
    # more often than a false statement in 20 explains, but once in 1,000
    return int((radius > distance).sum()) > int(binom.ppf(0.999, len(radius), asked.alpha))


def too_long(certify: Certifier) -> bool:
    """Of a plane the radius is the distance: more false ones than alpha allows."""
    asked = Question(Plane(torch.ones(4), -2.0), _POINT)
    return _exceeds(certify(asked), (4 * 150 / 255 - 2) / 2, asked)


def too_long_on_the_boundary(certify: Certifier) -> bool:
    """On the plane itself any radius is false, whichever class it is for."""
    asked = Question(Plane(torch.ones(4), -4 * 150 / 255), _POINT)
    return _exceeds(certify(asked), 1e-6, asked)


def too_long_in_units(certify: Certifier) -> bool:
    """The same plane behind a normalisation."""
    inside = Plane(torch.ones(4) * 0.25, 4 * 0.4 - 2.0)
    asked = Question(Normalized(inside, (0.4,), (0.25,)), _POINT)
    return _exceeds(certify(asked), (4 * 150 / 255 - 2) / 2, asked)


def too_long_in_linf(certify: Certifier) -> bool:
    """In Linf the distance is shorter."""
    asked = Question(Plane(torch.ones(4), -2.0), _POINT, norm="linf")
    return _exceeds(certify(asked), (4 * 150 / 255 - 2) / 4, asked)


def too_long_behind_batch_norm(certify: Certifier) -> bool:
    """A plane behind batch norm that has seen other images, handed over in train mode."""
    normalise = nn.BatchNorm2d(1, affine=False)
    normalise.running_mean, normalise.running_var = torch.tensor([0.5]), torch.tensor([1.0])
    asked = Question(nn.Sequential(normalise, Plane(torch.ones(4), 0.3)), _POINT[:50] * 0 + 100 / 255)
    # in eval mode the score is 4 (x - .5) + .3 < 0: class 0, and no radius for class 1 is true
    return _exceeds(certify(asked), 0.0, asked)


def not_the_bound(certify: Certifier) -> bool:
    """Where all votes agree, p is alpha^(1/n)."""
    asked = Question(Plane(torch.zeros(4), 1.0), _POINT[:1], votes=100, alpha=0.001)
    return abs(float(certify(asked)[0]) - asked.sigma * norm.ppf(0.001**0.01)) > 1e-5


def the_same_for_all(certify: Certifier) -> bool:
    """Equal images among others get votes of their own: else all are wrong at once."""
    return len(certify(Question(Plane(torch.ones(4), -2.0), _POINT[:50])).unique()) == 1


def two_answers_inside_one_radius(certify: Certifier) -> bool:
    """Certified as class 1 beyond an image that class 1 does not have."""
    x = torch.tensor([128 / 255, 0.0]).view(2, 1, 1, 1)
    near, far = certify(Question(LowBits(), x, votes=4000, alpha=0.001)).tolist()
    return near > 128 / 255 and far == 0


CHECKS: Mapping[str, Callable[[Certifier], bool]] = {
    check.__name__.replace("_", " "): check
    for check in (
        too_long,
        too_long_on_the_boundary,
        too_long_in_units,
        too_long_in_linf,
        too_long_behind_batch_norm,
        not_the_bound,
        the_same_for_all,
        two_answers_inside_one_radius,
    )
}
"""What says that a certifier is wrong."""
