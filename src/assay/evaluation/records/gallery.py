"""Pictures of the gallery, as files keep them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PICTURED_CHUNKS = 2


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image before and after: `original` float32 `[C, H, W]`, `perturbation` float16, logits float32 `[K]`.

    `clean_refused` and `refused` say whether the model refuses it, before and after.
    """

    sample_id: str
    label: int
    eps: float
    eps_written: str
    status: str
    size: float
    role: str
    original: Tensor
    perturbation: Tensor
    clean_logits: Tensor
    logits: Tensor
    clean_refused: bool = False
    refused: bool = False


_TENSORS = ("original", "perturbation", "clean_logits", "logits")


def encode(pictures: list[Picture]) -> bytes:
    """Return pictures as the bytes of a safetensors file."""
    import torch
    from safetensors.torch import save

    plain = [field.name for field in dataclasses.fields(Picture) if field.name not in _TENSORS]
    rows = [{name: getattr(picture, name) for name in plain} for picture in pictures]
    tensors = {name: torch.stack([getattr(picture, name) for picture in pictures]).contiguous() for name in _TENSORS}
    return save(tensors, metadata={"rows": json.dumps(rows)})


def decode(path: Path) -> list[Picture]:
    """Return the pictures of a safetensors file; none where it is damaged."""
    # the numbers of a run are read without its pictures, and without torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            rows: list[dict[str, Any]] = json.loads(file.metadata()["rows"])
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return []
    return [Picture(**row, **{name: tensors[name][i] for name in _TENSORS}) for i, row in enumerate(rows)]
