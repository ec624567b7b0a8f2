"""A TFLite file and its interpreter: images in, class scores out, quantised or not."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import Any, cast

import numpy as np

from assay.core.errors import BadInput, ModelError
from assay.models.deployed import Array
from assay.models.failures import in_short
from assay.models.static_batch import filled

INSTALL = "Install it with: pip install 'assay[litert]'"
MAGIC = b"TFL3"
_BYTE = 255.0

_INTEGERS = (np.uint8, np.int8, np.int16)
_AROUND = frozenset({"DELEGATE", "QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE"})
_TINY = float(np.finfo(np.float32).tiny)


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or output of the file: where, of which shape (-1: any) and type, and what its whole numbers stand for.

    A whole number q stands for `(q - zero) * scale`; `scale` is 0 where it stands for nothing but itself.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: type[np.generic]
    scale: float = 0.0
    zero: int = 0

    @staticmethod
    def of(detail: dict[str, Any]) -> Port:
        """Return a port from what the interpreter says of it."""
        scale, zero = detail["quantization"]
        shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
        numbers = tuple(int(side) for side in shape)
        return Port(int(detail["index"]), str(detail["name"]), numbers, detail["dtype"], float(scale), int(zero))

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers."""
        return self.dtype in _INTEGERS

    @property
    def range(self) -> tuple[float, float]:
        """Return what the smallest and the largest whole number stand for."""
        info = np.iinfo(cast(Any, self.dtype))
        return (info.min - self.zero) * self.scale, (info.max - self.zero) * self.scale

    def quantised(self, values: Array) -> Array:
        """Return the nearest whole numbers within the range, bit for bit those of the interpreter's own QUANTIZE.

        Of ties that is the even one, after a multiplication by the inverse of the scale.
        """
        info = np.iinfo(cast(Any, self.dtype))
        whole: Array = np.clip(
            np.rint(values * (np.float32(1) / np.float32(self.scale))) + self.zero, info.min, info.max
        )
        return whole.astype(self.dtype)

    def real(self, values: Array) -> Array:
        """Return what values of the port stand for, float32."""
        if self.whole and self.scale:
            return ((values.astype(np.int32) - self.zero) * np.float32(self.scale)).astype(np.float32)
        return values.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Intake:
    """How images `[N, C, H, W]` in [0, 1] become what the file takes.

    `order` says where the channels stand ("last", "first", "none"). Pixels are normalised by `mean` and `std` where
    those are stated, else multiplied by `scale`. `as_bytes`: whole numbers are the bytes of a picture.
    """

    order: str
    scale: float = 1.0
    as_bytes: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def rows(self, images: Array, port: Port) -> Array:
        """Return the images in the layout, range and type of the input."""
        if self.mean is not None and self.std is not None:
            mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (self.mean, self.std))
            images = (images - mean) / std
        elif self.scale != 1:
            images = images * np.float32(self.scale)
        laid = images[:, 0] if self.order == "none" else images
        laid = laid.transpose(0, 2, 3, 1) if self.order == "last" else laid
        if not port.whole:
            return laid.astype(port.dtype)
        if self.as_bytes:
            smallest = int(np.iinfo(cast(Any, port.dtype)).min)
            return (np.rint(laid * np.float32(_BYTE)).clip(0, _BYTE) + smallest).astype(port.dtype)
        return port.quantised(laid)


@dataclasses.dataclass(frozen=True)
class ScoreRule:
    """How the file's answers become scores.

    `kind` is "softmax" or "sigmoid" for probabilities, of which the logarithms are the scores (with `odds`, where each
    of several classes has a sigmoid, their log-odds), and "logits" for what is given on as it is. `threshold` is that
    of a single score, as the file gives it. `step` is that between two neighbouring answers of a quantised output,
    0 for one that is not.
    """

    kind: str
    threshold: float | None = None
    odds: bool = False
    step: float = 0.0

    def scores(self, values: Array, port: Port) -> Array:
        """Return float32 scores `[N, K]` of the output's values."""
        p = port.real(values).reshape(len(values), -1)
        if self.kind == "logits":
            return p if self.threshold is None else p - np.float32(self.threshold)
        # what is rounded to 0 is below half a step
        least = max(_TINY, self.step / 2)
        if self.kind == "softmax":
            return _log(np.maximum(p, np.float32(least)))
        p, rest = np.maximum(p, np.float32(least)), np.maximum(1 - p, np.float32(least))
        if self.odds:
            return _log(p) - _log(rest)
        t = np.float32(0.5 if self.threshold is None else self.threshold)
        both = np.concatenate([rest / (1 - t), p / t], 1)
        return _log(both / both.sum(1, keepdims=True))


