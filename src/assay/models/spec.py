"""A model as the user names it: `scheme:name?option=value&option=value`, taken apart and checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from assay.core.errors import BadInput, did_you_mean
from assay.models.classifier import Preprocess
from assay.models.normalized import check_normalisation

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "nearest-exact", "box", "hamming", "lanczos")
LEVELS = {"black": 0, "white": 255}

Sides = int | tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Options:
    """What only the user can say about a model whose weights carry no description of themselves.

    `mean` and `std` (pixel units): Assay normalises with them in front of the module. `size` (one side of a square, or
    height and width) and `channels`: the images it takes. `resize` (the shorter side, or height and width), `crop`
    (from the middle), `pad` (the grey level around a picture that is scaled to fit) and `interpolation`: how pictures
    come to that size. `arch` and `num_classes`: the architecture of a file that holds weights alone; `prefix`: which of
    its names are the weights. `dropout`: "on" leaves it on, see `DropoutOn`. `threshold`: the score above which a
    model with one score per image means class 1.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: Sides | None = None
    channels: int = 3
    resize: Sides | None = None
    interpolation: str = "bilinear"
    arch: str | None = None
    num_classes: int | None = None
    dropout: str | None = None
    crop: Sides | None = None
    pad: int | None = None
    prefix: str | None = None
    threshold: float | None = None

    @property
    def final_size(self) -> tuple[int, int] | None:
        """Return the (height, width) that images have in the end; None where the options do not say."""
        for sides in (self.size, self.crop):
            if sides is not None:
                return _pair(sides)
        return self.resize if isinstance(self.resize, tuple) else None

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """Return (channels, height, width), or None where no size is given."""
        return None if self.final_size is None else (self.channels, *self.final_size)

    @property
    def preprocess(self) -> Preprocess | None:
        """Return the resize (by default to `size`), crop and padding that are asked for; None where none is."""
        final, resize = self.final_size, self.resize
        if self.pad is not None:
            return Preprocess(final, None, self.interpolation, pad=self.pad)
        if resize is None and self.size is not None:
            resize = _shorter(self.size)
        if resize is None and self.crop is None:
            return None
        sides = resize if resize is None or isinstance(resize, tuple) else (resize,)
        # what is resized to its final size is not cropped
        return Preprocess(sides, None if sides == final else final, self.interpolation)


@dataclasses.dataclass(frozen=True)
class Request:
    """A model to load: the spec as given, the part after its scheme, the options, and what is allowed.

    `settings` are those options, as written, that the scheme's own loader reads. `outputs` is what the user says that
    the model returns, "logits" or "probabilities".
    """

    spec: str
    name: str
    options: Options = Options()
    allow_pickle: bool = False
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    outputs: str = "logits"


LIMITS = frozenset({"queries", "price", "budget", "per_second", "parallel", "batch", "timeout", "tries"})
"""Options that say what an endpoint may be asked. None of them changes an answer."""

_ENDPOINTS = ("v2:", "v1:", "remote:")


def without_limits(spec: str) -> str:
    """Return the name of a model without what an endpoint may be asked: as records and digests name it."""
    name, bar, defenses = spec.partition("|")
    plain, mark, written = name.partition("?")
    if not mark or not plain.startswith(_ENDPOINTS):
        return spec
    kept = [part for part in written.split("&") if part.partition("=")[0] not in LIMITS]
    return plain + ("?" + "&".join(kept) if kept else "") + bar + defenses


def take_apart(spec: str, given: Mapping[str, Any], allowed: frozenset[str]) -> tuple[str, Options]:
    """Return the spec without its options, and the options written in it (`?a=1&b=2`) or `given` by name.

    Raises `BadInput` for an option that is unknown or that this kind of model does not take.
    """
    plain, options, _ = taken_apart(spec, given, allowed)
    return plain, options


def taken_apart(
    spec: str, given: Mapping[str, Any], allowed: frozenset[str], own: frozenset[str] = frozenset()
) -> tuple[str, Options, dict[str, str]]:
    """Return what `take_apart` does, and as written those options that a scheme's loader reads itself, its `own`.

    In those, `%26` stands for `&`, `%3F` for `?`, as in addresses.
    """
    plain, _, written = spec.partition("?")
    named: dict[str, Any] = {}
    for part in written.split("&") if written else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise BadInput(f"{part!r} in {spec!r} is no option; expected ?name=value&name=value.")
        if key in own and "?" in value:
            # its own options could not be told from those behind it: most often all of them are its own
            before, _, behind = spec.partition(f"{key}={value}")
            fixed = f"{before}{key}={(value + behind).replace('?', '%3F').replace('&', '%26')}"
            raise BadInput(
                f"{key} is {value!r} in {spec!r}; expected %3F for its ? and %26 for each & of its own: {fixed}"
            )
        named[key] = unquote(value) if key in own else value
    named.update({key: value for key, value in given.items() if value is not None})
    known = allowed | own
    for key in named:
        if key not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none: its weights say it all"
            raise BadInput(f"Unknown option {key!r} for {plain!r}.{did_you_mean(key, known)} ({takes})")
    settings = {key: str(value) for key, value in named.items() if key in own}
    return plain, _typed({key: _parse(key, value) for key, value in named.items() if key not in own}), settings


