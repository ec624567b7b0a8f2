"""What the rest of Assay knows about a model: the module, and the facts about its weights that numbers depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What data loading does to a picture before the model sees it, as the weights' authors did.

    `resize` is the length of the shorter side, or (height, width); `crop` is the (height, width) cut from the
    middle. None leaves the step out. `interpolation` is a name of torchvision's `InterpolationMode`. With `pad`, the
    whole picture is scaled to fit into (height, width) `resize`, and the rest is filled with that grey level, 0 to 255.
    """

    resize: tuple[int, ...] | None = None
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    pad: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return the fields by name; `pad` only where it is used, since cells are named by these facts."""
        facts = dataclasses.asdict(self)
        return facts if self.pad is not None else {name: facts[name] for name in facts if name != "pad"}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """An image classifier: float32 `[N, C, H, W]` in [0, 1] -> logits `[N, K]`, normalisation inside.

    `mean` and `std` are those of the normalisation inside the module; None means unknown, and budgets in
    normalised units are then refused. `digest` names the weights and what is around them; `load_model` fills it
    in. `published_accuracy` is the top-1 fraction on the weights' own test set. `code` is the digest of the user's
    file that made the module, "" where there is none. `channels` says how many the images have where no `input_shape`
    does. `notes` are things the user should know about how the weights were understood.
    """

    module: nn.Module
    spec: str = ""
    digest: str = ""
    input_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    synsets: tuple[str, ...] | None = None
    published_accuracy: float | None = None
    outputs: str = "logits"
    code: str = ""
    channels: int | None = None
    notes: tuple[str, ...] = ()


def digest_of(classifier: Classifier) -> str:
    """Return the digest (32 hex digits) of everything in a classifier that its answers depend on.

    That is names, types, shapes and bytes of all parameters and buffers, the printed structure of the module
    (two networks may share their weights and differ in an activation), the normalisation, what the outputs
    mean, and the user's code that made it.
    """
    content = hashlib.blake2b(digest_size=16)
    # modules print the addresses of functions they hold, which differ from process to process
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(classifier.module))
    content.update(repr((structure, classifier.mean, classifier.std, classifier.outputs, classifier.code)).encode())
    update_with_state(content, classifier.module)
    return content.hexdigest()


def update_with_state(content: hashlib.blake2b, module: nn.Module) -> None:
    """Add names, types, shapes and bytes of the module's parameters and buffers to a running digest."""
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:  # a module's extra state
            content.update(f"{name} {value!r}".encode())
