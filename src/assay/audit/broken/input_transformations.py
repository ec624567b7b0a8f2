"""Defences in front of the network: transformations of its input whose slope is zero, random or hidden."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from assay.core.errors import BadInput


def without_slope(there: Tensor, x: Tensor) -> Tensor:
    """Return `there`, exactly, with a gradient towards `x` that exists and is zero everywhere.

    A plain `detach` would make autograd raise, which nobody overlooks; this is how a slip goes unnoticed.
    """
    return there.detach().to(x) + (x - x)


class Jpeg(nn.Module):
    """Images written as JPEG and read again, by Pillow, where no gradient goes. For one channel or three."""

    def __init__(self, module: nn.Module, quality: int = 75) -> None:
        super().__init__()
        self.module, self.quality = module, quality

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"quality={self.quality}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`. Raises `BadInput` for images that JPEG does not know."""
        if x.shape[1] not in (1, 3):
            raise BadInput(f"JPEG is for 1 or 3 channels, and the images have {x.shape[1]}. Take another defence.")
        squeezed = torch.stack([self._squeezed(image) for image in x.detach().cpu()])
        return self.module(without_slope(squeezed, x))  # type: ignore[no-any-return]  # what a module returns is untyped

    def _squeezed(self, image: Tensor) -> Tensor:
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels).save(file, "jpeg", quality=self.quality)
        back = np.asarray(Image.open(file), dtype=np.float32) / 255
        return torch.from_numpy(back).reshape(*back.shape[:2], -1).permute(2, 0, 1)


class DetachedFilter(nn.Module):
    """A 3x3 Gaussian blur, applied outside the graph: the blur has a slope, and autograd is kept from it."""

    def __init__(self, module: nn.Module, sigma: float = 0.6) -> None:
        super().__init__()
        self.module, self.sigma = module, sigma

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"sigma={self.sigma}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        line = torch.exp(-(torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype, device=x.device) ** 2) / (2 * self.sigma**2))
        kernel = torch.outer(line, line) / line.sum() ** 2
        channels = x.shape[1]
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        blurred = F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)
        return self.module(without_slope(blurred, x))  # type: ignore[no-any-return]  # what a module returns is untyped


class MedianFilter(nn.Module):
    """Each pixel replaced by the median of the `side` x `side` pixels around it, without a gradient."""

    def __init__(self, module: nn.Module, side: int = 3) -> None:
        super().__init__()
        self.module, self.side = module, side

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"side={self.side}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        before = (self.side - 1) // 2
        after = self.side - 1 - before
        padded = F.pad(x.detach(), (before, after, before, after), mode="replicate")
        windows = padded.unfold(2, self.side, 1).unfold(3, self.side, 1).flatten(4)
        return self.module(without_slope(windows.median(4).values, x))  # type: ignore[no-any-return]  # what a module returns is untyped


class Rounding(nn.Module):
    """Pixels rounded to `bits` bits before the network sees them."""

    def __init__(self, module: nn.Module, bits: int = 5) -> None:
        super().__init__()
        self.module, self.bits = module, bits

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"bits={self.bits}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`; autograd gives rounding the slope 0 by itself."""
        steps = 2**self.bits - 1
        return self.module((x * steps).round() / steps)  # type: ignore[no-any-return]  # what a module returns is untyped


class Thermometer(nn.Module):
    """Pixels as a thermometer code of `levels` bits, read back to grey levels so that any network takes them.

    Bit i says whether the pixel is above i / levels. The original network is trained on the bits themselves.
    """

    def __init__(self, module: nn.Module, levels: int = 16) -> None:
        super().__init__()
        self.module, self.levels = module, levels

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"levels={self.levels}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        # the last threshold lies below 1, so that white sets all bits and black none
        thresholds = torch.arange(self.levels, dtype=x.dtype, device=x.device) / self.levels
        code = (x.unsqueeze(-1) > thresholds).to(x.dtype)
        return self.module(without_slope(code.mean(-1), x))  # type: ignore[no-any-return]  # what a module returns is untyped


class RandomResizePad(nn.Module):
    """Each image shrunk to a random size and put at a random place on black, afresh in each pass.

    Xie et al. enlarge 299 to 299..330 and pad to 331; a network of one size of image needs the other way round. As in
    libraries for pictures the result is in 8 bits, where no gradient goes: with one, PGD breaks MNIST all the same.
    """

    def __init__(self, module: nn.Module, smallest: float = 0.88) -> None:
        super().__init__()
        self.module, self.smallest = module, smallest

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"smallest={self.smallest}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        moved = torch.cat([self._moved(image) for image in torch.split(x.detach(), 1)])
        return self.module(without_slope((moved * 255).round() / 255, x))  # type: ignore[no-any-return]  # what a module returns is untyped

    def _moved(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        share = self.smallest + (1 - self.smallest) * float(torch.rand(()))
        size = round(share * height), round(share * width)
        small = F.interpolate(image, size, mode="bilinear", antialias=True)
        top, left = (int(torch.randint(room + 1, ())) for room in (height - size[0], width - size[1]))
        return F.pad(small, (left, width - size[1] - left, top, height - size[0] - top))


class TestTimeOptimisation(nn.Module):
    """Before it answers, the network moves the image, by signed gradient steps, towards what it already believes.

    The moved image is used as a constant: what an attack gets back is a gradient of zero.
    """

    __test__ = False  # pytest would take the name for a test

    def __init__(self, module: nn.Module, steps: int = 2, size: float = 0.03) -> None:
        super().__init__()
        self.module, self.steps, self.size = module, steps, size

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"steps={self.steps}, size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        moved = x.detach()
        believed = self.module(moved).detach().argmax(1)
        for _ in range(self.steps):
            # the caller may only want the answer; the optimiser wants gradients all the same
            with torch.enable_grad():
                moved = moved.requires_grad_()
                loss = F.cross_entropy(self.module(moved), believed, reduction="sum")
                (slope,) = torch.autograd.grad(loss, moved)
            moved = (moved - self.size * slope.sign()).clamp(0, 1).detach()
        return self.module(without_slope(moved, x))  # type: ignore[no-any-return]  # what a module returns is untyped
