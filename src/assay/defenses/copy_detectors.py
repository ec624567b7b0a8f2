"""Detectors that compare a network's answers about changed copies of an image, or under changes of the network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from assay.attacks.options import Option, options_of_maker
from assay.core.draws import Draws, current, drawing, nested
from assay.core.errors import BadInput, did_you_mean
from assay.core.oracle import LookPasses
from assay.core.signals import Signals, signals_of
from assay.defenses.dropout import Dropping, refuse_hidden
from assay.defenses.features import guides
from assay.defenses.layers import Batches, Detection
from assay.defenses.transformations import BitDepth, Median, NonLocalMeans

# rows of a pass: what a gradient keeps of hundreds of copies must fit into the memory
_ROWS = 64
# images that the shifts of logits are averaged over
_SHIFTED = 500


class SqueezeDetector(nn.Module):
    """Feature squeezing (Xu et al. 2018): how far the softmax moves when the image is squeezed.

    The largest L1 distance between the softmax of the image and those of its squeezed copies: 0 to 2. Without
    `squeezers` they are the published ones: bit-depth-1 and median-2 for one channel; bit-depth-5, median-2 and
    non-local-means-13-3-2 for small colour images, with 11-3-4 from 64 pixels a side.
    """

    def __init__(
        self,
        *,
        squeezers: Annotated[
            str | None, Option("The copies, such as bit-depth-1+median-2; without it the published ones.")
        ] = None,
    ) -> None:
        super().__init__()
        if squeezers is not None:
            _squeezers(squeezers)
        self.squeezers = squeezers

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"squeezers={self.squeezers}"

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`; the views are the image and its copies."""
        seen = signals_of(inner, x)
        answers = [seen.logits]
        for number, squeeze in enumerate(_squeezers(self.squeezers or _published(tuple(x.shape[1:])))):
            with nested(f"squeezed {number}"):
                answers.append(signals_of(inner, squeeze(x)).logits)
        views = torch.stack(answers, 1)
        shares = views.float().softmax(2)
        apart = (shares[:, 1:] - shares[:, :1]).abs().sum(2).amax(1)
        return Detection(seen._replace(views=views), apart)


def squeeze_passes(options: Mapping[str, Any]) -> LookPasses:
    """Return the passes of feature squeezing; the `shape` of the images says which copies are usual."""
    written = options["squeezers"] or _published(options.get("shape"))
    many = 1 + len(written.split("+"))
    return LookPasses(many, many)


