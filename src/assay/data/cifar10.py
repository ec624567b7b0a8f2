"""`cifar10/test` and `cifar10/train` (Krizhevsky 2009), from the cache or by torchvision's download."""

# shape: a file for each data set that is fetched

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch

from assay.core.errors import BadInput, did_you_mean
from assay.data.cache import say
from assay.data.dataset import KnownChecksums, Source, Stored
from assay.files import cache_dir
from assay.models.classifier import Classifier
from assay.models.weights_file import Unavailable

SPLITS = ("test", "train")


def cifar10(split: str, model: Classifier | None) -> Source:
    """Return the 10,000 test images (also for an empty `split`) or the 50,000 training images, 3 x 32 x 32.

    torchvision verifies the md5 of every file before it reads it. Raises `Unavailable` without a connection.
    """
    split = split or "test"
    if split not in SPLITS:
        raise BadInput(f"Unknown CIFAR-10 split {split!r}.{did_you_mean(split, SPLITS)} There are: test, train.")
    dataset = _dataset(split)
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return Source(
        ids=tuple(f"cifar10/{split}/{i:05d}" for i in range(len(images))),
        labels=tuple(int(label) for label in dataset.targets),
        classes=tuple(dataset.classes),
        input_shape=(3, 32, 32),
        read=Stored(images),
        content=KnownChecksums(f"cifar10 {dataset.tgz_md5} {split}"),
    )


def _dataset(split: str) -> Any:
    from torchvision.datasets import CIFAR10

    root = cache_dir() / "cifar10"
    with contextlib.redirect_stdout(sys.stderr):  # torchvision prints
        try:
            return CIFAR10(root, train=split == "train")
        except RuntimeError:
            say(f"Fetching CIFAR-10 from {CIFAR10.url} (170 MB)")
        try:
            root.mkdir(parents=True, exist_ok=True)
            return CIFAR10(root, train=split == "train", download=True)
        except (OSError, RuntimeError) as error:
            raise Unavailable(
                f"CIFAR-10 could not be fetched: {error}. Fetch {CIFAR10.url} on a machine with a connection and put "
                f"the file into {root}."
            ) from error