def _log(values: Array) -> Array:
    logs: Array = np.log(values)
    return logs


class Interpreted:
    """The answers of a TFLite file: float32 images `[N, C, H, W]` in [0, 1] -> float32 scores `[N, K]`.

    Every thread has an interpreter of its own, with one thread of the runtime's. Images are asked about one by one,
    or as many at a time as the file was made for: a batch takes longer on a CPU.
    """

    def __init__(self, content: bytes, input_port: Port, output_port: Port, given: Intake, read: ScoreRule) -> None:
        self._content = content
        self._input = input_port
        self._output = output_port
        self._given = given
        self._read = read
        self._rows = max(1, input_port.shape[0])
        self._own = threading.local()
        # the step between two neighbouring answers, 0 where they are not rounded: the doctor reads it
        self.step = read.step
        # what stands for all that was rounded to 0, see `Deployed`
        self.floor = math.log(max(_TINY, read.step / 2)) if read.kind == "softmax" else None

    def __call__(self, images: Array) -> Array:
        """Return the scores. Raises `ModelError` where the interpreter fails on images of this size."""
        rows = self._given.rows(images, self._input)
        whole = filled(rows, self._rows)
        parts = [self._values(whole[at : at + self._rows]) for at in range(0, len(whole), self._rows)]
        return self._read.scores(np.concatenate(parts)[: len(rows)], self._output)

    def _values(self, rows: Array) -> Array:
        try:
            interpreter = self._interpreter(rows.shape)
            interpreter.set_tensor(self._input.index, rows)
            interpreter.invoke()
            values = interpreter.get_tensor(self._output.index)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"The TFLite file failed on an input {list(rows.shape)}: {in_short(error)}. It takes "
                f"{list(self._input.shape)} (-1: any). If it takes another size of image, state it: ?size=96."
            ) from error
        return cast(Array, values).reshape(len(rows), -1)

    def _interpreter(self, shape: tuple[int, ...]) -> Any:
        # they are not to be called from two threads at once
        made = getattr(self._own, "made", None)
        if made is None or self._own.shape != shape:
            made = opened(self._content)
            made.resize_tensor_input(self._input.index, list(shape))
            made.allocate_tensors()
            self._own.made, self._own.shape = made, shape
        return made


def step_at(interpreter: Any, index: int) -> float:
    """Return the step between two neighbouring values of a tensor of whole numbers; 0 for any other tensor."""
    found = [one for one in interpreter.get_tensor_details() if int(one["index"]) == index]
    return float(found[0]["quantization"][0]) if found and found[0]["dtype"] in _INTEGERS else 0.0


def opened(content: bytes) -> Any:
    """Return an interpreter of a file's content, with one thread; its tensors are not allocated yet."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content, num_threads=1)


def imported() -> None:
    """Import LiteRT's interpreter, or raise `BadInput` with what to install."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401  # to see whether it is there
    except ImportError as error:
        raise BadInput(f"ai-edge-litert is not installed ({error}). {INSTALL}") from error


@dataclasses.dataclass(frozen=True)
class Graph:
    """What the operations of a file say of its ends: how it begins with the input, and what gives each output."""

    operations: tuple[dict[str, Any], ...]

    @staticmethod
    def of(interpreter: Any) -> Graph:
        """Return the operations of an interpreter; none where this version of it does not tell them."""
        listed: list[dict[str, Any]] = getattr(interpreter, "_get_ops_details", list)()
        return Graph(tuple(one for one in listed if one["op_name"] != "DELEGATE"))

    def ending(self, index: int) -> tuple[str, int]:
        """Return the operation that output `index` comes out of, and the tensor that it gives.

        What only lays out or rescales its answer is passed over.
        """
        by_output = {int(one): operation for operation in self.operations for one in operation["outputs"]}
        while index in by_output and by_output[index]["op_name"] in _AROUND:
            index = int(by_output[index]["inputs"][0])
        return (str(by_output[index]["op_name"]) if index in by_output else ""), index

    def first(self, index: int) -> dict[str, Any] | None:
        """Return the first operation that works on input `index`, or None where several or none are known."""
        while True:
            found = [one for one in self.operations if index in (int(i) for i in one["inputs"])]
            if len(found) != 1:
                return None
            if found[0]["op_name"] not in _AROUND or len(found[0]["outputs"]) != 1:
                return found[0]
            index = int(found[0]["outputs"][0])
