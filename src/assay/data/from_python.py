"""Data made by the user's own code: `my.py:dataset` and `package.module:dataset`.

Naming the code is the consent to run it, as for models.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.data.dataset import Data, KnownChecksums, Source
from assay.data.python_objects import given_data
from assay.data.repeatability import with_fixed_draws
from assay.data.torch_dataset import torch_dataset
from assay.models.classifier import Classifier
from assay.models.loaders.python import called, code_of, found, is_python


def names_python(source: str) -> bool:
    """Say whether `source` names something in a Python file, or in a module that is there to be imported."""
    if not is_python(source):
        return False
    top = source.rpartition(":")[0].partition(".")[0]
    return ".py:" in source or any(Path(top + end).exists() for end in ("", ".py")) or _installed(top)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def from_python(name: str, model: Classifier | None, seed: int | None = None) -> Source:
    """Return the data set that `name` (file or module, colon, factory or object) gives.

    It may be whatever `load_data` takes as an object. The code's digest is a part of its content. Raises `BadInput`
    when something is missing, raises, or is no data set.
    """
    with found(name) as value:
        made = called(value, name) if _is_factory(value) else value
        if isinstance(made, str) or made is None:
            raise BadInput(
                f"{name!r} returned {made!r}; expected a data set: a torch Dataset, (images, labels), a list of "
                "(image, label), or assay.Data."
            )
        source = whole(made, seed) if isinstance(made, Data) else torch_dataset(given_data(made), model, seed)
    return dataclasses.replace(source, content=OfCode(code_of(name), source.content))


def _is_factory(value: Any) -> bool:
    # a data set may be callable, and a class of data sets is a factory
    return isinstance(value, type) or (callable(value) and not hasattr(value, "__getitem__"))


def whole(data: Data, seed: int | None = None) -> Source:
    """Return loaded data as a source to select from."""
    data = data if seed is None else with_fixed_draws(data, seed)
    return Source(
        ids=data.ids,
        labels=data.labels,
        classes=data.classes,
        input_shape=data.input_shape,
        read=data.read,
        content=KnownChecksums(data.fingerprint),
        notes=data.notes,
        targets=data.targets,
    )


@dataclasses.dataclass(frozen=True)
class OfCode:
    """Content that the code makes: its digest, and that of what it made."""

    code: str
    content: Callable[[Sequence[int]], str]

    def __call__(self, positions: Sequence[int]) -> str:
        """Return what names the pixels at these positions."""
        return f"{self.code} {self.content(positions)}"
