"""Files of arrays, opened without loading what is not needed and without running anything that they hold."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.models.weights_file import Unavailable


@dataclasses.dataclass(frozen=True)
class Opened:
    """A file, the names of its arrays, and a way to get each: an array, or something that is sliced like one."""

    path: Path
    names: tuple[str, ...]
    array: Callable[[str], Any]


def open_numpy(path: Path, options: dict[str, str]) -> Opened:
    """Open an `.npz` file, or an `.npy` file of images with the file of labels that `label` names beside it.

    An `.npy` file is memory-mapped. Raises `BadInput` for damaged files and for pickled objects.
    """
    if path.suffix.lower() != ".npy":
        try:
            with np.load(path, allow_pickle=False) as archive:
                names = tuple(archive.files)
        except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
            raise BadInput(f"{path} is no .npz file, as numpy.savez writes it, or is damaged.") from error
        return Opened(path, names, lambda name: _member(path, name))
    if "label" not in options:
        raise BadInput(f"{path.name} holds one array; give the labels too: npz:{path}?label=labels.npy.")
    beside = {options[role]: path.parent / options[role] for role in ("label", "target") if role in options}
    files = {options.get("image", "image"): path, **beside}
    return Opened(path, tuple(files), lambda name: _mapped(files[name]))


def _member(path: Path, name: str) -> Any:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"The array {name!r} of {path} cannot be read: {error}. {_PICKLE}") from error


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as an .npy file: {error}. {_PICKLE}") from error


_PICKLE = "Arrays of Python objects are not read, as they may run code: save plain numbers."


def open_hdf5(path: Path, options: dict[str, str]) -> Opened:
    """Open an HDF5 file; arrays inside groups are named by their path. Raises `Unavailable` without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise Unavailable("HDF5 files are read by h5py, which is not installed: pip install 'assay[hdf5]'.") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise BadInput(f"{path} cannot be read as an HDF5 file: {error}.") from error
    names: list[str] = []
    file.visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
    return Opened(path, tuple(names), file.__getitem__)
