"""Steps that change an image before the network sees it: `[N, C, H, W]` in [0, 1] -> the same shape.

Forward is what was published, exactly. Where that has no useful gradient, another one stands in for it backwards.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.draws import current
from assay.core.errors import BadInput
from assay.core.tensors import valued

Pixels = NDArray[np.uint8]


class BitDepth(nn.Module):
    """Grey levels rounded to `bits` bits, half to even (Xu et al. 2018).

    Backwards a staircase of sigmoids with slope 10 (2^bits - 1) at its steps: the identity says nothing at 1 bit.
    """

    def __init__(self, bits: Annotated[int, Option("Bits that are left of each value.", "bits", most=8)] = 1) -> None:
        super().__init__()
        self.bits = bits

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"bits={self.bits}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the rounded images."""
        steps = 2**self.bits - 1
        levels = x.detach().float() * steps
        there: Tensor = (levels.round() / steps).to(x.dtype)
        if not x.requires_grad:
            return there
        slope = torch.zeros_like(levels)
        for neighbour in (-1, 0, 1):  # those of farther steps are below 1e-6
            step = levels.floor() + neighbour
            rise = torch.sigmoid(10 * (levels - step - 0.5))
            slope += torch.where((step >= 0) & (step < steps), 10 * rise * (1 - rise), 0)
        return valued(x * slope.to(x.dtype), there)


class Median(nn.Module):
    """Each value replaced by the median of the `size` x `size` ones around it (Xu et al. 2018).

    As `scipy.ndimage.median_filter`: a window of even size reaches one further up and left, the median of an even
    number is the upper one, and images go on mirrored, with the edge repeated. Backwards the gradient of the pixel that
    is the median; equal ones share it.
    """

    def __init__(self, size: Annotated[int, Option("Side of the window.", "pixels", least=2, most=99)] = 2) -> None:
        super().__init__()
        self.size = size

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered images."""
        size, (height, width) = self.size, x.shape[2:]
        wide = x.index_select(2, self._places(height, x.device)).index_select(3, self._places(width, x.device))
        shifted = [wide[..., i : i + height, j : j + width] for i in range(size) for j in range(size)]
        with torch.no_grad():
            there = _of_rank(shifted, size * size // 2)
        if not x.requires_grad:
            return there
        chosen = [(one.detach() == there).to(x.dtype) for one in shifted]
        share = 1 / sum(chosen[1:], chosen[0])
        back = sum((one * mine for one, mine in zip(shifted, chosen, strict=True)), torch.zeros_like(there))
        return valued(back * share, there)

    def _places(self, side: int, device: torch.device) -> Tensor:
        # mirrored as often as the window is longer than the image
        place = (torch.arange(side + self.size - 1, device=device) - self.size // 2) % (2 * side)
        return torch.minimum(place, 2 * side - 1 - place)


def _of_rank(values: list[Tensor], rank: int) -> Tensor:
    if len(values) > 9:
        return torch.stack(values).sort(0).values[rank]
    # few are compared in pairs, in a tenth of the time of a sort
    values = list(values)
    for last in range(len(values) - 1, rank - 1, -1):
        for i in range(last):
            one, other = values[i], values[i + 1]
            values[i], values[i + 1] = torch.minimum(one, other), torch.maximum(one, other)
    return values[rank]


class NonLocalMeans(nn.Module):
    """Non-local means of OpenCV on 8-bit values (Xu et al. 2018, where 11_3_4 is search, patch and strength).

    Grey images by `fastNlMeansDenoising`, coloured ones by `fastNlMeansDenoisingColored`, which is given red, green and
    blue in this order, as in the published code. Backwards the identity. Raises `BadInput` without OpenCV.
    """

    def __init__(
        self,
        *,
        search: Annotated[int, Option("Side of the window that is searched.", "pixels", odd=True, most=99)] = 11,
        patch: Annotated[int, Option("Side of the patches that are compared.", "pixels", odd=True, most=99)] = 3,
        strength: Annotated[float, Option("How strongly it smoothes.", "grey levels of 255", above=True)] = 4.0,
    ) -> None:
        super().__init__()
        self.search, self.patch, self.strength = search, patch, strength
        _opencv()

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"search={self.search}, patch={self.patch}, strength={self.strength:g}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the denoised images."""
        there = by_picture(x, self._denoised)
        return valued(x, there) if x.requires_grad else there

    def _denoised(self, pixels: Pixels) -> Pixels:
        cv2, windows = _opencv(), (self.patch, self.search)
        if pixels.ndim == 2:
            return cv2.fastNlMeansDenoising(pixels, None, self.strength, *windows)  # type: ignore[no-any-return]  # what a module or library returns is untyped
        return cv2.fastNlMeansDenoisingColored(  # type: ignore[no-any-return]  # what a module or library returns is untyped
            pixels, None, self.strength, self.strength, *windows
        )


def _opencv() -> Any:
    try:
        return importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        raise BadInput("Non-local means are OpenCV's, which is not installed: pip install 'assay[nlm]'.") from error


def by_picture(x: Tensor, change: Callable[[Pixels], Pixels]) -> Tensor:
    """Return images `[N, C, H, W]` of 1 or 3 channels, each changed as 8-bit pixels `[H, W]` or `[H, W, 3]`.

    Values are rounded to the nearest of 256 levels. Raises `BadInput` for another number of channels.
    """
    if x.shape[1] not in (1, 3):
        raise BadInput(f"8-bit pictures have 1 or 3 channels, and the images have {x.shape[1]}. Take another defence.")
    levels = (x.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    changed = [change(np.ascontiguousarray(one[..., 0] if x.shape[1] == 1 else one)) for one in levels]
    back = torch.from_numpy(np.stack(changed).reshape(levels.shape)).permute(0, 3, 1, 2).contiguous()
    return (back.to(x.device).float() / 255).to(x.dtype)


class GaussianNoise(nn.Module):
    """Gaussian noise on every value, fresh in each look (cf. Cohen et al. 2019). Values may leave [0, 1].

    Backwards exact.
    """

    def __init__(
        self,
        sigma: Annotated[float, Option("Standard deviation of the noise.", "of the range [0, 1]", above=True)] = 0.1,
    ) -> None:
        super().__init__()
        self.sigma = sigma

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"sigma={self.sigma:g}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy images."""
        return x + (self.sigma * current(x).normal("gaussian noise", *x.shape[1:])).to(x.dtype)
