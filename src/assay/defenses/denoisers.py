"""Denoising networks in front of a classifier, trained on clean images and noise of our own."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.errors import BadInput

NoiseLevel = Annotated[float, Option("Standard deviation of the noise in training.", "of the range [0, 1]", above=True)]
Filters = Annotated[int, Option("Filters of each layer.", "filters", most=256)]


class Autoencoder(nn.Module):
    """MagNet's reformer: an autoencoder that was trained to take noise off clean images (Meng and Chen 2017).

    Down to half the resolution and up again. Meng and Chen have 3 filters and sigmoids, which take hundreds of epochs
    and flatten the gradient at black and white; here `filters`, ReLU and a linear end. Backwards exact, through the
    network.
    """

    def __init__(self, *, noise: NoiseLevel = 0.1, filters: Filters = 8) -> None:
        super().__init__()
        self.noise, self.filters = noise, filters
        self.network: nn.Module | None = None

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"noise={self.noise:g}, filters={self.filters}"

    def begin(self, images: Tensor, classes: int) -> None:
        """Make the weights for images such as these."""
        self.network = _network(images.shape[1], self.filters)

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a fit."""
        self.network = _restored(state, self.filters)

    def loss(self, x: Tensor, y: Tensor, inner: nn.Module) -> Tensor:
        """Return the mean squared error of the images that come back from noisy ones."""
        noisy = (x + self.noise * torch.randn_like(x)).clamp(0, 1)
        return F.mse_loss(self(noisy), x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images as the network restores them; values may leave [0, 1] a little."""
        return _shown(x, self.network, "autoencoder").to(x.dtype)


class LumaDenoiser(nn.Module):
    """Noise is taken off Y of YCbCr, and Cb and Cr stay (Pestana et al. 2020); grey images are Y themselves.

    Our reading: their ResUpNet is a residual network that goes down and up in resolution, trained on attacked images;
    here a small one, trained on clean images with Gaussian noise on Y. Backwards exact, through the network.
    """

    def __init__(self, *, noise: NoiseLevel = 0.1, filters: Filters = 8) -> None:
        super().__init__()
        self.noise, self.filters = noise, filters
        self.network: nn.Module | None = None

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"noise={self.noise:g}, filters={self.filters}"

    def begin(self, images: Tensor, classes: int) -> None:
        """Make the weights; they are the same for grey and for coloured images."""
        self.network = _network(1, self.filters)

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a fit."""
        self.network = _restored(state, self.filters)

    def loss(self, x: Tensor, y: Tensor, inner: nn.Module) -> Tensor:
        """Return the mean squared error of Y, where the same noise lies on all channels."""
        noisy = x + self.noise * torch.randn_like(x[:, :1])
        return F.mse_loss(_luma(self(noisy)), _luma(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return the images with the Y that the network restores. Raises `BadInput` for neither 1 nor 3 channels."""
        if x.shape[1] not in (1, 3):
            raise BadInput(f"Y is that of 1 or 3 channels, and the images have {x.shape[1]}. Take another defence.")
        # a step of Y at fixed Cb and Cr is the same step of red, green and blue
        return x + _shown(_luma(x), self.network, "y-denoiser").to(x.dtype)


def _luma(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def _network(channels: int, filters: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(filters, 2 * filters, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * filters, 2 * filters, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * filters, filters, 2, stride=2),
        nn.ReLU(),
        nn.Conv2d(filters, channels, 3, padding=1),
    )


def _restored(state: dict[str, Tensor], filters: int) -> nn.Module:
    own = {name.removeprefix("network."): value for name, value in state.items()}
    network = _network(own["0.weight"].shape[1], filters)
    network.load_state_dict(own)
    return network.eval().requires_grad_(False)


def _shown(x: Tensor, network: nn.Module | None, name: str) -> Tensor:
    if network is None:
        raise BadInput(f"The {name} has no weights yet: assay defend fit.")
    height, width = x.shape[2:]
    # an odd side comes back one pixel longer
    told: Tensor = network(x.to(next(network.parameters()).dtype))
    return told[..., :height, :width]
