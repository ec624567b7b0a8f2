"""The masks of a study: read from pictures, arrays or a folder of them, checked, and named by their content."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.core.masks import Mask, with_channels
from assay.data import Data, Sample
from assay.evaluation.study.spec import ThreatSpec

Shape: TypeAlias = "tuple[int, ...]"

GIVEN = "given-"
"""How the names of masks begin that were given as Python objects."""

_ARRAY = ".npy"
_PICTURES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm", ".ppm")
_LOSSY = (".jpg", ".jpeg")
_WHAT = "Give a picture (.png; alpha, or not black, is where values may change), an array (.npy) or a folder of them."


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Images to find the masks of: their ids, their positions in the data, and their shape (C, H, W)."""

    ids: Sequence[str]
    positions: Sequence[int]
    shape: Shape


def resolved(threat: ThreatSpec, data: Data, shape: Shape | None, given: Mapping[str, Mask]) -> ThreatSpec:
    """Return the threat with the digest of its mask's content, and the share of the values that may change.

    `shape` is that of the images, where it is known without reading one. Raises `BadInput` for a mask that is not
    there, does not fit the images or is empty, and names the samples of a folder of masks without one.
    """
    if threat.mask is None and threat.channels is None:
        return threat
    shape = shape or _first_shape(data)
    content, shares = hashlib.blake2b(digest_size=8), []
    for at, mask in _all(threat, data, shape, given):
        content.update((b"" if at is None else f"{data.ids[at]} ".encode()) + _bits(mask))
        shares.append(float(mask.expand(shape).double().mean()))
    digest = None if threat.mask is None else content.hexdigest()
    _check_digest(threat, digest)
    return threat.model_copy(update={"mask_digest": digest, "mask_share": sum(shares) / len(shares)})


def mask_for(threat: ThreatSpec, images: Chosen, given: Mapping[str, Mask]) -> Mask | None:
    """Return the mask of a threat for some images of the data. Raises `BadInput` as `resolved` does."""
    if threat.mask is None and threat.channels is None:
        return None
    allowed = _channels(threat, images.shape)
    mask: Mask | None = None
    if threat.mask is not None and _own(threat.mask, given):
        every = [_fitting(one, name, images.shape) for name, one in _each(threat.mask, images, given)]
        mask = Mask(own=torch.stack([one.expand(images.shape) for one in every]))
    elif threat.mask is not None:
        shared = _cut(_fitting(_shared(threat, given), threat.mask, images.shape), threat.mask, allowed)
        _check_digest(threat, hashlib.blake2b(_bits(shared), digest_size=8).hexdigest())
        return Mask(shared=shared)
    return mask if allowed is None else with_channels(mask, allowed)


def _bits(mask: Tensor) -> bytes:
    return repr(tuple(mask.shape)).encode() + np.packbits(mask.numpy()).tobytes()


def _check_digest(threat: ThreatSpec, found: str | None) -> None:
    if found and threat.mask_digest not in (None, found):
        raise BadInput(f"The mask {threat.mask} is {found}, expected {threat.mask_digest}. Leave masks alone in a run.")


def name_of(mask: Mask) -> str:
    """Return the name that a mask given as an object goes under: the digest of its content."""
    free = mask.free.cpu()
    told = repr((mask.own is not None, tuple(free.shape))).encode() + np.packbits(free.numpy()).tobytes()
    return GIVEN + hashlib.blake2b(told, digest_size=4).hexdigest()


def read_mask(path: Path) -> Tensor:
    """Return the mask in a file as bool `[1, H, W]`, or `[C, H, W]` where an array has channels.

    Of a picture the alpha channel counts, where it has one that is not opaque throughout, or else whether a pixel is
    black. Raises `BadInput` for other files, lossy pictures, and arrays of another shape or with other values.
    """
    if path.suffix.lower() == _ARRAY:
        return _array(path)
    if path.suffix.lower() in _LOSSY:
        raise BadInput(
            f"The mask {path} is a JPEG, whose black is not quite black: it would let values change that should stay. "
            "Save it as PNG."
        )
    return _picture(path)