def _typed(values: dict[str, Any]) -> Options:
    options = Options(**values)
    if (options.mean is None) != (options.std is None):
        raise BadInput("mean and std belong together; give both, or neither.")
    if options.mean is not None and options.std is not None:
        check_normalisation(options.mean, options.std)
    if options.interpolation not in INTERPOLATIONS:
        near = did_you_mean(options.interpolation, INTERPOLATIONS)
        raise BadInput(f"Unknown interpolation {options.interpolation!r}.{near} ({', '.join(INTERPOLATIONS)})")
    if options.dropout not in (None, "on"):
        raise BadInput(f"dropout is {options.dropout!r}; expected 'on', or no such option: eval mode has none.")
    check_sides(options)
    return options


def check_sides(options: Options) -> None:
    """Raise `BadInput` for sizes that contradict each other, and for a crop that is larger than what is cropped."""
    size, crop, resize, final = options.size, options.crop, options.resize, options.final_size
    if options.pad is not None:
        if final is None or crop is not None:
            raise BadInput(
                f"pad={options.pad} fills up to a size; expected size=HxW and no crop beside it, such as "
                f"size=224&pad={options.pad}."
            )
        if resize is not None and _pair(resize) != final:
            raise BadInput(f"With pad, pictures are scaled to fit into {_by(final)}; leave resize={_by(resize)} out.")
        return
    if size is not None and crop is not None and _pair(size) != _pair(crop):
        raise BadInput(f"size {_by(size)} is what the model takes and crop {_by(crop)} what is cut; give one of them.")
    if resize is None or final is None:
        return
    # a single number is the shorter side, whatever the longer one will be
    wanted = final if isinstance(resize, tuple) else (min(final), min(final))
    if min(side - cut for side, cut in zip(_pair(resize), wanted, strict=True)) < 0:
        what = "crop" if size is None else "size"
        raise BadInput(f"resize {_by(resize)} is below {what} {_by(final)}; the crop would be padded with black.")


def sized(options: Options, height: int | None, width: int | None) -> Options:
    """Return options with the size that a model states itself, where both sides are known and the user says none.

    Pictures then come to it as to a size that is said. Raises `BadInput` for a resize below it.
    """
    if options.final_size is not None or height is None or width is None:
        return options
    known = dataclasses.replace(options, size=(height, width))
    check_sides(known)
    return known


def _parse(key: str, value: Any) -> Any:
    try:
        if key in ("mean", "std"):
            values = value.split(",") if isinstance(value, str) else value
            return tuple(float(v) for v in (values if isinstance(values, list | tuple) else [values]))
        if key in ("size", "resize", "crop"):
            return _sides(value)
        if key == "threshold":
            return float(value)
        if key == "pad":
            return _level(value)
        if key in ("channels", "num_classes"):
            return _positive(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{key} is {value!r}; expected {_EXPECTED.get(key, 'a whole number of at least 1')}.") from error
    return str(value)


_SIDES = "a whole number of at least 1, or height and width such as 32x128"
_EXPECTED = {
    "mean": "numbers such as 0.5,0.5,0.5",
    "std": "numbers such as 0.5,0.5,0.5",
    "size": _SIDES,
    "resize": _SIDES,
    "crop": _SIDES,
    "threshold": "a number such as 0.5, above which a model's single score means class 1",
    "pad": "black, white or a grey level from 0 to 255",
}


def _positive(value: Any) -> int:
    number = int(value)
    if number < 1 or number != float(value):
        raise ValueError("no whole number of at least 1")
    return number


def _sides(value: Any) -> Sides:
    """Read `32`, `32x128` (height and width) or a pair; both sides equal stay a pair: that is a shape, no length."""
    if isinstance(value, list | tuple):
        height, width = value
        return _positive(height), _positive(width)
    if isinstance(value, str) and (both := re.fullmatch(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*", value)):
        return _positive(both[1]), _positive(both[2])
    return _positive(value)


def _level(value: Any) -> int:
    level = int(LEVELS.get(value, value) if isinstance(value, str) else value)
    if not 0 <= level <= 255:
        raise ValueError("no grey level")
    return level


def _pair(sides: Sides) -> tuple[int, int]:
    return sides if isinstance(sides, tuple) else (sides, sides)


def _shorter(size: Sides) -> Sides:
    """Return what pictures are resized to for a size: the shorter side of a square, the sides of anything else."""
    return size if not isinstance(size, tuple) or size[0] != size[1] else size[0]


def _by(sides: Sides) -> str:
    return "x".join(map(str, sides)) if isinstance(sides, tuple) else str(sides)


_WHITE = {"1": 1.0, "255": 255.0}


def stated_range(request: Request) -> float | None:
    """Return what the user says that white is to the network, 1 or 255; None where nothing is said.

    Raises `BadInput` for another value, and for a normalisation beside it.
    """
    told = request.settings.get("range")
    if told is None:
        return None
    if told not in _WHITE:
        raise BadInput(f"range is {told!r} in {request.spec!r}; expected 1 or 255: what the network takes for white.")
    if request.options.mean is not None:
        raise BadInput(f"range={told} and mean and std are both stated in {request.spec!r}; expected one of the two.")
    return _WHITE[told]


def unknown(spec: str, scheme: str, name: str, names: list[str] | tuple[str, ...]) -> BadInput:
    """Return the error for `name`, which is none of the `names` that `scheme` has."""
    near = did_you_mean(name, names).replace("mean '", f"mean '{scheme}")
    return BadInput(f"Unknown model {spec!r}.{near} (`assay models` lists them)")
