"""Small ONNX networks with known weights, for servers of models: they answer in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SHAPE, CLASSES = (1, 8, 8), 3
INPUT, OUTPUT = "pixels", "scores"


def write_net(file: Path, *, pixels: bool = False) -> Path:
    """Write a network of one hidden layer for `[N, 1, 8, 8]`, whose logits `[N, 3]` are the output.

    Its input is float32 in [0, 1], or uint8 of 0 to 255 where it takes `pixels`.
    """
    draws = np.random.default_rng(7)
    first = draws.normal(0, 0.5, (64, 16))
    second = draws.normal(0, 1.5, (16, CLASSES))
    grey = np.maximum(draws.random((1000, 64)) @ first, 0) @ second
    # no class leads on noise
    weights = {"first": first, "second": second, "shift": -grey.mean(0)}
    nodes, image = [], INPUT
    if pixels:
        weights["full"] = np.array(255.0)
        nodes = [
            helper.make_node("Cast", [INPUT], ["whole"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["whole", "full"], ["scaled"]),
        ]
        image = "scaled"
    nodes += [
        helper.make_node("Flatten", [image], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["bent"]),
        helper.make_node("Gemm", ["bent", "second", "shift"], [OUTPUT]),
    ]
    floats = {name: value.astype(np.float32) for name, value in weights.items()}
    return _write(file, nodes, floats, kind=TensorProto.UINT8 if pixels else TensorProto.FLOAT)


def write_log(file: Path) -> Path:
    """Write a network that answers the logarithm of the first three pixels: -inf for 0, NaN below."""
    return _write(file, [*_first_pixels("three"), helper.make_node("Log", ["three"], [OUTPUT])], _PLACES)


def write_light(file: Path, shape: tuple[int, int, int]) -> Path:
    """Write a network for images of any size that answers their first three pixels: what it costs is sending them."""
    return _write(file, _first_pixels(OUTPUT), _PLACES, shape=shape)


_PLACES = {"from": np.array([0]), "to": np.array([CLASSES]), "axis": np.array([1])}


def _first_pixels(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Flatten", [INPUT], ["flat"]),
        helper.make_node("Slice", ["flat", "from", "to", "axis"], [name]),
    ]


def _write(
    file: Path,
    nodes: list[onnx.NodeProto],
    weights: Mapping[str, NDArray[Any]],
    *,
    kind: int = TensorProto.FLOAT,
    shape: tuple[int, int, int] = SHAPE,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT, kind, ["N", *shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    return file


def write_pictures(folder: Path, net: Path, count: int) -> str:
    """Write grey pictures of 8 x 8 in folders by class, as a network in `[0, 1]` answers them; return their source."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(net), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(1).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    scores = session.run(None, {INPUT: pixels.astype(np.float32) / np.float32(255)})[0]
    for i, label in enumerate(np.asarray(scores).argmax(1)):
        (folder / f"class-{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i, 0]).save(folder / f"class-{label}" / f"{i:03}.png")
    # a class without pictures would have no folder, and the others other numbers
    assert len(list(folder.iterdir())) == CLASSES
    return f"folder:{folder}"
