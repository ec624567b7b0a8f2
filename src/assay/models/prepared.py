"""Pictures as a model wants them: resized, padded and cropped, by Pillow."""

from __future__ import annotations

from typing import Any

from PIL import Image

from assay.models.classifier import Preprocess


def prepared_picture(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Return the picture resized, padded and cropped. Raises `ValueError` where it is smaller than the crop."""
    # more than a second to import, and pictures that stay as they are do not need it
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    changed: Any = image
    mode = InterpolationMode(preprocess.interpolation)
    if preprocess.pad is not None and preprocess.resize is not None:
        height, width = preprocess.resize
        share = min(height / image.height, width / image.width)
        inside = [max(1, round(image.height * share)), max(1, round(image.width * share))]
        fitting = transforms.resize(changed, inside, mode, antialias=preprocess.antialias)
        return _padded(fitting, (height, width), preprocess.pad)
    if preprocess.resize is not None:
        changed = transforms.resize(changed, list(preprocess.resize), mode, antialias=preprocess.antialias)
    if preprocess.crop is not None:
        height, width = preprocess.crop
        if changed.height < height or changed.width < width:
            found = f"{changed.height} x {changed.width} (height x width) is smaller than the crop {height} x {width}"
            raise ValueError(f"{found}. Say resize={height}x{width}, or size={height}x{width}&pad=black, instead.")
        if preprocess.floored:
            changed = transforms.crop(
                changed, (changed.height - height) // 2, (changed.width - width) // 2, height, width
            )
        else:
            changed = transforms.center_crop(changed, [height, width])
    return changed  # type: ignore[no-any-return]  # torchvision's functions are untyped


def _padded(image: Image.Image, size: tuple[int, int], level: int) -> Image.Image:
    """Return the picture in the middle of an area (height, width) of the grey `level`."""
    kinds: dict[str, Any] = {"L": level, "F": level / 255, "LA": (level, 255), "RGBA": (level,) * 3 + (255,)}
    inverse = 255 - level
    colour: Any = (inverse, inverse, inverse, 0) if image.mode == "CMYK" else (level,) * len(image.getbands())
    area = Image.new(image.mode, size[::-1], kinds.get(image.mode, colour))
    area.paste(image, ((size[1] - image.width) // 2, (size[0] - image.height) // 2))
    return area
