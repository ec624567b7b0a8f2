"""What a Hugging Face processor does to a picture, found by asking it, as a resize, a crop and a normalisation."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from assay.core.errors import BadInput
from assay.models.classifier import Preprocess
from assay.models.failures import in_short
from assay.models.loaders.timm import preprocess_of
from assay.models.prepared import prepared_picture

PROCESSOR = "preprocessor_config.json"

# Pillow's numbers for its filters
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_EXACT, _CLOSE = 0.02, 3.0
"""Grey levels by which a processor may differ: one of Pillow's (it rounds in float32), and one of torchvision's."""

_Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A processor in the data room's words. `size` is the (height, width) of its images, None where it leaves them.

    `mean` and `std` are those of the channels in the pictures' order; `order` says which of them the network takes
    first (blue for some). `differs` are the grey levels by which the processor's own images may be off from these.
    """

    preprocess: Preprocess | None
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: tuple[int, ...]
    differs: float = 0.0


def pictures_of(folder: Path, channels: int, spec: str) -> Pictures:
    """Return what the processor in a folder does, tried on pictures that are made here.

    Raises `BadInput` for one whose code lies in the folder, and for one that does something else to a picture.
    """
    try:
        processor = _read(folder)
    except Exception as error:  # OSError, ValueError, ImportError, and whatever a damaged file leads to
        # some name all processors that there are
        told = textwrap.shorten(in_short(error), 200, placeholder=" …")
        raise BadInput(f"{spec!r} has a processor that could not be read: {told}. {_WAY_OUT}") from error
    try:
        return _understood(processor, channels, spec)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"{spec!r} has a processor ({_name(processor)}) that failed on a picture of {channels} channels: "
            f"{in_short(error)}. {_WAY_OUT}"
        ) from error


