"""A benchmark folder of two instances with known answers goes through onnx2torch, the cascade and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import verified

pytestmark = pytest.mark.peers

# scores (x0 + x1 + x2 + x3, 2): class 0 at (.6, .6, .6, .6), and until the sum has lost .4
WEIGHT, BIAS = np.array([[1.0] * 4, [0.0] * 4], dtype=np.float32), np.array([0, 2], dtype=np.float32)
LOSES, KEEPS = 0.11, 0.09


def _folder(at: Path, answers: str) -> Path:
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    nodes = [
        make.make_node("Flatten", ["x"], ["flat"], axis=1),
        make.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    shapes = [("x", [1, 4, 1]), ("y", [1, 2])]
    values = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes]
    weights = [onnx.numpy_helper.from_array(WEIGHT, "w"), onnx.numpy_helper.from_array(BIAS, "b")]
    graph = make.make_graph(nodes, "net", values[:1], values[1:], weights)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, at / "net.onnx")
    for name, eps in (("loses", LOSES), ("keeps", KEEPS)):
        box = [
            f"(declare-const X_{i} Real)(assert (<= X_{i} {0.6 + eps}))(assert (>= X_{i} {0.6 - eps}))"
            for i in range(4)
        ]
        (at / f"{name}.vnnlib").write_text("\n".join([*box, "(assert (or (and (>= Y_1 Y_0))))"]))
    (at / "instances.csv").write_text("net.onnx,loses.vnnlib,1\nnet.onnx,keeps.vnnlib,1\n")
    (at / "answers.csv").write_text(answers)
    return at


RIGHT = "net.onnx,loses.vnnlib,unsafe\nnet.onnx,keeps.vnnlib,safe\n"


def test_what_is_unsafe_is_broken_and_what_is_safe_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path, RIGHT)
    assert verified.main([str(folder), "--out", str(tmp_path / "page.md")]) == 0
    told = capsys.readouterr().out
    assert "| safe | 1 | 0 |" in told and "| unsafe | 1 | 1 |" in told
    assert "not found: none" in told
    assert (tmp_path / "page.md").read_text().strip() == told.strip()
    outcomes = verified.measure(folder, "fgsm", "none of the table")
    assert [(one.broken, one.certified) for one in outcomes] == [(True, None), (False, None)]


def test_a_proof_that_is_broken_ends_with_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path, RIGHT.replace("unsafe", "safe"))
    assert verified.main([str(folder), "--attack", "fgsm"]) == 1
    assert "net loses: broken, and proved by a verifier" in capsys.readouterr().out
