"""Gradients at the edges of the box: the slope into it, where an operation says that there is none.

`x.clamp(0, 1)` changes no valid image, but a pixel that is exactly black or white sits on its bound. torch 2.14 gives
such a value the gradient 0 (2.13 gave it 1; tensor bounds one half), and hardtanh, relu and relu6 give it 0 in every
release. Four fifths of a digit are exactly black: an attack that believes these zeros hardly moves. What an attack
needs is the one-sided slope into the box, which is that of the values beside the bound.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# a guard behind arithmetic that takes normalisation off again meets values a rounding error beyond its bounds
_ROUNDING = 1e-6
_FRONT = "_assay_from_image"

# what an oracle tells of it
AT_BOUNDS, INSIDE = "at the bounds", "a hair inside"

# how far inside the box the slope is looked for: a fortieth of a grey level
_HAIR = 1e-4
_FEWEST = 4

Bound = float | Tensor | None


class _Cut(torch.autograd.Function):
    """What `of` makes of `x`; the gradient is `slope` between the bounds, at them, and up to `slack` beyond them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, of: Callable[[Tensor], Tensor], low: Bound, high: Bound, slack: float, slope: float
    ) -> Tensor:
        return of(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, low, high, slack, slope = inputs
        ctx.slope = slope
        inside = torch.ones_like(x, dtype=torch.bool)
        if low is not None:
            inside &= x >= low - slack
        if high is not None:
            inside &= x <= high + slack
        ctx.save_for_backward(inside)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        passed = grads[0] * ctx.saved_tensors[0]
        return (passed if ctx.slope == 1 else passed * ctx.slope, None, None, None, None, None)


def cut(x: Tensor, low: Bound = None, high: Bound = None, slack: float = 0.0) -> Tensor:
    """Return `x` between the bounds (numbers, tensors that need no gradient, or None), as `torch.clamp` does.

    The gradient passes where `x` lies between them, at the bounds themselves (in every release of torch), and up to
    `slack` beyond them.
    """
    if not x.requires_grad:
        # torch takes numbers, tensors and None alike; its stubs want two of a kind
        return torch.clamp(x, low, high)  # type: ignore[arg-type]
    of = functools.partial(torch.clamp, min=low, max=high)
    made: Tensor = _Cut.apply(x, of, low, high, slack, 1.0)
    return made


def edges_without_slope(grad: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows have no gradient at the edge of [0, 1] though they have one elsewhere, and points inside it.

    Rows int64 `[M]`, points `[M, *S]`: the rows' own, with the values of an edge that has no gradient a hair inside.
    An edge counts from four values on, all of them exactly without; elsewhere most values must have one. What no
    function can be put in place of (compiled code, a product with `x > 0`) shows here. `grad` may be `[N, R, *S]`.
    """
    zero = (grad == 0) if grad.ndim == points.ndim else (grad == 0).all(1)
    zero = zero.reshape(len(points), -1)
    values = points.detach().reshape(len(points), -1)
    low, high = values <= _ROUNDING, values >= 1 - _ROUNDING
    blind_low, blind_high = _blind(zero, low), _blind(zero, high)
    doubtful = blind_low | blind_high
    if not bool(doubtful.any()):
        return doubtful.nonzero().squeeze(1), points[:0]
    # where everything lies on blind edges there is nothing to compare with: it is tried
    elsewhere = ~((low & blind_low[:, None]) | (high & blind_high[:, None]))
    sees = (zero & elsewhere).sum(1) * 2 <= elsewhere.sum(1)
    at = (doubtful & sees).nonzero().squeeze(1)
    inside = torch.where(low[at] & blind_low[at, None], _HAIR, values[at])
    inside = torch.where(high[at] & blind_high[at, None], 1 - _HAIR, inside)
    return at, inside.view_as(points[at])


def _blind(zero: Tensor, edge: Tensor) -> Tensor:
    count = edge.sum(1)
    return (count >= _FEWEST) & ((zero & edge).sum(1) == count)


class EdgeGradients(TorchFunctionMode):
    """While active, operations that cut pass the gradient at their bounds.

    `clamp`, `clip`, `minimum` and `maximum` do so wherever they stand; `hardtanh`, `relu`, `relu6` and `hardsigmoid`,
    which networks use as activations, do where they cut an image: the `image` itself, or what arithmetic, resizing
    and the like made of it. Values are those of the operation itself. `met` says that one of them was called.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.met = False
        setattr(image, _FRONT, True)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, or what passes the gradient in its place."""
        # an overload of torch.ops.aten is called `clamp.default`
        name = getattr(func, "__name__", "").partition(".")[0]
        cuts = _CUTS.get(name)
        found = cuts(args, dict(kwargs or {})) if cuts else None
        if found is not None and _fits(found):
            self.met = True
            result: Any = _passed(func, args, kwargs or {}, found)
        else:
            result = func(*args, **(kwargs or {}))
        if name in _ARITHMETIC and any(_is_front(one) for one in args):
            for one in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(one, Tensor):
                    setattr(one, _FRONT, True)
        return result


class _Found(NamedTuple):
    # a cut: of which tensor, at which bounds, with which slope between them, and whether it is written back into it
    x: Any
    low: Any
    high: Any
    slope: float = 1.0
    in_place: bool = False


def _passed(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], found: _Found) -> Tensor:
    at = next((i for i, one in enumerate(args) if one is found.x), None)
    slack = _slack(found)

    def of(z: Tensor) -> Tensor:
        here = z.clone() if found.in_place else z
        if at is None:
            name = next(key for key, one in kwargs.items() if one is found.x)
            return func(*args, **{**kwargs, name: here})  # type: ignore[no-any-return]  # torch's
        return func(*args[:at], here, *args[at + 1 :], **kwargs)  # type: ignore[no-any-return]  # torch's

    made: Tensor = _Cut.apply(found.x, of, found.low, found.high, slack, found.slope)
    return found.x.copy_(made) if found.in_place else made


def _fits(found: _Found) -> bool:
    # whether the result has the shape and type of x, and x alone needs a gradient
    x, bounds = found.x, [one for one in (found.low, found.high) if one is not None]
    if not isinstance(x, Tensor) or not x.requires_grad or not x.is_floating_point() or not bounds:
        return False
    for bound in bounds:
        if isinstance(bound, Tensor):
            alike = bound.dtype == x.dtype or bound.ndim == 0
            if bound.requires_grad or not alike or not _within(bound.shape, x.shape):
                return False
        elif not isinstance(bound, numbers.Real):
            return False
    return True


def _within(shape: Sequence[int], whole: Sequence[int]) -> bool:
    # whether a tensor of one shape broadcasts over the other without making it larger
    pairs = zip(reversed(shape), reversed(whole), strict=False)
    return len(shape) <= len(whole) and all(one in (1, other) for one, other in pairs)


def _slack(found: _Found) -> float:
    if not _is_front(found.x):
        return 0.0
    sides = (one for one in (found.low, found.high) if isinstance(one, numbers.Real))
    return _ROUNDING * max((1.0, *(abs(float(one)) for one in sides)))


def _is_front(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_is_front(one) for one in value)
    return isinstance(value, Tensor) and hasattr(value, _FRONT)


Arguments = tuple[Any, ...]
Named = dict[str, Any]


def _argument(args: Arguments, kwargs: Named, place: int, *names: str, default: Any = None) -> Any:
    if len(args) > place:
        return args[place]
    return next((kwargs[name] for name in names if name in kwargs), default)


def _clamp(args: Arguments, kwargs: Named, *, in_place: bool = False) -> _Found | None:
    low, high = _argument(args, kwargs, 1, "min"), _argument(args, kwargs, 2, "max")
    return None if "out" in kwargs else _Found(_argument(args, kwargs, 0, "input"), low, high, in_place=in_place)


def _clamp_min(args: Arguments, kwargs: Named, *, in_place: bool = False) -> _Found | None:
    low = _argument(args, kwargs, 1, "min")
    return None if "out" in kwargs else _Found(_argument(args, kwargs, 0, "input"), low, None, in_place=in_place)


def _clamp_max(args: Arguments, kwargs: Named, *, in_place: bool = False) -> _Found | None:
    high = _argument(args, kwargs, 1, "max")
    return None if "out" in kwargs else _Found(_argument(args, kwargs, 0, "input"), None, high, in_place=in_place)


def _pairwise(args: Arguments, kwargs: Named, *, above: bool) -> _Found | None:
    # a maximum of the image and a constant is a bound from below; `x.max()` and `x.max(dim)` are something else
    one, other = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other")
    if not isinstance(other, Tensor) or not isinstance(one, Tensor) or "out" in kwargs:
        return None
    both = (_Found(x, *((bound, None) if above else (None, bound))) for x, bound in ((one, other), (other, one)))
    return next((found for found in both if _fits(found)), None)


def _activation(
    args: Arguments, kwargs: Named, *, low: float, high: float | None, slope: float = 1.0, in_place: bool = False
) -> _Found | None:
    # an activation inside the network has the slope that its authors trained with
    x = _argument(args, kwargs, 0, "input")
    writes = in_place or bool(_argument(args, kwargs, 1, "inplace", default=False))
    return _Found(x, low, high, slope, writes) if _is_front(x) else None


def _hardtanh(args: Arguments, kwargs: Named, *, in_place: bool = False) -> _Found | None:
    x = _argument(args, kwargs, 0, "input")
    low, high = _argument(args, kwargs, 1, "min_val", default=-1.0), _argument(args, kwargs, 2, "max_val", default=1.0)
    writes = in_place or bool(_argument(args, kwargs, 3, "inplace", default=False))
    return _Found(x, low, high, in_place=writes) if _is_front(x) else None


_Cuts = Callable[[Arguments, Named], _Found | None]
_PAIRS: Mapping[str, _Cuts] = {
    **dict.fromkeys(("maximum", "max", "fmax"), functools.partial(_pairwise, above=True)),
    **dict.fromkeys(("minimum", "min", "fmin"), functools.partial(_pairwise, above=False)),
}
_HERE: Mapping[str, Callable[..., _Found | None]] = {
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "hardtanh": _hardtanh,
    "relu": functools.partial(_activation, low=0.0, high=None),
    "relu6": functools.partial(_activation, low=0.0, high=6.0),
    "hardsigmoid": functools.partial(_activation, low=-3.0, high=3.0, slope=1 / 6),
}
_CUTS: Mapping[str, _Cuts] = {
    **_PAIRS,
    **_HERE,
    **{f"{name}_": functools.partial(cuts, in_place=True) for name, cuts in _HERE.items()},
}

# what keeps an image an image: its edges are where they were, or where arithmetic moved them
_KEEPING = (
    "clone contiguous to float double half bfloat16 type type_as view view_as reshape reshape_as flatten unflatten "
    "permute transpose movedim swapaxes unsqueeze squeeze expand flip roll rot90 __getitem__ narrow index_select cat "
    "stack concat pad interpolate grid_sample add add_ sub sub_ subtract mul mul_ multiply div div_ divide true_divide "
    "neg __rsub__ __rdiv__ __rtruediv__ rsub lerp addcmul unbind split chunk"
)
_ARITHMETIC = frozenset(_KEEPING.split()) | set(_CUTS)

__all__ = ["AT_BOUNDS", "INSIDE", "EdgeGradients", "cut", "edges_without_slope"]
