"""A model as the user names it: `scheme:name?option=value&option=value`, taken apart and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.models.classifier import Preprocess
from assay.models.normalized import check_normalisation

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "nearest-exact", "box", "hamming", "lanczos")


@dataclasses.dataclass(frozen=True)
class Options:
    """What only the user can say about a model whose weights carry no description of themselves.

    `mean` and `std` (pixel units): Assay normalises with them in front of the module. `size` and `channels`: the
    images it takes. `resize` and `interpolation`: how pictures come to that size. `arch` and `num_classes`: the
    architecture of a file that holds weights alone. `dropout`: "on" leaves it on, see `DropoutOn`.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    channels: int = 3
    resize: int | None = None
    interpolation: str = "bilinear"
    arch: str | None = None
    num_classes: int | None = None
    dropout: str | None = None

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """Return (channels, height, width), or None where no size is given."""
        return None if self.size is None else (self.channels, self.size, self.size)

    @property
    def preprocess(self) -> Preprocess | None:
        """Return the resize (by default to `size`) and crop that the size asks for; None where none is given."""
        if self.size is None:
            return None
        return Preprocess((self.resize or self.size,), (self.size, self.size), self.interpolation)


@dataclasses.dataclass(frozen=True)
class Request:
    """A model to load: the spec as given, the part after its scheme, the options, and what is allowed."""

    spec: str
    name: str
    options: Options = Options()
    allow_pickle: bool = False


def take_apart(spec: str, given: Mapping[str, Any], allowed: frozenset[str]) -> tuple[str, Options]:
    """Return the spec without its options, and the options written in it (`?a=1&b=2`) or `given` by name.

    Raises `BadInput` for an option that is unknown or that this kind of model does not take.
    """
    plain, _, written = spec.partition("?")
    named: dict[str, Any] = {}
    for part in written.split("&") if written else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise BadInput(f"{part!r} in {spec!r} is no option; expected ?name=value&name=value.")
        named[key] = value
    named.update({key: value for key, value in given.items() if value is not None})
    for key in named:
        if key not in allowed:
            takes = f"it takes {', '.join(sorted(allowed))}" if allowed else "it takes none: its weights say it all"
            raise BadInput(f"Unknown option {key!r} for {plain!r}.{did_you_mean(key, allowed)} ({takes})")
    return plain, _typed({key: _parse(key, value) for key, value in named.items()})


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
    if options.size is not None and options.resize is not None and options.resize < options.size:
        raise BadInput(f"resize {options.resize} is below size {options.size}; the crop would be padded with black.")
    return options


def _parse(key: str, value: Any) -> Any:
    try:
        if key in ("mean", "std"):
            values = value.split(",") if isinstance(value, str) else value
            return tuple(float(v) for v in (values if isinstance(values, list | tuple) else [values]))
        if key in ("size", "channels", "resize", "num_classes"):
            number = int(value)
            if number < 1:
                raise ValueError("below 1")
            return number
    except (TypeError, ValueError) as error:
        expected = "numbers such as 0.5,0.5,0.5" if key in ("mean", "std") else "a whole number of at least 1"
        raise BadInput(f"{key} is {value!r}; expected {expected}.") from error
    return str(value)


def unknown(spec: str, scheme: str, name: str, names: list[str] | tuple[str, ...]) -> BadInput:
    """Return the error for `name`, which is none of the `names` that `scheme` has."""
    near = did_you_mean(name, names).replace("mean '", f"mean '{scheme}")
    return BadInput(f"Unknown model {spec!r}.{near} (`assay models` lists them)")