def _published(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        raise BadInput(
            "squeeze-detector does not know which images the model takes, and its squeezers differ between them. Say "
            "which, such as squeeze-detector:squeezers=bit-depth-5+median-2, or load the model with ?size=."
        )
    if shape[0] == 1:
        return "bit-depth-1+median-2"
    return f"bit-depth-5+median-2+non-local-means-{'13-3-2' if min(shape[1:]) < 64 else '11-3-4'}"


@functools.cache
def _squeezers(written: str) -> tuple[Callable[[Tensor], Tensor], ...]:
    return tuple(_squeezer(part.strip()) for part in written.split("+"))


def _squeezer(written: str) -> Callable[[Tensor], Tensor]:
    name = written.rstrip("0123456789-")
    values = [int(one) for one in written[len(name) :].split("-") if one]
    if name not in _SQUEEZERS:
        raise BadInput(
            f"Unknown squeezer {written!r}.{did_you_mean(name, _SQUEEZERS)} Expected such as bit-depth-1, median-2 or "
            "non-local-means-11-3-4, joined by +."
        )
    make, names = _SQUEEZERS[name]
    if len(values) != len(names):
        raise BadInput(
            f"The squeezer {written!r} has {len(values)} numbers, expected {len(names)}: {', '.join(names)}, such as "
            "bit-depth-1, median-2 or non-local-means-11-3-4."
        )
    known = options_of_maker(make)
    return make(
        **{
            option: known[option].read(f"Squeezer {written!r}: {option}", value)
            for option, value in zip(names, values, strict=True)
        }
    )


_SQUEEZERS: Mapping[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "bit-depth": (BitDepth, ("bits",)),
    "median": (Median, ("size",)),
    "non-local-means": (NonLocalMeans, ("search", "patch", "strength")),
}


class DropoutUncertainty(nn.Module):
    """How much the softmax varies under dropout (Feinman et al. 2017): mean_t p_t'p_t - (mean_t p_t)'(mean_t p_t).

    The answer is the network's without dropout; `masks` more passes have it on. Costs 1 + `masks` passes.
    """

    def __init__(self, *, masks: Annotated[int, Option("Masks that are drawn.", "passes", least=2)] = 50) -> None:
        super().__init__()
        self.masks = masks

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"masks={self.masks}"

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        refuse_hidden(inner)
        seen = signals_of(inner, x)
        # measured from the answer without dropout: a difference of two sums near 1 would drown in rounding
        here = seen.logits.float().softmax(1)
        total, squares = torch.zeros_like(here), here.new_zeros(len(x))
        for images, draws, count in copies(x, self.masks, "dropout"):
            with drawing(draws.fold("inner")), Dropping(draws) as dropping:
                shares = signals_of(inner, images).logits.float().softmax(1).view(len(x), count, -1)
            dropping.check_met()
            moved = shares - here[:, None]
            total = total + moved.sum(1)
            squares = squares + moved.square().sum((1, 2))
        mean = total / self.masks
        return Detection(seen, squares / self.masks - mean.square().sum(1))


class Odds(nn.Module):
    """Are the odds odd (Roth et al. 2019): how unusually the logits shift when noise is added.

    max_z (E[f_z(x + n) - f_y(x + n)] - f_z(x) + f_y(x) - mean_yz) / deviation_yz, with y the predicted class, n
    Gaussian noise of deviation `sigma` drawn `looks` times, and mean and deviation those of training images.
    """

    mean: Tensor
    deviation: Tensor
    guide_logits: Tensor

    def __init__(
        self,
        *,
        looks: Annotated[int, Option("Noisy copies that are asked about.", "passes")] = 256,
        sigma: Annotated[float, Option("The deviation of the noise.", "pixel units", above=True)] = 0.1,
    ) -> None:
        super().__init__()
        self.looks, self.sigma = looks, sigma
        # their shapes are known after a fit
        for name in ("mean", "deviation", "guide_logits"):
            self.register_buffer(name, torch.empty(0))

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"looks={self.looks}, sigma={self.sigma}"

    def fit(self, batches: Batches, inner: nn.Module) -> None:
        """Find mean and deviation of the shifts of up to 500 images, `[K, K]`: predicted class, other class."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        with torch.no_grad():
            for x, y in batches:
                seen = signals_of(inner, x)
                found.append((self.shifts(x, inner, seen), seen.logits.float(), y))
                if sum(len(labels) for *_, labels in found) >= _SHIFTED:
                    break
        shifts, logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        self.guide_logits = guides(logits, logits, labels).logits
        shifts, classes, k = shifts.double(), logits.argmax(1), logits.shape[1]
        others = ~nn.functional.one_hot(classes, k).bool()
        # a class that is rarely predicted is judged by all
        usual = shifts[others]
        self.mean = torch.full((k, k), float(usual.mean()), device=shifts.device)
        self.deviation = torch.full((k, k), float(usual.std()), device=shifts.device)
        for row in range(k):
            own = shifts[classes == row]
            if len(own) >= 10:
                self.mean[row], self.deviation[row] = own.mean(0).float(), own.std(0).float()
        self.deviation.clamp_min_(1e-6)

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        seen = signals_of(inner, x)
        shifts, y = self.shifts(x, inner, seen), seen.logits.argmax(1)
        odd = (shifts - self.mean.to(shifts)[y]) / self.deviation.to(shifts)[y]
        return Detection(seen, odd.masked_fill(nn.functional.one_hot(y, odd.shape[1]).bool(), -torch.inf).amax(1))

    def shifts(self, x: Tensor, inner: nn.Module, seen: Signals) -> Tensor:
        """Return the mean shift of each class's logit against the predicted one's `[N, K]`."""
        total = torch.zeros_like(seen.logits, dtype=torch.float32)
        for images, draws, count in copies(x, self.looks, "odds"):
            noise = draws.normal("noise", *x.shape[1:]).to(images)
            with drawing(draws.fold("inner")):
                total = total + signals_of(inner, images + self.sigma * noise).logits.float().view(
                    len(x), count, -1
                ).sum(1)
        moved = total / self.looks - seen.logits.float()
        return moved - moved.gather(1, seen.logits.argmax(1, keepdim=True))


def copies(x: Tensor, count: int, name: str) -> Iterator[tuple[Tensor, Draws, int]]:
    """Yield `count` copies of each image in parts: copies `[N * n, C, H, W]`, those of an image side by side, draws, n.

    Each copy has draws of its own, which follow from its image's.
    """
    draws = current(x).fold(name)
    each = max(1, _ROWS // max(1, len(x)))
    for at in range(0, count, each):
        n = min(each, count - at)
        yield x.repeat_interleave(n, 0), draws.copies(at, n), n
