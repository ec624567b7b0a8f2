"""Steps that move and scale images at random: crops of which a network sees many, and a smaller image on black."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.answers import sum_to_one
from assay.core.draws import current, drawing
from assay.core.errors import BadInput
from assay.core.signals import Signals, signals_of, with_refusal


class CropEnsemble(nn.Module):
    """The mean of the probabilities that a network gives for `crops` random crops, scaled up again (Guo et al. 2018).

    Guo et al. crop 90 x 90 of 224 x 224 (share 0.4) for networks trained on such crops; others need larger ones.
    Answers are logarithms of the mean. Where what is inside refuses, an image is refused if the mean excess is above 0.
    Backwards exact.
    """

    def __init__(
        self,
        inner: nn.Module,
        *,
        crops: Annotated[int, Option("Crops of each image, one pass of the network each.", "crops")] = 30,
        share: Annotated[float, Option("Side of a crop.", "share of the side", above=True, most=1)] = 0.9,
    ) -> None:
        super().__init__()
        self.inner, self.crops, self.share = inner, crops, share

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"crops={self.crops}, share={self.share:g}"

    def signals(self, x: Tensor) -> Signals:
        """Return the logarithms of the mean probabilities, and the mean excess."""
        draws = current(x)
        size = torch.tensor([max(1, round(self.share * side)) for side in x.shape[2:]], device=x.device)
        room = torch.tensor(x.shape[2:], device=x.device) - size
        places = (draws.uniform("crops", self.crops, 2) * (room + 1)).floor()
        seen: list[Signals] = []
        for i in range(self.crops):
            with drawing(draws.fold(f"crop {i}")):
                seen.append(signals_of(self.inner, _cropped(x, places[:, i], size)))
        _check_logits(seen[0].logits)
        logits = torch.stack([one.logits.float().log_softmax(1) for one in seen])
        excess = [one.excess for one in seen if one.excess is not None]
        mean = torch.stack(excess).mean(0) if excess else None
        return Signals((logits.logsumexp(0) - torch.tensor(self.crops).log()).to(x.dtype), mean)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images `x`, with the class "refused" where something inside refuses."""
        return with_refusal(self.signals(x))


def _check_logits(answers: Tensor) -> None:
    # behind the mean nobody sees them any more; what gives labels alone answers with ones and zeros
    if bool(sum_to_one(answers).all()) and not bool((answers.amax(1) == 1).all()):
        raise BadInput(
            "crop-ensemble averages the probabilities that follow from logits, and the network returns probabilities "
            "(each row sums to 1): its gradients would vanish. Load it as load_model(net, outputs='probabilities')."
        )


class ResizePad(nn.Module):
    """Each image shrunk to a random size and put at a random place on black, afresh in each look (Xie et al. 2018).

    Xie et al. enlarge 299 pixels to 299..330 and pad to 331; a network of one size of image needs the other way round.
    Bilinear, without a cast to 8 bits. Backwards exact.
    """

    def __init__(
        self,
        smallest: Annotated[
            float, Option("Least side of the smaller image.", "share of the side", above=True, most=1)
        ] = 0.88,
    ) -> None:
        super().__init__()
        self.smallest = smallest

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"smallest={self.smallest:g}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the images on black."""
        draws, (height, width) = current(x), x.shape[2:]
        least = max(1, round(self.smallest * height))
        tall = least + (draws.uniform("size") * (height - least + 1)).floor()
        size = torch.stack([tall, (tall * width / height).round().clamp_min(1)], 1)
        corner = (draws.uniform("place", 2) * (torch.tensor(x.shape[2:], device=size.device) - size + 1)).floor()
        for axis in (0, 1):
            at = torch.arange(x.shape[2 + axis], device=x.device)[None] - corner[:, axis, None]
            here = size[:, axis, None]
            x = _resampled(x, axis, (at + 0.5) * x.shape[2 + axis] / here - 0.5, (at >= 0) & (at < here))
        return x


def _cropped(x: Tensor, corner: Tensor, size: Tensor) -> Tensor:
    """Return crops of `size` `[2]` at `corner` `[N, 2]` (both height, width), scaled to the size of the images."""
    for axis in (0, 1):
        side = x.shape[2 + axis]
        at = (torch.arange(side, device=x.device)[None] + 0.5) * size[axis] / side - 0.5
        # beyond the crop its edge is repeated, not what lies around it
        inside = torch.minimum(at.clamp_min(0), size[axis] - 1)
        x = _resampled(x, axis, corner[:, axis, None] + inside, torch.ones_like(at, dtype=torch.bool))
    return x


def _resampled(x: Tensor, axis: int, at: Tensor, shown: Tensor) -> Tensor:
    """Return images read at the places `at` `[N, side]` of one axis, linearly, and 0 where they are not `shown`.

    Elementwise, so that a row does not depend on its batch; the size may differ from row to row.
    """
    dim = 2 + axis
    at = at.clamp(0, x.shape[dim] - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(x.shape[dim] - 1)
    weight = (at - low).to(x.dtype)

    def along(values: Tensor) -> Tensor:
        return values[:, None, :, None] if axis == 0 else values[:, None, None, :]

    shape = [*x.shape]
    shape[dim] = at.shape[1]
    lower, upper = (x.gather(dim, along(one).expand(shape)) for one in (low, high))
    return (lower * along(1 - weight) + upper * along(weight)) * along(shown).to(x.dtype)
