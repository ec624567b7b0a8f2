"""Detectors that compare an image's features with those of training images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated

import torch
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.errors import BadInput
from assay.core.signals import Signals
from assay.defenses.attacked import Size, attacked, logistic_weights
from assay.defenses.features import Heard, Layer, Layers, guides, heard, last_linear, several
from assay.defenses.layers import Batches, Detection

# how many images are attacked to weigh the layers
_ATTACKED = 400


class KernelDensity(nn.Module):
    """-log of the density of an image's features among those of its predicted class (Feinman et al. 2017).

    The mean of exp(-|f - f_i|^2 / h^2) over at most `samples` training images per class. Without `bandwidth` the fit
    takes the h under which the images of a class, each left out in turn, are likeliest.
    """

    features: Tensor
    labels: Tensor
    width: Tensor
    guide_features: Tensor
    guide_logits: Tensor

    def __init__(
        self,
        *,
        layer: Layer = None,
        samples: Annotated[int, Option("Training images kept per class.", "images")] = 500,
        bandwidth: Annotated[
            float | None, Option("The width h of the kernel; without it the likeliest.", "feature distance", above=True)
        ] = None,
    ) -> None:
        super().__init__()
        self.layer, self.samples, self.bandwidth = layer, samples, bandwidth
        _hold(self, "features", "labels", "width", "guide_features", "guide_logits")

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"layer={self.layer}"

    def fit(self, batches: Batches, inner: nn.Module) -> None:
        """Keep features of each class. Raises `BadInput` where no class has two images."""
        features, logits, labels = collected(batches, inner, last_linear(inner, self.layer))
        rows = [(labels == k).nonzero().squeeze(1)[: self.samples] for k in range(logits.shape[1])]
        kept = torch.cat(rows)
        self.features, self.labels = features[kept], labels[kept]
        width = self.bandwidth or _likeliest_width([features[own] for own in rows if len(own) > 1])
        self.width = torch.tensor(width, dtype=torch.float32, device=features.device)
        self.guide_features, self.guide_logits = guides(features, logits, labels)

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        found = heard(inner, x, last_linear(inner, self.layer))
        return Detection(found.told, self.score(found.joined, found.signals.logits.argmax(1)))

    def score(self, features: Tensor, predicted: Tensor) -> Tensor:
        """Return the score `[N]` of features `[N, F]` with predicted classes `[N]`."""
        kernel = -_distances(features, self.features.to(features)).square() / self.width.to(features).square()
        own = self.labels[None] == predicted[:, None]
        # a class without training images is compared with all
        own = own | ~own.any(1, keepdim=True)
        return own.sum(1).to(kernel).log() - kernel.masked_fill(~own, -torch.inf).logsumexp(1)


class LocalDimension(nn.Module):
    """Local intrinsic dimension in several layers (Ma et al. 2018), weighed by a logistic regression.

    In a layer it is -k / sum_i log(d_i / d_k), with the distances d_1 <= ... <= d_k to the nearest of `reference`
    training images. The published one takes these from the batch; here they are frozen.
    """

    reference_features: Tensor
    weights: Tensor
    offset: Tensor
    guide_features: Tensor
    guide_logits: Tensor

    def __init__(
        self,
        *,
        layers: Layers = None,
        k: Annotated[int, Option("Neighbours that count.", "images", least=2)] = 20,
        reference: Annotated[int, Option("Training images that neighbours are sought among.", "images")] = 100,
        size: Size = None,
    ) -> None:
        super().__init__()
        if k > reference:
            raise BadInput(f"k is {k}, more than the {reference} reference images. Use a smaller k.")
        self.layers, self.k, self.reference, self.size = layers, k, reference, size
        _hold(self, "reference_features", "weights", "offset", "guide_features", "guide_logits")

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"layers={self.layers}, k={self.k}"

    def fit(self, batches: Batches, inner: nn.Module) -> None:
        """Keep the features of the first images, and weigh the layers by what tells attacked images from clean ones."""
        layers = several(inner, self.layers)
        features, logits, labels = collected(batches, inner, layers)
        if len(features) <= max(self.reference, self.k):
            raise BadInput(
                f"{len(features)} training images; expected more than the {self.reference} of the reference."
            )
        self.reference_features = features[: self.reference]
        self.guide_features, self.guide_logits = guides(features, logits, labels)
        self.weights, self.offset = _layer_weights(
            self.dimensions, _past(batches, self.reference), inner, layers, self.size
        )

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        found = heard(inner, x, several(inner, self.layers))
        values = self.dimensions(found)
        return Detection(found.told, values @ self.weights.to(values) + self.offset.to(values))

    def dimensions(self, found: Heard) -> Tensor:
        """Return the local dimension in each layer, `[N, L]`."""
        kept = torch.split(self.reference_features.to(found.joined), [part.shape[1] for part in found.features], 1)
        return torch.stack([local_dimension(*pair, self.k) for pair in zip(found.features, kept, strict=True)], 1)


def local_dimension(features: Tensor, reference: Tensor, k: int) -> Tensor:
    """Return -k / sum_i log(d_i / d_k) `[N]` of features `[N, F]`, with the k smallest distances to `reference`."""
    near = _distances(features, reference).topk(k, 1, largest=False).values.clamp_min(1e-12)
    return -k / (near / near[:, -1:]).log().sum(1).clamp_max(-1e-6)


class Mahalanobis(nn.Module):
    """Mahalanobis distance to the nearest class mean in several layers (Lee et al. 2018), weighed by a regression.

    In a layer it is min_c (f - m_c)' S^-1 (f - m_c) / 2 with one covariance S for all classes. With a `step`, the image
    first moves by it along the sign of the gradient that lowers the score, as part of the model.
    """

    means: Tensor
    whitening: Tensor
    weights: Tensor
    offset: Tensor
    guide_features: Tensor
    guide_logits: Tensor

    def __init__(
        self,
        *,
        layers: Layers = None,
        step: Annotated[float, Option("How far the image moves first.", "pixel units", most=1)] = 0.0,
        size: Size = None,
    ) -> None:
        super().__init__()
        self.layers, self.step, self.size = layers, step, size
        _hold(self, "means", "whitening", "weights", "offset", "guide_features", "guide_logits")

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"layers={self.layers}, step={self.step}"

    def fit(self, batches: Batches, inner: nn.Module) -> None:
        """Find means and covariance, and weigh the layers by what tells attacked images from clean ones."""
        layers = several(inner, self.layers)
        features, logits, labels = collected(batches, inner, layers)
        with torch.no_grad():
            sizes = [part.shape[1] for part in heard(inner, next(iter(batches))[0], layers).features]
        self.means, self.whitening = tied_gaussians(features, labels, sizes)
        self.guide_features, self.guide_logits = guides(features, logits, labels)
        self.weights, self.offset = _layer_weights(self.distances, batches, inner, layers, self.size)

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        layers = several(inner, self.layers)
        if not self.step:
            found = heard(inner, x, layers)
            return Detection(found.told, self._score(found))
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            here = heard(inner, at, layers)
            (slope,) = torch.autograd.grad(self._score(here).sum(), at, retain_graph=True)
        moved = heard(inner, x - self.step * slope.sign(), layers)
        told = here.signals if x.requires_grad else _detached(here.signals)
        return Detection(told._replace(features=moved.joined), self._score(moved))

    def _score(self, found: Heard) -> Tensor:
        values = self.distances(found)
        return values @ self.weights.to(values) + self.offset.to(values)

    def distances(self, found: Heard) -> Tensor:
        """Return half the squared distance to the nearest mean in each layer, `[N, L]`."""
        sizes = [part.shape[1] for part in found.features]
        means = torch.split(self.means.to(found.joined), sizes, 1)
        whitening = self.whitening.to(found.joined)
        values, at = [], 0
        for part, middle, size in zip(found.features, means, sizes, strict=True):
            white = whitening[at : at + size, :size]
            at += size
            values.append(_distances(part @ white, middle @ white).square().amin(1) / 2)
        return torch.stack(values, 1)


def tied_gaussians(features: Tensor, labels: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Return the class means `[K, F]` and, layer below layer, W `[F, max(sizes)]` with W W' the inverse covariance.

    The covariance is that of each layer's features `[M, F]` about the means of their classes, one for all classes;
    directions without variance do not count. `sizes` are the layers' numbers of features.
    """
    present, member = torch.unique(labels, return_inverse=True)
    wide = features.double()
    means = torch.stack([wide[member == k].mean(0) for k in range(len(present))])
    whitening = wide.new_zeros(wide.shape[1], max(sizes))
    at = 0
    for size in sizes:
        own = slice(at, at + size)
        about = (wide[:, own] - means[member][:, own]).cpu()
        values, vectors = torch.linalg.eigh(about.T @ about / len(about))
        shrink = torch.where(values > 1e-7 * values.max(), values, torch.inf).rsqrt()
        whitening[own, :size] = (vectors * shrink).to(whitening)
        at += size
    return means.float(), whitening.float()


