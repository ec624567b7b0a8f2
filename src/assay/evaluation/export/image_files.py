"""Images as files: 8-bit PNG, NumPy arrays and safetensors, read back as they were written."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.files import in_words, write_atomically

FORMS = ("png", "npy", "safetensors")
"""What images can be written as: 8-bit pictures, or exact float32 arrays."""

_PNG_CHANNELS = (1, 3)
_LONGEST_NAME = 80


def check_form(form: str) -> str:
    """Return the name of a form. Raises `BadInput` for an unknown one."""
    if form not in FORMS:
        raise BadInput(
            f"Images cannot be written as {form!r}.{did_you_mean(form, FORMS)} Expected one of {', '.join(FORMS)}."
        )
    return form


def check_channels(form: str, channels: int, source: str) -> None:
    """Raise `BadInput` where a form cannot hold images of so many channels."""
    if form == "png" and channels not in _PNG_CHANNELS:
        raise BadInput(
            f"The images of {source} have {channels} channels, and a PNG here has 1 or 3. "
            "Write them as npy or safetensors."
        )


def write_pngs(images: Tensor, names: Sequence[str], folder: Path) -> Tensor:
    """Write images float32 `[N, C, H, W]` as 8-bit PNGs and return what the files hold, `[N, C, H, W]` in [0, 1].

    Values are cut to [0, 1] and rounded to 1/255. Raises `DiskError`.
    """
    levels = (images.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    try:
        for image, name in zip(levels, names, strict=True):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # not synced one by one: a file that a kill cuts short is in no index, and is written again
            path.write_bytes(_png(image))
    except OSError as error:
        raise in_words(error, folder) from error
    return torch.stack([_read_png(folder / name) for name in names])


def write_array(images: Tensor, labels: Sequence[int], path: Path) -> Tensor:
    """Write images `[N, C, H, W]` as float32 into one .npy or .safetensors file, and return what it holds.

    A safetensors file also holds `labels` (int64 `[N]`). Raises `DiskError`.
    """
    exact = images.float().cpu().contiguous()
    if path.suffix == ".npy":
        import numpy as np

        stream = io.BytesIO()
        np.save(stream, exact.numpy(), allow_pickle=False)
        write_atomically(path, stream.getvalue())
        return torch.from_numpy(np.load(path, allow_pickle=False))
    from safetensors.torch import load_file, save

    write_atomically(path, save({"images": exact, "labels": torch.tensor(list(labels))}))
    return load_file(path)["images"]


def file_name(text: str) -> str:
    """Return `text` as a part of a file name that every platform takes: its last characters, without odd ones."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", text)[-_LONGEST_NAME:].strip("-.") or "image"


def _png(image: Tensor) -> bytes:
    from PIL import Image

    array = image.permute(1, 2, 0).contiguous().numpy()
    stream = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(stream, format="PNG")
    return stream.getvalue()


def _read_png(path: Path) -> Tensor:
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        array = np.array(picture)
    array = array[:, :, None] if array.ndim == 2 else array
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255
