"""What happens to a patch between the file and the camera: expectation over transformation (Athalye et al. 2018).

Every number is drawn by the patch's own draws, so that a placement can be made again; kornia (extra `eot`) bends and
compresses, differentiably.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.core.draws import Draws
from assay.core.edges import cut
from assay.core.errors import BadInput

# from a quarter of the side on, four corners can fold the patch over itself
_MOST_PERSPECTIVE = 0.24


@dataclasses.dataclass(frozen=True)
class Transforms:
    """Ranges of what is drawn evenly for every placement; the defaults do nothing.

    `rotation` in degrees to both sides; `scale` from .. to; `perspective`: each corner moves by up to this share of the
    patch's sides; `brightness` is added to the patch's pixels, or taken from them; `contrast` is the share by which
    their distance from mid-grey grows or shrinks; `jpeg` is the lowest quality (1 to 100) that the whole image is
    compressed with.
    """

    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    perspective: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    jpeg: int | None = None

    def __post_init__(self) -> None:
        """Refuse ranges that mean nothing, and ask for kornia where it is needed."""
        low, high = self.scale
        if not 0 < low <= high:
            raise BadInput(f"scale is {self.scale}; expected two positive numbers, the smaller first, such as 0.7,1.")
        if not 0 <= self.rotation <= 180:
            raise BadInput(f"rotation is {self.rotation}; expected degrees from 0 to 180.")
        if not 0 <= self.perspective <= _MOST_PERSPECTIVE:
            raise BadInput(
                f"perspective is {self.perspective}; expected a share of the side, 0 to {_MOST_PERSPECTIVE}."
            )
        if not (0 <= self.brightness <= 1 and 0 <= self.contrast < 1):
            raise BadInput(f"brightness is {self.brightness}, contrast {self.contrast}; expected 0 to 1 for both.")
        if self.jpeg is not None and not 1 <= self.jpeg <= 100:
            raise BadInput(f"jpeg is {self.jpeg}; expected a quality from 1 to 100.")
        if self.bends or self.jpeg is not None:
            _kornia()

    @property
    def bends(self) -> bool:
        """Whether the patch changes its form."""
        return bool(self.rotation or self.perspective or self.scale != (1.0, 1.0))

    def coloured(self, pixels: Tensor, draws: Draws, many: int) -> Tensor:
        """Return pixels `[V, C, h, w]` in the light of `many` images each: `[V, many, C, h, w]`."""
        several = pixels[:, None].expand(-1, many, -1, -1, -1)
        if not (self.brightness or self.contrast):
            return several
        light = self.brightness * _both_sides(draws, "brightness", many)
        spread = 1 + self.contrast * _both_sides(draws, "contrast", many)
        return cut((several - 0.5) * spread[..., None, None, None] + 0.5 + light[..., None, None, None], 0.0, 1.0)

    def bent(self, cover: Tensor, places: Tensor, draws: Draws, image: tuple[int, int]) -> Tensor:
        """Return `[V, B, C, h, w]` drawn rotated, scaled and tilted onto canvases `[V, B, C, H, W]`, 0 around them.

        `places` `[V, B, 2]` are the top left corners (row, column) that it has where it is not bent.
        """
        warp = _kornia().geometry.transform
        several, many, _, height, width = cover.shape
        sides = torch.tensor([float(width), float(height)], device=cover.device)
        # pixels are squares around whole numbers: so a patch of one row has corners too, and its frame of nothing keeps
        # kornia from dividing by a side of one pixel
        corners = sides * torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], device=cover.device) - 0.5
        middle = corners.mean(0)
        tilt = self.perspective * sides * (2 * draws.uniform("perspective", many, 4, 2) - 1)
        angle = torch.deg2rad(self.rotation * _both_sides(draws, "rotation", many))
        low, high = self.scale
        length = low + (high - low) * draws.uniform("scale", many)
        cos, sin = length * angle.cos(), length * angle.sin()
        turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        around = (corners - middle + tilt) @ turn.transpose(-1, -2)
        target = around + (places.flip(-1) + middle)[:, :, None]
        source = (corners + 1).expand(several * many, 4, 2)
        framed = F.pad(cover.flatten(0, 1), (1, 1, 1, 1))
        matrix = warp.get_perspective_transform(source, target.flatten(0, 1).to(source.dtype))
        drawn: Tensor = warp.warp_perspective(framed, matrix, image, align_corners=True)
        return drawn.view(several, many, *drawn.shape[1:])

    def compressed(self, images: Tensor, draws: Draws) -> Tensor:
        """Return images `[V, B, 3, H, W]` after JPEG. Raises `BadInput` for images without three channels."""
        if self.jpeg is None:
            return images
        if images.shape[2] != 3:
            raise BadInput(f"JPEG is for colour images; these have {images.shape[2]} channels. Leave jpeg out.")
        codec = _kornia().enhance.jpeg_codec_differentiable
        quality = self.jpeg + (100 - self.jpeg) * draws.uniform("jpeg", images.shape[1])
        out: Tensor = codec(images.flatten(0, 1), quality.flatten().to(images.dtype))
        return cut(out.view_as(images), 0.0, 1.0)


def _both_sides(draws: Draws, name: str, many: int) -> Tensor:
    return 2 * draws.uniform(name, many) - 1


def _kornia() -> Any:
    try:
        import kornia
    except ModuleNotFoundError as error:
        raise BadInput(
            "Rotation, scale, perspective and JPEG need kornia, which is not installed. Install it with: "
            "pip install 'assay[eot]'"
        ) from error
    return kornia