def collected(batches: Batches, inner: nn.Module, layers: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the features `[M, F]`, logits `[M, K]` and labels `[M]` of all images."""
    features, logits, labels = [], [], []
    with torch.no_grad():
        for x, y in batches:
            found = heard(inner, x, layers)
            features.append(found.joined)
            logits.append(found.signals.logits.float())
            labels.append(y)
    return torch.cat(features), torch.cat(logits), torch.cat(labels)


def _layer_weights(
    measured: Callable[[Heard], Tensor], batches: Batches, inner: nn.Module, layers: tuple[str, ...], size: float | None
) -> tuple[Tensor, Tensor]:
    """Return the weights `[L]` and the offset under which what is measured tells attacked images from clean ones."""
    values: list[Tensor] = []
    positive: list[Tensor] = []
    seen = 0
    for x, y in batches:
        images, fooled = attacked(inner, x, y, size)
        with torch.no_grad():
            for shown in (x, images[fooled]):
                if len(shown):
                    values.append(measured(heard(inner, shown, layers)))
                    positive.append(torch.full((len(shown),), shown is not x, device=x.device))
        seen += len(x)
        if seen >= _ATTACKED:
            break
    told = torch.cat(positive)
    if not bool(told.any()):
        raise BadInput(f"No attack fooled the network on {seen} training images: give the detector a larger size=.")
    return logistic_weights(torch.cat(values), told)


def _past(batches: Batches, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for x, y in batches:
        if count < len(x):
            yield x[count:], y[count:]
        count = max(0, count - len(x))


def _likeliest_width(groups: list[Tensor]) -> float:
    """Return the width under which features, each left out of its group in turn, are likeliest."""
    if not groups:
        raise BadInput("No class has two training images; expected at least two of some class. Give more data.")
    near = []
    for group in groups:
        apart = _distances(group, group).double()
        near.append(apart.fill_diagonal_(torch.inf))
    usual = float(torch.cat([one.amin(1) for one in near]).median())
    best, width = -torch.inf, max(usual, 1e-6)
    for power in range(-4, 9):
        h = max(usual, 1e-6) * 2 ** (power / 2)
        # up to what does not depend on the width
        likely = sum(float(((-one.square() / h**2).logsumexp(1)).sum()) for one in near)
        likely -= sum(len(one) for one in near) * groups[0].shape[1] * math.log(h)
        if likely > best:
            best, width = likely, h
    return width


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    # exact, and the same in any batch, as a matrix product is not
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")


def _detached(seen: Signals) -> Signals:
    rest = (None if one is None else one.detach() for one in seen[1:])
    return Signals(seen.logits.detach(), *rest)


def _hold(module: nn.Module, *names: str) -> None:
    # their shapes are known after a fit
    for name in names:
        module.register_buffer(name, torch.empty(0))