def _read(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    how = {"backend": "pil", "trust_remote_code": False}
    path = folder / PROCESSOR
    kind = json.loads(path.read_text("utf-8")).get("image_processor_type", "") if path.is_file() else ""
    if not kind.endswith("FeatureExtractor"):
        return AutoImageProcessor.from_pretrained(folder, **how)
    # a name of old releases, which newer ones no longer know in this place
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(folder / "config.json", place)
        text = path.read_text("utf-8").replace(kind, f"{kind.removesuffix('FeatureExtractor')}ImageProcessor")
        (Path(place) / PROCESSOR).write_text(text, "utf-8")
        return AutoImageProcessor.from_pretrained(place, **how)


_WAY_OUT = (
    "Say what it does instead: ?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size=224 (with resize=, crop=, interpolation= where "
    "needed), or load the model in a file of your own, my.py:factory."
)


def _name(processor: Any) -> str:
    return type(processor).__name__.removesuffix("Pil")


def _understood(processor: Any, channels: int, spec: str) -> Pictures:
    mean, std, order = _normalisation(processor, channels, spec)
    known = _facts(processor)
    side = max((*(known["size"] or ()), *(known["crop"] or ()), 32))
    # upright, wide, very wide and square: what is left over by a crop is even for some and odd for others
    sizes = [(side + 57, 2 * side + 30), (side + 21, side + 58), (2 * side + 11, side + 40), (side + 9, side + 9)]
    sizes += [(side + 9, 6 * side + 1)]
    if getattr(processor, "do_resize", True):
        sizes.append((side // 2 + 3, side // 2 + 10))
    tried = [_noise(height, width, channels) for height, width in sizes]
    wanted = [_asked(processor, picture) for picture in tried]
    levels = [(one * _by_channel(std, order) + _by_channel(mean, order)) * 255 for one in wanted]
    most = _EXACT if getattr(processor, "backend", "pil") == "pil" else _CLOSE
    for one in _candidates(processor, known, spec):
        differs = _differs(one, tried, levels, order)
        if differs is not None and differs <= most:
            ends = {tuple(level.shape[1:]) for level in levels}
            size = next(iter(ends)) if len(ends) == 1 else None
            return Pictures(one, size, mean, std, order, differs if most == _CLOSE else 0.0)
    raise BadInput(
        f"{spec!r} has a processor ({_name(processor)}) that does more to a picture than to resize, crop and normalise "
        f"it, or does it in a way that Assay does not know. {_WAY_OUT}"
    )


def _asked(processor: Any, picture: Image.Image) -> _Array:
    values: _Array = np.asarray(processor(picture, return_tensors="pt")["pixel_values"][0], dtype=np.float64)
    if values.ndim != 3:
        raise BadInput(
            f"The processor {_name(processor)} makes {list(values.shape)} of a picture, expected [C, H, W]. {_WAY_OUT}"
        )
    return values


def _normalisation(
    processor: Any, channels: int, spec: str
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """Return mean, std and the order of the channels, from what becomes of plain black, white and coloured pictures."""
    black = _colour(processor, (0,) * channels)
    white = _colour(processor, (255,) * channels)
    order = []
    for channel in range(channels):
        lit = _colour(processor, tuple(255 * (place == channel) for place in range(channels)))
        moved = np.flatnonzero(np.abs(lit - black) > 1e-6)
        if len(moved) != 1 or not np.isclose(lit[moved[0]], white[moved[0]], atol=1e-5):
            raise BadInput(f"{spec!r} has a processor ({_name(processor)}) that mixes channels. {_WAY_OUT}")
        order.append(int(moved[0]))
    spread = white - black
    if len(white) != channels or sorted(order) != list(range(channels)) or not (spread > 1e-6).all():
        raise BadInput(
            f"{spec!r} has a processor ({_name(processor)}) that loses channels, or turns grey round. {_WAY_OUT}"
        )
    # of the network's channels, in the pictures' order
    mean, std = (-black / spread)[order], (1 / spread)[order]
    stated = _stated(processor, channels)
    if stated is not None and np.allclose(stated[0], mean, atol=1e-5) and np.allclose(stated[1], std, atol=1e-5):
        mean, std = stated
    first = tuple(int(place) for place in np.argsort(order))
    return tuple(float(one) for one in mean), tuple(float(one) for one in std), first


def _stated(processor: Any, channels: int) -> tuple[_Array, _Array] | None:
    config = getattr(processor, "data_config", {})
    mean = config.get("mean", getattr(processor, "image_mean", None))
    std = config.get("std", getattr(processor, "image_std", None))
    if mean is None or std is None or np.size(mean) not in (1, channels) or np.size(std) not in (1, channels):
        return None
    return np.broadcast_to(np.asarray(mean, float), channels), np.broadcast_to(np.asarray(std, float), channels)


def _colour(processor: Any, colour: tuple[int, ...]) -> _Array:
    picture = _picture(np.broadcast_to(np.asarray(colour, np.uint8), (600, 700, len(colour))))
    values = _asked(processor, picture)
    return values[:, values.shape[1] // 2, values.shape[2] // 2]


def _picture(values: _Array) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))


def _noise(height: int, width: int, channels: int) -> Image.Image:
    return _picture(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


def _by_channel(values: tuple[float, ...], order: tuple[int, ...]) -> _Array:
    return np.asarray(values)[list(order)][:, None, None]


def _differs(
    one: Preprocess | None, tried: list[Image.Image], levels: list[_Array], order: tuple[int, ...]
) -> float | None:
    """Return the largest difference in grey levels from what the processor made; None where sizes differ."""
    largest = 0.0
    for picture, level in zip(tried, levels, strict=True):
        try:
            ours = np.asarray(picture if one is None else prepared_picture(picture, one), float)
        except ValueError:  # the crop is larger than the picture
            return None
        ours = (ours[:, :, None] if ours.ndim == 2 else ours).transpose(2, 0, 1)[list(order)]
        if ours.shape != level.shape:
            return None
        largest = max(largest, float(np.abs(ours - level).max()))
    return largest


# ---- what it may do


def _facts(processor: Any) -> dict[str, Any]:
    """Return the sizes that a processor states: (shorter side,) or (height, width) of `size`, and `crop`."""
    config: Mapping[str, Any] = getattr(processor, "data_config", {})
    if config:
        return {"size": None, "crop": tuple(config["input_size"][1:]), "config": config}
    return {
        "size": _sides(getattr(processor, "size", None)),
        "crop": _sides(getattr(processor, "crop_size", None)),
        "pct": getattr(processor, "crop_pct", None),
        "filter": _filter(getattr(processor, "resample", None)),
        "config": None,
    }


def _filter(number: Any) -> str:
    # where none is stated, the library takes this one
    return "bilinear" if number is None else _FILTERS.get(int(number), "bilinear")


def _sides(size: Any) -> tuple[int, ...] | None:
    told = {name: getattr(size, name, None) for name in ("height", "width", "shortest_edge")}
    if told["height"] and told["width"]:
        return int(told["height"]), int(told["width"])
    return (int(told["shortest_edge"]),) if told["shortest_edge"] else None


def _candidates(processor: Any, known: dict[str, Any], spec: str) -> Iterator[Preprocess | None]:
    """Yield the ways that processors of this library have with a picture, as far as this one's sizes allow them."""
    if known["config"]:
        yield preprocess_of(known["config"], spec)
        return
    size, crop, share = known["size"], known["crop"], known["pct"]
    resizes: list[tuple[int, ...] | None] = []
    crops: list[tuple[int, int] | None] = [None]
    if size is not None and getattr(processor, "do_resize", True):
        square = size * 2 if len(size) == 1 else size
        # as stated; warped to a square (ConvNeXt); with a margin that the crop takes away (PoolFormer, LeViT)
        resizes += [size, square, (size[0], size[0]), (int(256 / 224 * size[0]),)]
        if share:
            resizes += [(int(size[0] / share),), tuple(int(side / share) for side in square)]
        crops.append((square[0], square[1]))
    if crop is not None:
        crops.append(crop if len(crop) == 2 else (crop[0], crop[0]))
    resizes.append(None)
    for resize, cut in itertools.product(dict.fromkeys(resizes), dict.fromkeys(crops)):
        # the library floors where a crop begins; where no crop is, there is nothing to floor
        for floored in (True, False) if cut is not None else (False,):
            yield None if resize is None and cut is None else Preprocess(resize, cut, known["filter"], floored=floored)
