"""Small ONNX classifiers of every build, made node by node: no exporter is needed, and each is a few kilobytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}


@dataclasses.dataclass(frozen=True)
class Build:
    """How a file is made: see the tests. `tail` are the operators behind the logits, `rows` a batch that is fixed."""

    channels: int = 3
    side: int | str = 8
    classes: int = 4
    seed: int = 0
    rows: int | str = "batch"
    layout: str = "nchw"
    dtype: str = "float32"
    tail: tuple[str, ...] = ()
    opset: int = 17
    name: str = "pixels"
    behind_identity: bool = False
    constants: bool = False

    def save(self, path: Path) -> Path:
        """Write the file, and return its path."""
        onnx.save(self.model(), path)
        return path

    def network(self) -> nn.Module:
        """Return the same network in torch, of images in [0, 1], without the tail."""
        w = {name: torch.from_numpy(value) for name, value in self.weights().items()}
        first = nn.Conv2d(self.channels, 6, 3, padding=1)
        second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        last = nn.Linear(8, self.classes)
        for layer, name in ((first, "first"), (second, "second"), (last, "last")):
            layer.weight.data, layer.bias.data = w[f"{name}.weight"], w[f"{name}.bias"]
        return nn.Sequential(
            first, nn.ReLU(), second, nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last
        ).eval()  # fmt: skip

    def weights(self) -> dict[str, Any]:
        """Return the weights by name, float32."""
        draws = np.random.default_rng(self.seed)
        shapes = {
            "first.weight": (6, self.channels, 3, 3),
            "first.bias": (6,),
            "second.weight": (8, 6, 3, 3),
            "second.bias": (8,),
            "last.weight": (self.classes, 8),
            "last.bias": (self.classes,),
        }
        return {name: draws.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}

    def model(self) -> Any:
        """Return the model as ONNX keeps it."""
        nodes, stores = [], []
        inner = self.dtype if self.dtype.startswith("float") else "float32"
        for name, value in self.weights().items():
            tensor = numpy_helper.from_array(value.astype(inner), name)
            if self.constants:
                nodes.append(helper.make_node("Constant", [], [name], value=tensor))
            elif self.behind_identity:
                tensor.name = f"{name}.kept"
                stores.append(tensor)
                nodes.append(helper.make_node("Identity", [tensor.name], [name]))
            else:
                stores.append(tensor)
        x = self.name
        if self.layout == "nhwc":
            nodes.append(helper.make_node("Transpose", [x], ["moved"], perm=[0, 3, 1, 2]))
            x = "moved"
        if not self.dtype.startswith("float"):
            stores.append(numpy_helper.from_array(np.array(255, np.float32), "white"))
            nodes.append(helper.make_node("Cast", [x], ["cast"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Div", ["cast", "white"], ["scaled"]))
            x = "scaled"
        stores += [numpy_helper.from_array(np.array(v, inner), n) for n, v in (("low", 0), ("high", 6))]
        nodes += [
            helper.make_node("Conv", [x, "first.weight", "first.bias"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node(
                "Conv", ["b", "second.weight", "second.bias"], ["c"], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]
            ),
            helper.make_node("Clip", ["c", "low", "high"], ["d"]),
            helper.make_node("GlobalAveragePool", ["d"], ["e"]),
            helper.make_node("Flatten", ["e"], ["f"]),
            helper.make_node("Gemm", ["f", "last.weight", "last.bias"], ["logits"], transB=1),
        ]
        y = "logits"
        for k, kind in enumerate(self.tail):
            options = {"axis": 1} if kind in ("Softmax", "ArgMax", "LogSoftmax") else {}
            nodes.append(helper.make_node(kind, [y], [f"tail{k}"], **options))
            y = f"tail{k}"
        sides = [self.channels, self.side, self.side]
        shape = [self.rows, *(sides if self.layout == "nchw" else [*sides[1:], sides[0]])]
        last = TensorProto.INT64 if self.tail[-1:] == ("ArgMax",) else TYPES[inner]
        output = helper.make_tensor_value_info(y, last, [self.rows, 1 if last == TensorProto.INT64 else self.classes])
        graph = helper.make_graph(
            nodes, "small", [helper.make_tensor_value_info(self.name, TYPES[self.dtype], shape)], [output], stores
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
