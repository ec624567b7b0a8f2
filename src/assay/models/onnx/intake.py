"""What an ONNX file takes for an image: from its declared input and what the user says of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from assay.core.errors import BadInput, did_you_mean
from assay.models.onnx.reading import OnnxFile, Port
from assay.models.onnx.session import Intake
from assay.models.spec import Options, sized

LAYOUTS = ("nchw", "nhwc")
ORDERS = ("rgb", "bgr")

_CHANNELS = (1, 3, 4)
_TYPES = ("float32", "float16", "float64", "uint8", "int32", "int64")
_GUESSES = ((224, 224), (64, 64), (32, 32), (28, 28), (256, 256), (299, 299), (96, 96), (48, 192))

Sides = tuple[int | None, int | None, int | None]


@dataclasses.dataclass(frozen=True)
class Taken:
    """How images go in: the intake, how many in one call (None: any number), and (channels, height, width)."""

    intake: Intake
    rows: int | None
    sides: Sides
    options: Options

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """Return (channels, height, width) where all are known."""
        channels, height, width = self.sides
        return None if channels is None or height is None or width is None else (channels, height, width)

    def guesses(self) -> list[tuple[int, int, int]]:
        """Return shapes of images that the file may take, the likely ones first."""
        channels = self.sides[0] or self.options.channels
        pairs = [(self.sides[1] or high, self.sides[2] or wide) for high, wide in _GUESSES]
        return [(channels, *pair) for pair in dict.fromkeys(pairs)]


def taken(file: OnnxFile, options: Options, settings: Mapping[str, str], spec: str) -> Taken:
    """Return how a file takes images. Raises `BadInput` where it takes none, or where what is said contradicts it."""
    port = _only_input(file, spec)
    if port.dtype not in _TYPES:
        raise BadInput(
            f"The input {port} of {spec!r} is no image that can be given: expected one of {', '.join(_TYPES)}. Export "
            "the model with such an input."
        )
    shape = port.shape if port.shape is not None else (None,) * 4
    flat = len(shape) != 4
    layout = "flat" if flat else _layout(shape, settings.get("layout"), spec)
    if flat and "layout" in settings:
        raise BadInput(f"{spec!r} takes {port}, which has no layout to be said. Leave layout= out.")
    sides = _flat_sides(port, options, spec) if flat else _sides(shape, layout)
    sides, options = _agreed(sides, options, spec)
    order = settings.get("order", "rgb").lower()
    if order not in ORDERS:
        raise BadInput(f"order is {order!r}, expected rgb or bgr.{did_you_mean(order, ORDERS)}")
    inner = tuple(one or 0 for one in shape[1:]) if flat else ()
    intake = Intake(port.name, port.dtype, layout, inner, options.mean, options.std, order == "bgr")
    _check_numbers(intake, sides[0], spec)
    return Taken(intake, shape[0], sides, options)


def _only_input(file: OnnxFile, spec: str) -> Port:
    if len(file.inputs) != 1:
        listed = "; ".join(map(str, file.inputs)) or "none"
        raise BadInput(
            f"{spec!r} has {len(file.inputs)} inputs ({listed}), expected one, the image. Export it with the others "
            "fixed, or wrap it in a function of your own: my.py:factory."
        )
    port = file.inputs[0]
    if port.shape is not None and len(port.shape) < 2:
        raise BadInput(f"{spec!r} takes {port}, expected images, such as [N, 3, 224, 224]. Name another file.")
    return port


def _layout(shape: tuple[int | None, ...], stated: str | None, spec: str) -> str:
    if stated is not None:
        if stated.lower() not in LAYOUTS:
            raise BadInput(f"layout is {stated!r}, expected nchw or nhwc.{did_you_mean(stated, LAYOUTS)}")
        return stated.lower()
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first != last:
        return "nchw" if first else "nhwc"
    if first and last:
        # both may be channels: the reading under which images are square
        square = [shape[2] is not None and shape[2] == side for side in (shape[3], shape[1])]
        if square[0] != square[1]:
            return "nchw" if square[0] else "nhwc"
    elif (shape[1] is None) != (shape[3] is None):
        return "nchw" if shape[3] is None else "nhwc"
    sides = ", ".join("?" if one is None else str(one) for one in shape)
    raise BadInput(
        f"{spec!r} takes [{sides}], which does not tell where the channels are. Say it: "
        f"{spec}{'&' if '?' in spec else '?'}layout=nchw or layout=nhwc."
    )


def _sides(shape: tuple[int | None, ...], layout: str) -> Sides:
    return (shape[1], shape[2], shape[3]) if layout == "nchw" else (shape[3], shape[1], shape[2])


def _flat_sides(port: Port, options: Options, spec: str) -> Sides:
    """Return the images whose values are a flat input: those of the stated size, or square ones of 1 or 3 channels."""
    inner = port.shape[1:] if port.shape is not None else ()
    if None in inner:
        raise BadInput(f"{spec!r} takes {port}, whose sides are not fixed. Export it with fixed ones.")
    values = math.prod(one for one in inner if one is not None)
    if options.final_size is not None:
        area = math.prod(options.final_size)
        if values % area:
            high, wide = options.final_size
            raise BadInput(f"{spec!r} takes {values} values, which are no images of {high} x {wide}. Say another size.")
        return (values // area, *options.final_size)
    for channels in (1, 3):
        side = math.isqrt(values // channels)
        if channels * side * side == values:
            return (channels, side, side)
    raise BadInput(
        f"{spec!r} takes {values} values, and square images of 1 or 3 channels have other numbers of them. Say the "
        f"size: {spec}{'&' if '?' in spec else '?'}size=HEIGHTxWIDTH."
    )


def _agreed(sides: Sides, options: Options, spec: str) -> tuple[Sides, Options]:
    """Return both with what the other knows. Raises `BadInput` where they contradict each other."""
    channels, height, width = sides
    if channels is not None and options.channels not in (3, channels):
        raise BadInput(
            f"{spec!r} takes images of {channels} channels, and channels={options.channels} is said. Leave it out."
        )
    said = options.final_size
    if said is not None:
        for fixed, side in ((height, said[0]), (width, said[1])):
            if fixed is not None and fixed != side:
                raise BadInput(
                    f"{spec!r} takes images of {height or 'any'} x {width or 'any'}, and {said[0]} x {said[1]} is "
                    "said. Leave the size out: the file says it. How pictures come to it is said by resize."
                )
        height, width = said
    options = sized(options, height, width)
    return (channels, height, width), dataclasses.replace(options, channels=channels or options.channels)


def _check_numbers(intake: Intake, channels: int | None, spec: str) -> None:
    if intake.mean is None or intake.std is None:
        return
    if intake.whole_numbers:
        raise BadInput(
            f"{spec!r} takes whole numbers ({intake.dtype}), 0 to 255, and normalises inside. Leave mean and std out."
        )
    if channels is not None and len(intake.mean) not in (1, channels):
        raise BadInput(
            f"mean and std have {len(intake.mean)} numbers, and {spec!r} takes images of {channels} channels. Give one "
            "for each."
        )