def _array(path: Path) -> Tensor:
    try:
        raw = np.load(path, allow_pickle=False)
        if not isinstance(raw, np.ndarray):
            raise ValueError("it holds several arrays")
        mask = torch.from_numpy(np.array(raw != 0 if np.isin(raw, (0, 1)).all() else raw))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise BadInput(f"The mask {path} could not be read: {error}. {_WHAT}") from error
    if mask.ndim == 4:
        raise BadInput(
            f"The mask {path} has shape {list(mask.shape)}, which is one per image. Expected [H, W], [1, H, W] or "
            "[C, H, W]; for one per image give a folder with a mask for each sample's id."
        )
    if mask.ndim not in (2, 3):
        raise BadInput(f"The mask {path} has shape {list(mask.shape)}, expected [H, W], [1, H, W] or [C, H, W].")
    if mask.dtype != torch.bool:
        # says which value is neither 0 nor 1
        Mask.of(mask)
    return mask if mask.ndim == 3 else mask[None]


def _picture(path: Path) -> Tensor:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            # the alpha of a palette may stand in a chunk of its own
            see_through = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
            alpha = np.asarray(image.convert("RGBA"))[..., 3] if see_through else None
            if alpha is not None and alpha.min() < 255:
                lit = alpha != 0
            elif image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;"):
                lit = np.asarray(image) != 0
            else:
                lit = (np.asarray(image.convert("RGB")) != 0).any(2)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, Image.DecompressionBombError) as error:
        raise BadInput(f"The mask {path} could not be read: {error}. {_WHAT}") from error
    return torch.from_numpy(np.array(lit))[None]


def _first_shape(data: Data) -> Shape:
    for at in range(len(data)):
        one = data.load([at])[0]
        if isinstance(one, Sample):
            return tuple(one.image.shape)
    raise BadInput(f"{data.source} holds no picture that can be read: nothing says how large a mask must be.")


def _own(written: str, given: Mapping[str, Mask]) -> bool:
    return given[written].own is not None if written in given else Path(written).expanduser().is_dir()


def _all(
    threat: ThreatSpec, data: Data, shape: Shape, given: Mapping[str, Mask]
) -> Iterator[tuple[int | None, Tensor]]:
    # every mask, each with its sample's position in the data, or one without
    allowed = _channels(threat, shape)
    if threat.mask is None:
        assert allowed is not None
        yield None, allowed.view(-1, 1, 1)
    elif not _own(threat.mask, given):
        yield None, _cut(_fitting(_shared(threat, given), threat.mask, shape), threat.mask, allowed)
    else:
        own = given[threat.mask].own if threat.mask in given else None
        if own is not None and len(own) != len(data):
            raise BadInput(f"{len(own)} masks for {len(data)} samples; expected one per sample, in the data's order.")
        everyone = Chosen(data.ids, range(len(data)), shape)
        for at, (name, mask) in enumerate(_each(threat.mask, everyone, given)):
            yield at, _cut(_fitting(mask, name, shape), name, allowed)


def _shared(threat: ThreatSpec, given: Mapping[str, Mask]) -> Tensor:
    assert threat.mask is not None
    if threat.mask in given:
        return given[threat.mask].free.cpu()
    if threat.mask.startswith(GIVEN) and not Path(threat.mask).exists():
        raise BadInput(
            f"The mask {threat.mask} was given as a Python object, and exists in that process alone. Save it as .npy "
            "and name the file, to come back to the run later."
        )
    # before a plan knows its content a mask is read anew: it may have been painted over since
    return _read(threat.mask) if threat.mask_digest is None else _read_once(threat.mask, threat.mask_digest)


@functools.lru_cache(maxsize=4)
def _read_once(written: str, digest: str) -> Tensor:
    return _read(written)


