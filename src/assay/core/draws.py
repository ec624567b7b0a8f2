"""Stateless randomness: a row's numbers depend on (seed, sample id, stage, look, name) and on nothing else.

A `torch.Generator` would make a row's numbers depend on its neighbours: on the chunk, on the order, and on which
samples have already finished. Here each number is a hash of its coordinates (splitmix64, Steele et al. 2014), so
results are the same for every chunking, worker count and active set, and integers are the same on every device.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

# splitmix64's constants, written as signed 64-bit numbers because torch has no full unsigned arithmetic
_GOLDEN = -7046029254386353131
_MIX1 = -4658895280553007687
_MIX2 = -7723592293110705685


def _mix(z: Tensor) -> Tensor:
    # torch shifts int64 arithmetically; the masks make the shifts logical
    z = (z >> 30).bitwise_and_(0x3FFFFFFFF).bitwise_xor_(z).mul_(_MIX1)
    z = (z >> 27).bitwise_and_(0x1FFFFFFFFF).bitwise_xor_(z).mul_(_MIX2)
    return (z >> 31).bitwise_and_(0x1FFFFFFFF).bitwise_xor_(z)


def _hash(*parts: object) -> int:
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def sample_key(sample_id: str) -> int:
    """Return the stable 64-bit number of a sample's id, the same on every machine."""
    return _hash("sample", sample_id)


def row_keys(values: Tensor) -> Tensor:
    """Return a 64-bit number for each row of `values` (int64 `[N, D]`) that follows from that row alone, int64 `[N]`.

    Rows that differ in any value or in its place share a number only by chance, one in 2^64.
    """
    place = _mix(torch.arange(1, values.shape[1] + 1, device=values.device) * _GOLDEN)
    # each value is mixed on its own, so that no two changes cancel in the sum
    return _mix(_mix(values + place).sum(1))


@dataclasses.dataclass(frozen=True)
class Draws:
    """A source of random numbers for the samples `ids` (int64 `[N]`), under `key`.

    Equal calls give equal numbers: a caller that needs fresh ones folds in what differs (a look, a restart, a
    target) or uses another `name`. `look` is the number of the look they serve within its search: for oracles that
    walk through data in an order of their own.
    """

    ids: Tensor
    key: int = 0
    look: int = 0

    SHARED = ("key", "look")

    @staticmethod
    def of(ids: list[str] | tuple[str, ...], seed: int) -> Draws:
        """Return the draws for samples named by strings, under an integer seed."""
        return Draws(torch.tensor([sample_key(i) for i in ids], dtype=torch.int64), _hash("seed", seed))

    def fold(self, name: int | str) -> Draws:
        """Return the draws of the stage, look or part called `name`."""
        return dataclasses.replace(self, key=_hash(self.key, name))

    def at(self, look: int) -> Draws:
        """Return the draws of look number `look` of a search."""
        return dataclasses.replace(self.fold("look").fold(look), look=look)

    def take(self, keep: Tensor) -> Draws:
        """Return the draws of some of the samples."""
        return dataclasses.replace(self, ids=self.ids[keep])

    def copies(self, first: int, count: int) -> Draws:
        """Return the draws of `count` copies of each sample, from number `first` on, those of a sample side by side."""
        # numbered by an odd constant: no two copies of samples share a number but by chance
        numbers = (first + 1 + torch.arange(count, device=self.ids.device)) * _GOLDEN
        return dataclasses.replace(self, ids=(self.ids[:, None] + numbers).flatten())

    def bits(self, name: str, *shape: int) -> Tensor:
        """Return int64 `[N, *shape]` of 64 random bits each."""
        base = _mix(self.ids * _GOLDEN + _hash(self.key, name))[:, None]
        steps = torch.arange(1, math.prod(shape) + 1, device=self.ids.device) * _GOLDEN
        return _mix(base + steps).view(len(self.ids), *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Return float32 `[N, *shape]` in [0, 1), with 24 random bits each."""
        return (self.bits(name, *shape) >> 40).bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return float32 `[N, *shape]` of standard normal numbers (Box and Muller 1958)."""
        bits = self.bits(name, *shape)
        radius = (((bits >> 40) & 0xFFFFFF).float() + 0.5) * 2.0**-24
        angle = ((bits >> 16) & 0xFFFFFF).float() * 2.0**-24
        return (-2.0 * radius.log()).sqrt() * (2.0 * math.pi * angle).cos()


_CURRENT: contextvars.ContextVar[Draws | None] = contextvars.ContextVar("draws of the look under way", default=None)


@contextlib.contextmanager
def drawing(draws: Draws) -> Iterator[None]:
    """Make `draws` the current ones, for a model that draws numbers while it is asked."""
    token = _CURRENT.set(draws)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def nested(name: int | str) -> Iterator[None]:
    """Make the current draws those of the part called `name`, so that two random parts of a model draw other numbers.

    Where nobody looks nothing changes: every part draws fresh ones.
    """
    now = _CURRENT.get()
    with contextlib.nullcontext() if now is None else drawing(now.fold(name)):
        yield


def current(images: Tensor) -> Draws:
    """Return the draws of the look under way, for a model that draws numbers for its `images` `[N, *S]`.

    Equal looks give equal numbers, row by row. Where nobody looks, as in a plain call of the model, they are fresh ones
    from torch's generator.
    """
    now = _CURRENT.get()
    if now is not None and len(now.ids) == len(images):
        return now if now.ids.device == images.device else dataclasses.replace(now, ids=now.ids.to(images.device))
    ids = torch.randint(-(2**62), 2**62, (len(images),), dtype=torch.int64)
    return Draws(ids.to(images.device))
