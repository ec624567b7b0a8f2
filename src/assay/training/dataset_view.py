"""What training reads: examples addressed by position, so that an order is a permutation of numbers."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Protocol

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.data.dataset import Data, Unreadable


class Examples(Protocol):
    """Examples that give the batch at any positions."""

    @property
    def fingerprint(self) -> str:
        """Return a digest of the content: a checkpoint is only continued on equal data."""

    def __len__(self) -> int:
        """Return how many examples there are."""

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (float32 `[n, C, H, W]` in [0, 1]) and targets of the positions (int64 `[n]`)."""


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Examples held as tensors: `images` (uint8, or float32 in [0, 1], `[N, C, H, W]`) and `targets`.

    `targets` are labels (int64 `[N]`) or soft labels (float32 `[N, K]`).
    """

    images: Tensor
    targets: Tensor

    @property
    def fingerprint(self) -> str:
        """Return a digest of all images and targets."""
        content = hashlib.blake2b(digest_size=16)
        for part in (self.images, self.targets):
            content.update(f"{part.dtype} {tuple(part.shape)}".encode())
            content.update(part.contiguous().numpy().data)
        return content.hexdigest()

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.targets)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images in [0, 1] and the targets at the positions."""
        images = self.images[positions]
        return images if images.is_floating_point() else images.float() / 255, self.targets[positions]


@dataclasses.dataclass(frozen=True)
class FromData:
    """The examples of a data set from position `start` up to, not including, `stop`; images are read as needed."""

    data: Data
    start: int
    stop: int

    @property
    def fingerprint(self) -> str:
        """Return the data set's fingerprint and the part of it."""
        return f"{self.data.fingerprint} {self.start}:{self.stop}"

    def __len__(self) -> int:
        """Return how many examples there are."""
        return self.stop - self.start

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels at the positions; raises `BadInput` for a picture that cannot be read."""
        images, labels = [], []
        for sample in self.data.load(self.start + at for at in positions.tolist()):
            if isinstance(sample, Unreadable):
                raise BadInput(f"Sample {sample.id!r} cannot be trained on: {sample.error}. Repair or remove it.")
            images.append(sample.image)
            labels.append(sample.label)
        return torch.stack(images), torch.tensor(labels)


@dataclasses.dataclass(frozen=True)
class Kept:
    """The same examples, their images read once and kept while they take at most `most` bytes together.

    Reading a photograph can take as long as a pass of a small network.
    """

    examples: Examples
    most: int = 1 << 30
    _kept: dict[int, tuple[Tensor, Tensor]] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """Return the examples' fingerprint."""
        return self.examples.fingerprint

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.examples)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and targets at the positions."""
        wanted = positions.tolist()
        new = [at for at in wanted if at not in self._kept]
        fresh: dict[int, tuple[Tensor, Tensor]] = {}
        if new:
            images, targets = self.examples.batch(torch.tensor(new))
            fresh = {at: (images[row], targets[row]) for row, at in enumerate(new)}
            room = self.most // max(1, images[0].nbytes) - len(self._kept)
            self._kept.update(list(fresh.items())[: max(0, room)])
        found = [fresh[at] if at in fresh else self._kept[at] for at in wanted]
        return torch.stack([image for image, _ in found]), torch.stack([target for _, target in found])


@dataclasses.dataclass(frozen=True)
class Relabelled:
    """The images of `examples` with other targets: labels (int64 `[N]`) or soft labels (float32 `[N, K]`)."""

    examples: Examples
    targets: Tensor

    @property
    def fingerprint(self) -> str:
        """Return a digest of the examples' fingerprint and the targets."""
        content = hashlib.blake2b(f"{self.examples.fingerprint} {tuple(self.targets.shape)}".encode(), digest_size=16)
        content.update(self.targets.contiguous().numpy().data)
        return content.hexdigest()

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.examples)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and the new targets at the positions."""
        return self.examples.batch(positions)[0], self.targets[positions]