def _read(written: str) -> Tensor:
    path = Path(written).expanduser()
    if not path.exists():
        there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise BadInput(f"There is no mask {written}.{did_you_mean(path.name, there)} {_WHAT}")
    return read_mask(path)


def _each(written: str, images: Chosen, given: Mapping[str, Mask]) -> Iterator[tuple[str, Tensor]]:
    if written in given:
        free = given[written].free.cpu()
        yield from ((f"of {name!r}", free[at]) for name, at in zip(images.ids, images.positions, strict=True))
        return
    folder = _Folder.of(Path(written).expanduser())
    found = [folder.find(name) for name in images.ids]
    missing = [name for name, path in zip(images.ids, found, strict=True) if path is None]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise BadInput(
            f"{len(missing)} of {len(images.ids)} samples have no mask in {written}: {shown}. A mask is called as its "
            f"sample's id is, such as {PurePosixPath(missing[0]).with_suffix('.png')}; or leave the samples out."
        )
    serves: dict[Path, str] = {}
    for name, path in zip(images.ids, found, strict=True):
        if path is not None and serves.setdefault(path, name) != name:
            raise BadInput(
                f"{path} would be the mask of both {serves[path]} and {name}, whose names are alike. Put masks into "
                "sub-folders as the samples are."
            )
    yield from ((str(path), read_mask(path)) for path in serves)


@dataclasses.dataclass(frozen=True)
class _Folder:
    # masks by their path without its ending, and by their last part alone where that is one file's
    paths: Mapping[str, Path]
    names: Mapping[str, Path | None]

    @classmethod
    def of(cls, root: Path) -> _Folder:
        paths: dict[str, Path] = {}
        names: dict[str, Path | None] = {}
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() not in (_ARRAY, *_PICTURES, *_LOSSY) or not path.is_file():
                continue
            key = path.relative_to(root).with_suffix("").as_posix()
            if key in paths:
                raise BadInput(f"{paths[key]} and {path} are masks of one sample. Leave one out.")
            paths[key] = path
            names[path.stem] = None if path.stem in names else path
        return cls(paths, names)

    def find(self, sample: str) -> Path | None:
        """Return the mask of a sample, None where there is none."""
        name = PurePosixPath(sample)
        known = name.suffix.lower() in (".jfif", ".avif", _ARRAY, *_PICTURES, *_LOSSY)
        bare = name.with_suffix("") if known else name
        return self.paths.get(bare.as_posix()) or self.names.get(bare.name)


def _channels(threat: ThreatSpec, shape: Shape) -> Tensor | None:
    if threat.channels is None:
        return None
    if max(threat.channels) >= shape[0]:
        raise BadInput(
            f"channels holds {max(threat.channels)}, but the images have {shape[0]} channels, numbered from 0 to "
            f"{shape[0] - 1}."
        )
    return torch.tensor([channel in threat.channels for channel in range(shape[0])])


def _fitting(mask: Tensor, name: str, shape: Shape) -> Tensor:
    # an array [C, 1, 1] chooses channels
    by_channel = mask.shape[1:] == (1, 1) and mask.shape[0] == shape[0] > 1
    if not by_channel and (mask.shape[1:] != shape[1:] or mask.shape[0] not in (1, shape[0])):
        raise BadInput(
            f"The mask {name} is {_by(mask.shape)}, the images are {_by(shape)} as the model sees them (channels x "
            "height x width). Make the mask for images of that size; masks are not resized."
        )
    if not bool(mask.any()):
        raise BadInput(f"The mask {name} is empty: no value may change. Expected some pixel that is not black.")
    return mask


def _cut(mask: Tensor, name: str, allowed: Tensor | None) -> Tensor:
    left = mask if allowed is None else mask & allowed.view(-1, 1, 1)
    if not bool(left.any()):
        raise BadInput(f"The mask {name} is empty in the channels that may change. Choose others.")
    return left


def _by(shape: Sequence[Any]) -> str:
    return " x ".join(str(side) for side in shape)
