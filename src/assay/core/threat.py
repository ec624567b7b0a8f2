"""What an attack may change, and by how much: one class over a vector norm.

Every quantity is measured in `u = (z - x) / scale`, so a budget per channel, or in the model's normalised units,
changes no attack.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from assay.core.budget import NORMALIZED, Budget
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.given import read_budgets
from assay.core.masks import Mask, with_channels
from assay.core.norms import L0 as L0_NORM
from assay.core.norms import L1 as L1_NORM
from assay.core.norms import L2 as L2_NORM
from assay.core.norms import (
    LINF,
    NORMS,
    PATCH,
    THREAT_NORMS,
    YCBCR,
    Norm,
    proximal_of,
    slope_of,
    sparse_signs,
    unit,
)
from assay.core.patch_norm import PatchNorm
from assay.core.tensors import flat, rows
from assay.core.ycbcr import Components, shortened

UNBOXED = (-math.inf, math.inf)

# float32 cannot hold x + eps exactly; a size above the budget by less than this is rounding
_RELATIVE, _ABSOLUTE = 1e-5, 1e-6

# beyond the walls of any box
_FAR = 1e30


@dataclasses.dataclass(frozen=True)
class Threat:
    """A norm ball of size `eps` around an image, cut by a box, optionally on a grid.

    `eps` is a number, or `[N]` for one per sample. `scale` is the unit of the budget: a number, or `[C, 1, 1]` for
    one per channel. `box` is the range of a pixel (`UNBOXED` to allow any value). `grid=255` makes every judged
    image an 8-bit one. `budget` keeps what the user wrote. Only the values of the `mask` may change, if there is one.
    With `components` (and the norm YCBCR) colours are measured in Y, Cb and Cr, for images of three channels.
    """

    norm: Norm
    eps: float | Tensor = math.inf
    box: tuple[float, float] = (0.0, 1.0)
    scale: float | Tensor = 1.0
    grid: int | None = None
    budget: Budget | None = None
    mask: Mask | None = None
    components: Components | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("norm", "box", "scale", "grid", "budget", "components")

    def at(self, eps: Budget | float | Tensor) -> Threat:
        """Return the same threat with another budget."""
        if isinstance(eps, Budget):
            return dataclasses.replace(self, eps=eps.value, budget=eps)
        return dataclasses.replace(self, eps=eps)

    def on(self, device: torch.device) -> Threat:
        """Return the threat with its mask on a device."""
        return self if self.mask is None else dataclasses.replace(self, mask=self.mask.on(device))

    def in_units_of(self, std: Sequence[float] | None) -> Threat:
        """Return the threat with normalised budgets resolved by the model's `std` per channel.

        Raises `BadInput` when the budget is in normalised units and the model's preprocessing is unknown.
        """
        if self.budget is None or self.budget.unit != NORMALIZED:
            return self
        if std is None:
            raise BadInput(
                f"The budget {self.budget.written!r} is in the model's normalised units, but this model's "
                "normalisation is unknown. Put it inside the model (assay.models.Normalized(module, mean, std)), "
                "or write the budget in pixels, such as 8/255."
            )
        return dataclasses.replace(self, scale=torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1))

    @property
    def resolved(self) -> bool:
        """Whether the unit of the budget is known."""
        unresolved = self.budget is not None and self.budget.unit == NORMALIZED
        return not (unresolved and isinstance(self.scale, float))

    def size(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the size `[N]` of the change from `x` to `z`, in units of `scale`; infinite where none is allowed."""
        size = self._whole(z - x, z)
        return size if self.mask is None else torch.where(self.mask.kept(z, x), size, torch.inf)

    def length(self, change: Tensor) -> Tensor:
        """Return the size `[N]` of a `change`, in units of `scale`, of which mask and components take a part."""
        return self._norm(change).size(self._unit(change))

    def allows(self, size: Tensor) -> Tensor:
        """Return bool `[N]`: whether a change of this size is inside the budget, up to float32 rounding."""
        # no budget, not even an endless one, allows a change outside the mask, or of a component without a weight
        free = self.mask is None and self.components is None
        return size <= self.bound if free else (size <= self.bound) & size.isfinite()

    def only(self, value: Tensor) -> Tensor:
        """Return a gradient or a change (`[N, *S]`, or `[N, R, *S]`) with 0 where nothing may change."""
        return value if self.mask is None else self.mask.only(value)

    def inside(self, z: Tensor, x: Tensor) -> Tensor:
        """Return `z` where the mask lets it differ from `x`, and `x` elsewhere, bit for bit."""
        return z if self.mask is None else self.mask.inside(z, x)

    def free(self, x: Tensor) -> int | Tensor:
        """Return how many values of an image like those of `x` may change: a number, or `[N]` if each has its own."""
        return x[0].numel() if self.mask is None else self.mask.count(x)

    def in_box(self, z: Tensor) -> Tensor:
        """Return bool `[N]`: whether every value is in the box (NaN is not)."""
        # two reductions over numbers cost a third of a comparison value by value; those of a NaN compare as false
        values, (low, high) = flat(z), self.box
        return (values.amin(1) >= low) & (values.amax(1) <= high)

    def clip(self, z: Tensor) -> Tensor:
        """Return `z` inside the box."""
        return z if self.box == UNBOXED else z.clamp(*self.box)

    def project(self, z: Tensor, x: Tensor) -> Tensor:
        """Return a point inside budget and box for `z`; points that are inside stay."""
        eps = self.eps[:, None] if isinstance(self.eps, Tensor) else self.eps
        move = z - x
        back = self._back(self._norm(x).project(self._unit(move), eps, self._felt(x, move)), x)
        return self.clip(x + (back if self.components is None else shortened(back, x, self.box)))

    def steepest(self, grad: Tensor) -> Tensor:
        """Return the direction of unit size with the largest inner product with `grad`."""
        return self._back(self._norm(grad).steepest(self._unit_gradient(grad)), grad)

    def stride(self, grad: Tensor, z: Tensor, length: float | Tensor) -> Tensor:
        """Return the change of size `length` (or `[N]`) that an attack at `z` makes; it leaves out what is blocked."""
        length = length[:, None] if isinstance(length, Tensor) else length
        move = self._norm(grad).step(self._unit_gradient(grad), self._felt(z, grad), length, self._places(z))
        return self._back(move, grad)

    def unit(self, grad: Tensor) -> Tensor:
        """Return the direction of `grad` with Euclidean length 1, in the threat's unit, in every norm."""
        return self._back(unit(self._unit_gradient(grad)), grad)

    def size_needed(self, z: Tensor, grad: Tensor, need: Tensor) -> Tensor:
        """Return the size `[N]` of the change of `z` that gains `need` (`[N]`, `>= 0`) along `grad`, linearly."""
        reach = self._norm(z).size_needed(need, self._unit_gradient(grad), self._felt(z, grad))
        return torch.minimum(reach, self.length(torch.ones_like(z))) if self.mask and self.norm is L0_NORM else reach

    def proximal(self, z: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return the point of the box that takes off `z` what `weight` (`[N]`) times the size of its change outweighs.

        The proximal operator of the norm, then the box. Raises `BadInput` for a norm that has none (L0).
        """
        return self.clip(x + self._back(proximal_of(self.norm.name)(self._unit(z - x), weight[:, None]), x))

    def slope(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of the size of the change from `x` to `z`, by the change in units of `scale`.

        Raises `BadInput` for a norm that is no sum over values (Linf, L0).
        """
        return slope_of(self.norm.name)(self._unit(z - x)).view_as(x)

    def sparse_steepest(self, grad: Tensor, share: Tensor) -> Tensor:
        """Return signs of L1 size 1 on a `share` (`[N]`) of the values, those where `grad` is largest."""
        return self._back(sparse_signs(self._unit_gradient(grad), share), grad)

    def dual(self, grad: Tensor) -> Tensor:
        """Return the dual norm `[N]`: what a change of unit size can gain along `grad`."""
        return self._norm(grad).dual(self._unit_gradient(grad))

    def widest(self, x: Tensor) -> Tensor:
        """Return the size `[N]` of the largest change that the box allows: infinite where the box is."""
        low, high = self.box
        room = torch.maximum(high - x, x - low)
        if self.components is not None:
            return self.norm.size(flat(self.components.most(self.only(room) / self.scale)))
        return self._norm(room).size(self._unit(room))

    def extent(self, x: Tensor) -> Tensor:
        """Return `widest`, and in an endless box the size of a change of every value by 1."""
        return self.widest(x) if self.box != UNBOXED else self._norm(x).size(self._unit(torch.ones_like(x)))

    def start(self, x: Tensor, draws: Draws) -> Tensor:
        """Return a random point inside budget and box."""
        features = x[0].numel() if self.components is None else self.components.count * x[0, 0].numel()
        noise = self._back(self._norm(x).random(draws, features, self._places(x)).to(x.dtype), x)
        # where the budget has no end, the noise is of unit size
        if isinstance(self.eps, Tensor):
            return self.project(x + rows(torch.where(self.eps.isinf(), 1, self.eps), x) * noise, x)
        return self.project(x + (1 if math.isinf(self.eps) else self.eps) * noise, x)

    def to_plane(self, point: Tensor, normal: Tensor, offset: Tensor) -> Tensor:
        """Return the point of the box nearest to `point`, in this norm, with `normal . z = offset` (`[N]`).

        Where the plane misses the box, the corner nearest to it. Raises `BadInput` for changes of components.
        """
        if self.components is not None:
            raise BadInput(
                "There is no way onto a plane in YCbCr: the box is one of red, green and blue. Use an attack that "
                "climbs a gradient, such as pgd or apgd."
            )
        need = offset - flat(normal * point).sum(1)
        toward = normal * rows(need.sign(), normal)
        weight = self._unit_gradient(toward).abs()
        room = self._room(point, toward)
        if not all(math.isfinite(side) for side in self.box):
            # no value need move further than would do alone: keeps an endless box out of the sums
            alone = torch.where(weight > 0, need.abs()[:, None] / weight, torch.zeros_like(weight))
            room = torch.minimum(room, alone)
        move = self._norm(point).cheapest_move(need.abs(), weight, room)
        return self.clip(point + toward.sign() * self._back(move, point))

    def on_grid(self, x: Tensor) -> Tensor:
        """Return the images rounded to the grid: with a grid, the clean image is an 8-bit one too."""
        return x if self.grid is None else (x * self.grid).round() / self.grid

    def snap(self, z: Tensor, x: Tensor) -> Tensor:
        """Return `z` inside the mask, on the grid, without leaving the budget (`x` is on the grid)."""
        z = self.inside(z, x)
        if self.grid is None:
            return z
        levels = (z - x) * self.grid
        # toward x no norm grows; the nudge, within what `allows` forgives, keeps a 5 that float32 made 4.99999
        shorter = levels.trunc()
        inward = (levels + 0.5 * _ABSOLUTE * self.grid * levels.sign()).trunc()
        nearest = levels.round()
        beyond = (nearest / self.grid / self.scale).abs() > rows(self.bound, z)
        chosen = self._first_allowed(torch.where(beyond, inward, nearest), self._first_allowed(inward, shorter))
        return self.clip(((x * self.grid).round() + chosen) / self.grid)

    def _first_allowed(self, levels: Tensor, otherwise: Tensor) -> Tensor:
        change = levels / (self.grid or 1)
        fits = self.allows(self._whole(change, change))
        return torch.where(rows(fits, levels), levels, otherwise)

    @property
    def bound(self) -> float | Tensor:
        """The largest size that `allows` accepts: the budget, and what float32 may have lost of it."""
        # rounding happens in pixels, so a budget in small units has to forgive more of them
        finest = float(self.scale.min()) if isinstance(self.scale, Tensor) else self.scale
        finest *= 1.0 if self.components is None else self.components.finest
        return self.eps * (1 + _RELATIVE) + _ABSOLUTE / min(1.0, finest)

    def _whole(self, change: Tensor, z: Tensor) -> Tensor:
        size = self._norm(change).size(self._unit(change))
        if self.components is None:
            return size
        return torch.where(self.components.kept(self.only(change) / self.scale, z), size, torch.inf)

    def _unit(self, move: Tensor) -> Tensor:
        move = self.only(move)
        move = move if self._plain() else move / self.scale
        return flat(move if self.components is None else self.components.measured(move))

    def _unit_gradient(self, grad: Tensor) -> Tensor:
        grad = self.only(grad)
        grad = grad if self._plain() else grad * self.scale
        return flat(grad if self.components is None else self.components.gradient(grad))

    def _places(self, x: Tensor) -> Tensor | None:
        if self.mask is None:
            return None
        free = self.mask.over(x if self.mask.own is not None else x[:1])
        # a pixel may change in all of its channels, or in none
        return flat(free if self.components is None else free[:, : self.components.count])

    def _back(self, u: Tensor, like: Tensor) -> Tensor:
        if self.components is not None:
            u = self.components.change(u.view(len(like), self.components.count, *like.shape[2:]))
            u = self.only(u)
        return u.view(like.shape) if self._plain() else u.view(like.shape) * self.scale

    def _norm(self, like: Tensor) -> Norm:
        # a square is one of an image, and norms see vectors
        return PatchNorm(tuple(like.shape[1:])) if self.norm is PATCH else self.norm

    def _plain(self) -> bool:
        return isinstance(self.scale, float) and self.scale == 1.0

    def _room(self, point: Tensor, move: Tensor) -> Tensor:
        # by arithmetic, which costs a third of a choice value by value; where nothing moves there is no room
        way = move.sign()
        wall = torch.add(point, way, alpha=_FAR).clamp(*self.box)
        return self._unit(((wall - point) * way).clamp_min(0))

    def _felt(self, point: Tensor, move: Tensor) -> Tensor:
        # a room that a norm does not look at is not measured
        return self._room(point, move) if self.norm.boxed else point.new_full((1, 1), math.inf)


def threat_in(norm: str, **rest: Any) -> Threat:
    """Return a threat by the name of its norm, with the other fields given; one in `ycbcr` changes Y alone by default.

    Raises `BadInput` for components of another norm, and where they do not fit a grid.
    """
    components = rest.pop("components", None)
    if norm == YCBCR.name:
        components = components or Components()
        if rest.get("grid") and not components.grey:
            raise BadInput(
                "A change of Cb or Cr does not stay one on a grid of pixel values: rounding changes Y too. Leave the "
                "grid out, or change Y alone (components (1, 0, 0))."
            )
    elif components is not None:
        raise BadInput(f"components are those of ycbcr, and the norm is {norm}. Leave them out, or write norm ycbcr.")
    return Threat(THREAT_NORMS[norm], components=components, **rest)


def _threat(norm: Norm, eps: Any, box: bool, grid: int | None, mask: Any) -> Threat:
    given, where = read_budgets(eps, norm.name), None if mask is None else Mask.of(mask)
    if given.changing is not None:
        where = with_channels(where, given.changing)
    limits = (0.0, 1.0) if box else UNBOXED
    return Threat(norm, given.eps, limits, given.scale, grid, given.budget, where)


def Linf(eps: Any, *, mask: Any = None, box: bool = True, grid: int | None = None) -> Threat:  # noqa: N802 - the norm's name
    """Return the threat that changes every value by at most `eps`.

    `eps` is a number, its written form (`"8/255"`, `"normalized 0.02"`), a list with one per channel (0: it does not
    change), or a tensor `[N]` with one per sample. `mask` is a bool or 0/1 tensor, 1 where values may change: `[H, W]`,
    `[1, H, W]`, `[C, H, W]` or `[C, 1, 1]` for all images, `[N, 1, H, W]` or `[N, C, H, W]` with one per image.
    """
    return _threat(LINF, eps, box, grid, mask)


def L2(eps: Any, *, mask: Any = None, box: bool = True, grid: int | None = None) -> Threat:  # noqa: N802 - as Linf
    """Return the threat of changes of Euclidean length at most `eps` (forms as for `Linf`)."""
    return _threat(L2_NORM, eps, box, grid, mask)


def L1(eps: Any, *, mask: Any = None, box: bool = True, grid: int | None = None) -> Threat:  # noqa: N802 - as Linf
    """Return the threat of changes whose absolute values sum to at most `eps` (forms as for `Linf`)."""
    return _threat(L1_NORM, eps, box, grid, mask)


def L0(eps: Any, *, mask: Any = None, box: bool = True, grid: int | None = None) -> Threat:  # noqa: N802 - as Linf
    """Return the threat that changes at most `eps` values, by any height (forms as for `Linf`)."""
    return _threat(L0_NORM, eps, box, grid, mask)


def YCbCr(  # noqa: N802 - the colour space's name
    eps: Any, components: Any = None, *, mask: Any = None, box: bool = True, grid: int | None = None
) -> Threat:
    """Return the threat that changes Y, Cb and Cr of every pixel by at most `eps` times their `components`.

    Y is from 0 to 1, Cb and Cr from -0.5 to 0.5 (JPEG's full-range matrix). `components` are three numbers, (1, 0, 0)
    by default: Y alone, all channels by the same. `eps` is a number or its written form, in pixels, a list with one for
    each component, or a tensor `[N]`; `mask` as for `Linf`, the same for all channels. Images have three channels, and
    stay in the box of R, G and B.
    """
    if isinstance(eps, (list, tuple)) and components is not None:
        raise BadInput("eps holds a budget for each component, and components are given too. Give one of them.")
    given = read_budgets(eps, YCBCR.name)
    if given.budget is not None and given.budget.unit == NORMALIZED:
        raise BadInput(f"{given.budget.written!r}: budgets in YCbCr are in pixels, such as 8/255 or 0.002.")
    if isinstance(given.scale, Tensor):
        each = given.scale.flatten() * (1 if given.changing is None else given.changing)
        components = each.tolist()
    chosen = Components() if components is None else Components.of(components)
    where, limits = None if mask is None else Mask.of(mask), (0.0, 1.0) if box else UNBOXED
    return threat_in(
        YCBCR.name, eps=given.eps, box=limits, grid=grid, budget=given.budget, mask=where, components=chosen
    )


def Patch(side: Any, *, mask: Any = None, box: bool = True, grid: int | None = None) -> Threat:  # noqa: N802 - as Linf
    """Return the threat that changes all pixels of one square of at most `side` x `side`, by any height.

    `side` is a whole number of pixels, or a tensor `[N]` of them. The square lies anywhere in the image; `mask` as for
    `Linf`, to forbid places.
    """
    return _threat(PATCH, side, box, grid, mask)


__all__ = [
    "L0",
    "L1",
    "L2",
    "LINF",
    "NORMS",
    "PATCH",
    "THREAT_NORMS",
    "UNBOXED",
    "Linf",
    "Norm",
    "Patch",
    "Threat",
    "YCbCr",
    "threat_in",
]
