"""Double masking written down a second time, naively, and every patch of a small image by force."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Masks = list[tuple[slice, slice]]
Net = Callable[[Tensor], Tensor]


def square_masks(length: int, side: int, starts: tuple[int, ...]) -> Masks:
    """Return squares of `side` at all pairs of starts, those at the top first."""
    assert max(starts) + side <= length
    places = [slice(start, start + side) for start in starts]
    return [(row, column) for row in places for column in places]


def label(net: Net, x: Tensor, *masks: tuple[slice, slice]) -> int:
    """Return the net's answer to one image `[C, H, W]` under masks of black."""
    z = x.clone()
    for row, column in masks:
        z[:, row, column] = 0
    return int(net(z[None]).argmax())


def inference(net: Net, x: Tensor, masks: Masks) -> int:
    """Return PatchCleanser's answer, as its algorithm 1 is written."""
    first = [label(net, x, mask) for mask in masks]
    counted = Counter(first)
    most = max(counted.values())
    majority = min(one for one, count in counted.items() if count == most)
    for mask, answer in zip(masks, first, strict=True):
        if answer != majority and all(label(net, x, mask, other) == answer for other in masks):
            return answer
    return majority


def certified(net: Net, x: Tensor, y: int, masks: Masks, *, diagonal: bool = True) -> bool:
    """Return whether all pairs of masks, those of a mask with itself included, leave the label."""
    pairs = itertools.product(range(len(masks)), repeat=2)
    return all(label(net, x, masks[i], masks[j]) == y for i, j in pairs if diagonal or i != j)


def every_patch(x: Tensor, side: int, *, plain: bool = False) -> Iterator[Tensor]:
    """Yield the image `[1, H, W]` itself, and it with every black and white pattern in every square of `side`.

    `plain`: all black and all white alone.
    """
    yield x
    patterns = torch.tensor(list(itertools.product((0.0, 1.0), repeat=side**2))).view(-1, side, side)
    patterns = patterns[[0, -1]] if plain else patterns
    for row, column in itertools.product(*(range(length - side + 1) for length in x.shape[1:])):
        images = x.repeat(len(patterns), 1, 1, 1)
        images[:, :, row : row + side, column : column + side] = patterns[:, None]
        yield from images


def contradicted(answer: Callable[[Tensor], Tensor], x: Tensor, y: int, side: int, *, plain: bool = False) -> bool:
    """Return whether the image, or one of `every_patch`, has an answer (`[N, 1, H, W]` -> labels `[N]`) but `y`."""
    images = torch.stack(list(every_patch(x, side, plain=plain)))
    return any(bool((answer(part) != y).any()) for part in images.split(128))
