"""The calls of torch that bounds know: what operation each is. What is not here, is refused."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from assay.certification.bounds.operations import Convolution, Linear, Operation, Pad, Relu, Reshape, Scale, Sum
from assay.certification.bounds.recording import Call, Handler, Known, Read


def _convolution(call: Call) -> Known:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = call.args[:9]
    if transposed or x.ndim != 4 or call.depends(weight) or call.depends(bias):
        raise call.refused("is no convolution of an image [C, H, W] with weights of its own")
    size = tuple(x.shape[2:])
    pairs = [_pair(one) for one in (stride, padding, dilation)]

    def make(read: Read) -> Operation:
        return Convolution(read(weight), read(bias), pairs[0], pairs[1], pairs[2], groups, size)

    return Known(make, (x,))


def _addmm(call: Call) -> Known:
    bias, x, weight = call.args[:3]
    if call.depends(bias) or call.depends(weight) or call.options or bias.ndim != 1:
        raise call.refused("multiplies values of the image with each other, or scales them")
    return Known(lambda read: Linear(read(weight).t(), read(bias)), (x,))


def _mm(call: Call) -> Known:
    x, weight = call.args
    if call.depends(weight) or not call.depends(x):
        raise call.refused("multiplies values of the image with each other")
    return Known(lambda read: Linear(read(weight).t()), (x,))


def _linear(call: Call) -> Known:
    x, weight, bias = call.args[0], call.args[1], call.arg(2, None, "bias")
    if call.depends(weight) or x.ndim != 2:
        raise call.refused("is no linear layer on values [N, D] with weights of its own")
    return Known(lambda read: Linear(read(weight), read(bias)), (x,))


def _batch_norm(training: int | None, eps: int) -> Handler:
    def handler(call: Call) -> Known:
        x, weight, bias, mean, variance = call.args[:5]
        if (training is not None and call.args[training]) or mean is None:
            raise call.refused("takes its statistics from the batch, so that an image's answer depends on others")
        shape, tiny = tuple(x.shape[1:]), call.args[eps]

        def make(read: Read) -> Operation:
            scale = (read(variance) + tiny).rsqrt() * (1 if weight is None else read(weight))
            own, moved = torch.zeros_like(scale) if bias is None else read(bias), read(mean) * scale
            shift, added = own - moved, own.abs() + moved.abs()
            ones = (-1, *[1] * (len(shape) - 1))
            return Scale(scale.view(ones), shift.view(ones), shape, added.view(ones))

        return Known(make, (x,))

    return handler


def _average(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Known:
    channels, size = x.shape[1], (x.shape[2], x.shape[3])
    weight = torch.full((channels, 1, *kernel), 1 / math.prod(kernel), dtype=torch.float64, device=x.device)
    return Known(lambda read: Convolution(read(weight), None, stride, padding, (1, 1), channels, size), (x,))


def _avg_pool(call: Call) -> Known:
    x, kernel = call.args[0], _pair(call.args[1])
    stride = _pair(call.arg(2) or kernel)
    padding, ceil, count_zeros = _pair(call.arg(3, 0)), call.arg(4, False), call.arg(5, True)
    if ceil or (any(padding) and not count_zeros) or call.arg(6) is not None or x.ndim != 4:
        raise call.refused("does not divide by the size of its kernel everywhere (ceil_mode, count_include_pad)")
    return _average(x, kernel, stride, padding)


def _adaptive_avg_pool(call: Call) -> Known:
    x, out = call.args[0], _pair(call.args[1])
    if x.ndim != 4 or any(size % want for size, want in zip(x.shape[2:], out, strict=True)):
        raise call.refused(f"averages {list(x.shape[2:])} to {list(out)}, which are windows of several sizes")
    kernel = (x.shape[2] // out[0], x.shape[3] // out[1])
    return _average(x, kernel, kernel, (0, 0))


def _mean(call: Call) -> Known:
    x = call.args[0]
    axes = sorted(axis % x.ndim for axis in call.args[1])
    if x.ndim != 4 or axes != [2, 3] or call.options:
        raise call.refused(f"averages over the axes {axes}, expected height and width of [N, C, H, W]: (2, 3)")
    size = (x.shape[2], x.shape[3])
    return _average(x, size, size, (0, 0))._replace(shape=(x.shape[1], 1, 1))


def _reshape(call: Call) -> Known:
    before, after = tuple(call.args[0].shape[1:]), tuple(call.out.shape[1:])
    return Known(lambda read: Reshape(before, after), (call.args[0],))


def _cast(call: Call) -> Known:
    if call.args[0].dtype is not call.out.dtype or call.args[0].device != call.out.device:
        raise call.refused(f"computes in {call.out.dtype}, where the image comes in {call.args[0].dtype}")
    return _reshape(call)


def _relu(call: Call) -> Known:
    return Known(lambda read: Relu(), (call.args[0],))


def _clamp_min(call: Call) -> Known:
    if isinstance(call.args[1], Tensor) or call.args[1] != 0 or call.arg(2) is not None:
        raise call.refused("cuts off at another value than 0: it is no ReLU")
    return _relu(call)


def _pad(call: Call) -> Known:
    x, width = call.args[0], [*call.args[1], 0, 0, 0, 0]
    if x.ndim != 4 or any(width[4:]) or call.arg(2, 0) != 0 or min(width) < 0:
        raise call.refused("pads with another value than 0, or not at the edges of an image")
    return Known(lambda read: Pad((width[0], width[1], width[2], width[3])), (x,))


def _plus(sign: int) -> Handler:
    def handler(call: Call) -> Known:
        x, other = call.args[:2]
        factor = sign * call.options.get("alpha", 1)
        if call.depends(x) and call.depends(other):
            if x.shape != other.shape:
                raise call.refused("adds values of the image that have several shapes")
            return Known(lambda read: Sum(float(factor)), (x, other))
        if call.depends(x):
            return _scaled(call, x, 1.0, other, factor)
        return _scaled(call, other, factor, x, 1.0)

    return handler


def _reversed_minus(call: Call) -> Known:
    if call.depends(call.args[1]) or call.options.get("alpha", 1) != 1:
        raise call.refused("is no difference with a constant")
    return _scaled(call, call.args[0], -1.0, call.args[1], 1.0)


def _times(call: Call) -> Known:
    x, other = call.args[:2]
    if call.depends(x) and call.depends(other):
        raise call.refused("multiplies values of the image with each other")
    return _scaled(call, x, other, 0.0, 1.0) if call.depends(x) else _scaled(call, other, x, 0.0, 1.0)


def _divided(call: Call) -> Known:
    x, other = call.args[:2]
    if call.depends(other) or call.options:
        raise call.refused("divides by values of the image, or rounds")
    return _scaled(call, x, other, 0.0, 1.0, inverse=True)


def _negative(call: Call) -> Known:
    return _scaled(call, call.args[0], -1.0, 0.0, 1.0)


def _scaled(call: Call, x: Tensor, scale: Any, shift: Any, factor: float, inverse: bool = False) -> Known:
    shape = tuple(call.out.shape[1:])
    if tuple(x.shape[1:]) != shape:
        raise call.refused("makes several values of one, by a constant of more axes")
    for constant in (scale, shift):
        if isinstance(constant, Tensor) and constant.ndim == call.out.ndim and len(constant) != 1:
            raise call.refused("has a constant for each image of the batch")

    def make(read: Read) -> Operation:
        by, plus = (_constant(read(one), x) for one in (scale, shift))
        return Scale(1 / by if inverse else by, plus * factor, shape, (plus * factor).abs())

    return Known(make, (x,))


def _constant(value: Any, like: Tensor) -> Tensor:
    # without the axis of the batch; in double precision, as Python computes with numbers
    if not isinstance(value, Tensor):
        return torch.tensor(float(value), dtype=torch.float64, device=like.device)
    return value[0] if value.ndim == like.ndim else value


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


HANDLERS: dict[str, Handler] = {
    "aten.convolution": _convolution,
    "aten.addmm": _addmm,
    "aten.mm": _mm,
    "aten.linear": _linear,
    "aten.native_batch_norm": _batch_norm(5, 7),
    "aten.cudnn_batch_norm": _batch_norm(5, 7),
    "aten.miopen_batch_norm": _batch_norm(5, 7),
    "aten._native_batch_norm_legit_no_training": _batch_norm(None, 6),
    "aten.avg_pool2d": _avg_pool,
    "aten._adaptive_avg_pool2d": _adaptive_avg_pool,
    "aten.mean": _mean,
    "aten.relu": _relu,
    "aten.relu_": _relu,
    "aten.clamp_min": _clamp_min,
    "aten.clamp_min_": _clamp_min,
    "aten.clamp": _clamp_min,
    "aten.constant_pad_nd": _pad,
    "aten.add": _plus(1),
    "aten.add_": _plus(1),
    "aten.sub": _plus(-1),
    "aten.sub_": _plus(-1),
    "aten.rsub": _reversed_minus,
    "aten.mul": _times,
    "aten.mul_": _times,
    "aten.div": _divided,
    "aten.div_": _divided,
    "aten.neg": _negative,
    "aten._to_copy": _cast,
    **{
        f"aten.{name}": _reshape
        for name in ("view", "_unsafe_view", "clone", "detach", "alias", "squeeze", "unsqueeze", "lift_fresh")
    },
}
"""Every call that is known, by its name in torch."""
