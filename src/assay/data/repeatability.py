"""Whether a data set gives the same image each time it is asked: numbers are about images that can be seen again."""

from __future__ import annotations

import dataclasses
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.data.dataset import Data, PictureError, Selected, begin_to_read
from assay.data.items import Items, LabelledItems, fixed_draws, generators_kept

SAMPLES, READS, READS_OF_DRAWERS = 4, 4, 40
"""How many samples are read, how often each, and how often where the global generators are seen to be used."""

_RANDOM = ("AutoAugment", "TrivialAugmentWide", "AugMix", "ColorJitter", "ElasticTransform", "GaussianBlur")
_ALSO_RANDOM = ("GaussianNoise", "ScaleJitter", "MixUp", "CutMix")


@dataclasses.dataclass(frozen=True)
class FixedReads:
    """A reader whose random draws depend on the seed and the sample's id alone."""

    read: Callable[[int], Tensor]
    ids: tuple[str, ...]
    seed: int

    def __call__(self, position: int) -> Tensor:
        """Return the image at a position."""
        with fixed_draws(self.seed, self.ids[position]):
            return self.read(position)

    def ahead(self, asked: Sequence[int], position: Callable[[int], int], count: int) -> None:
        """Let the reader begin."""
        begin_to_read(self.read, asked, position, count)


def with_fixed_draws(data: Data, seed: int) -> Data:
    """Return `data` with whatever its reader draws from the global generators fixed by `seed` and each sample's id."""
    told = f"Random draws while samples are read are fixed (allow_random_data), by seed {seed} and the sample's id."
    return dataclasses.replace(data, read=FixedReads(data.read, data.ids, seed), notes=(*data.notes, told))


def check_steady(data: Data, *, allowed: bool = False) -> Data:
    """Return `data`, having read a few samples several times.

    Raises `BadInput` where a sample is another image, or has another label, from one time to the next. `allowed` says
    that draws were fixed already: what differs still cannot be fixed. Global random generators are left as they were.
    """
    with generators_kept():
        for place in range(min(SAMPLES, len(data))):
            # both ends are among them
            position = place * (len(data) - 1) // max(1, min(SAMPLES, len(data)) - 1)
            try:
                gap = _gap(data, position)
            except PictureError:
                continue
            if gap is not None:
                raise BadInput(_told(data, position, gap, allowed=allowed))
    return data


def _gap(data: Data, position: int) -> str | None:
    """Return how two readings of a sample differ; None where all are equal."""
    before = _states()
    first = data.read(position)
    reads = READS if _states() == before else READS_OF_DRAWERS
    for _ in range(reads - 1):
        again = data.read(position)
        if again.shape != first.shape:
            return f"once {list(first.shape)}, once {list(again.shape)}"
        if not torch.equal(first.nan_to_num(), again.nan_to_num()):
            return f"pixels differ by up to {float((first - again).abs().nan_to_num().max()):.3g}"
    return None


def _told(data: Data, position: int, gap: str, *, allowed: bool) -> str:
    told = f"Sample {data.ids[position]!r} of {data.source} is another image each time it is read ({gap}); "
    told += "expected the same image every time: attacks, records and audit must be about one. "
    if allowed:
        return told + (
            "Seeding Python's, NumPy's and torch's global generators does not fix it: the data set has a generator of "
            "its own, or a state that changes. Make what it draws depend on the position alone, or store the images."
        )
    found = random_transforms(data)
    named = f"{', '.join(found)} in its transform" if found else "the random transform of training"
    return told + (
        f"Switch off {named} for the evaluation, or pass allow_random_data=True (--allow-random-data), which fixes one "
        "draw per sample."
    )


def random_transforms(data: Data) -> list[str]:
    """Return the names of the random transforms that a data set shows in its `transform`."""
    reader: Any = data.read
    while isinstance(reader, Selected | FixedReads):
        reader = reader.read
    items = reader.items if isinstance(reader, LabelledItems) else reader
    found = _parts(items.dataset, set()) if isinstance(items, Items) else ()
    return list(dict.fromkeys(name for name in found if name in _RANDOM + _ALSO_RANDOM or name.startswith("Rand")))


def _parts(whole: Any, seen: set[int]) -> Iterator[str]:
    if id(whole) in seen or isinstance(whole, str | int | float | Tensor | np.ndarray):
        return
    seen.add(id(whole))
    if isinstance(whole, list | tuple):
        for one in whole[:50]:
            yield from _parts(one, seen)
        return
    yield type(whole).__name__
    for name in ("transform", "transforms", "dataset", "datasets"):
        inner = getattr(whole, name, None)
        if isinstance(inner, list | tuple) or hasattr(inner, "__dict__"):
            yield from _parts(inner, seen)


def _states() -> bytes:
    return pickle.dumps((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy().tobytes()))
