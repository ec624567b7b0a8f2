"""A patch as a value and as a file: pixels, mask, and what is known about it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.models.weights_file import read_safetensors, save_tensors

FORMAT = "assay patch 1"


@dataclasses.dataclass(frozen=True)
class Patch:
    """`pixels` float32 `[C, h, w]` in [0, 1], and `mask` float32 `[h, w]`: 1 where they cover an image, 0 where not.

    `target` is the class it was trained for, and `target_name` what the model calls it; None and "" for none. `facts`
    are plain texts about where it comes from: settings, models, data, versions.
    """

    pixels: Tensor
    mask: Tensor
    target: int | None = None
    target_name: str = ""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no picture with a mask of its size, and a mask that covers nothing."""
        pixels, mask = self.pixels, self.mask
        if pixels.ndim != 3 or mask.shape != pixels.shape[1:] or not pixels.numel():
            raise BadInput(
                f"The pixels are {list(pixels.shape)} and the mask {list(mask.shape)}; expected [C, h, w] and [h, w]."
            )
        if not (_in_range(pixels) and _in_range(mask)):
            raise BadInput("The patch has values outside [0, 1], or NaN; expected pixels and mask in [0, 1].")
        if not bool((mask > 0).any()):
            raise BadInput("The mask covers no pixel: such a patch changes nothing. Use one with visible pixels.")

    @property
    def digest(self) -> str:
        """The name (16 hexadecimal digits) of what the patch does to an image: pixels and mask, in float32."""
        content = hashlib.blake2b(digest_size=8)
        for part in (self.pixels, self.mask):
            content.update(f"{tuple(part.shape)}".encode())
            content.update(part.detach().float().cpu().contiguous().numpy().data)
        return "abcdef"[content.digest()[0] % 6] + content.hexdigest()[1:]

    @property
    def name(self) -> str:
        """What the patch is called: its target and size."""
        return f"{self.target_name or 'untargeted'} {self.size}"

    @property
    def size(self) -> str:
        """Height and width in pixels, as text."""
        return " x ".join(map(str, self.mask.shape))

    @property
    def values(self) -> int:
        """How many values of an image it may change: its budget in L0."""
        return len(self.pixels) * int((self.mask > 0).sum())

    def save(self, path: Path) -> None:
        """Write the patch as safetensors, equal ones as equal bytes; the file is all that applying it needs."""
        told = {
            "format": FORMAT,
            "target": "" if self.target is None else str(self.target),
            "target_name": self.target_name,
            "digest": self.digest,
            "facts": json.dumps(dict(self.facts), sort_keys=True),
        }
        save_tensors({"pixels": self.pixels.float(), "mask": self.mask.float()}, path, told)

    @classmethod
    def load(cls, path: str | Path) -> Patch:
        """Read a patch. Raises `BadInput` for a file that is missing, no patch, or not what it says it is."""
        path = Path(path).expanduser()
        if not path.is_file():
            near = [one.name for one in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
            raise BadInput(f"There is no patch {path}.{did_you_mean(path.name, near)} `assay patch train` makes one.")
        tensors, told = read_safetensors(path)
        if told.get("format") != FORMAT or not {"pixels", "mask"} <= set(tensors):
            raise BadInput(f"{path} is no patch (its format is {told.get('format')!r}, expected {FORMAT!r}).")
        target = int(told["target"]) if told.get("target") else None
        patch = cls(tensors["pixels"], tensors["mask"], target, told.get("target_name", ""), json.loads(told["facts"]))
        if patch.digest != told["digest"]:
            raise BadInput(
                f"{path} was changed after it was written: its digest is {patch.digest}, not {told['digest']}."
            )
        return patch

    def with_pixels(self, pixels: Tensor) -> Patch:
        """Return the same patch with other pixels."""
        return dataclasses.replace(self, pixels=pixels)

    def in_eight_bits(self) -> Patch:
        """Return the patch as a printed or stored picture holds it: every value a multiple of 1/255."""
        return self.with_pixels((self.pixels * 255).round() / 255)


def _in_range(values: Tensor) -> bool:
    low, high = (float(value) for value in torch.aminmax(values.detach()))
    return low >= 0 and high <= 1  # false for NaN
