"""ONNX files as other tools than torch's exporter write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import assay
from assay.core.errors import BadInput
from assay.core.oracle import Access
from tests.support.onnx_files import Build

X = torch.rand((7, 3, 8, 8), generator=torch.Generator().manual_seed(3))


def save(proto: Any, folder: Path) -> str:
    onnx.save(proto, folder / "net.onnx")
    return f"onnx:{folder / 'net.onnx'}"


def behind_first(proto: Any, node: Any) -> Any:
    """Let the network see what `node` makes of the image."""
    for one in proto.graph.node:
        for at, name in enumerate(one.input):
            if name == "pixels":
                one.input[at] = node.output[0]
    proto.graph.node.append(node)
    return proto


def test_nodes_in_another_order_than_they_are_computed_in(tmp_path: Path) -> None:
    # onnxruntime's own conversion to half precision writes its casts last
    proto = behind_first(Build().model(), helper.make_node("Cast", ["pixels"], ["cast"], to=TensorProto.FLOAT))
    model = assay.load_model(save(proto, tmp_path))
    assert model.access is Access.GRADIENT
    x = X.clone().requires_grad_()
    with model.held():
        model.module(x)[:, 1].sum().backward()
    wanted = X.clone().requires_grad_()
    Build().network()(wanted)[:, 1].sum().backward()
    torch.testing.assert_close(x.grad, wanted.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["RandomNormalLike", "Dropout"])
def test_answers_that_are_drawn(kind: str, tmp_path: Path) -> None:
    proto = Build(rows=1).model()
    if kind == "Dropout":
        proto.graph.initializer.extend(
            [
                helper.make_tensor("share", TensorProto.FLOAT, [], [0.3]),
                helper.make_tensor("on", TensorProto.BOOL, [], [1]),
            ]
        )
        node = helper.make_node("Dropout", ["pixels", "share", "on"], ["changed"])
        behind_first(proto, node)
    else:
        behind_first(proto, helper.make_node("Add", ["pixels", "noise"], ["changed"]))
        proto.graph.node.append(helper.make_node(kind, ["pixels"], ["noise"], scale=0.3))
    spec = save(proto, tmp_path)
    model = assay.load_model(spec)
    assert model.random and model.access is Access.SCORES
    assert any("the same image gets different answers" in note.lower() and kind in note for note in model.notes)
    assert not any("quantisation" in note for note in model.notes)
    twin = Build(rows=1, seed=0).save(tmp_path / "plain.onnx")
    guided = assay.load_model(spec, twin=f"onnx:{twin}")
    assert guided.random and guided.access is Access.GRADIENT


def test_a_dropout_that_is_off_draws_nothing(tmp_path: Path) -> None:
    node = helper.make_node("Dropout", ["pixels"], ["changed"])
    model = assay.load_model(save(behind_first(Build().model(), node), tmp_path))
    assert not model.random and model.access is Access.GRADIENT


def test_the_largest_scores_are_no_class_scores(tmp_path: Path) -> None:
    proto = Build().model()
    (before,) = [one.name for one in proto.graph.output]
    proto.graph.initializer.append(helper.make_tensor("k", TensorProto.INT64, [1], [2]))
    proto.graph.node.append(helper.make_node("TopK", [before, "k"], ["values", "places"]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 2]))
    proto.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, ["batch", 2]))
    with pytest.raises(
        BadInput, match=r"'values' .*in order of their size \(TopK\), expected one score for each class"
    ):
        assay.load_model(save(proto, tmp_path))


@pytest.mark.parametrize("tail", [(), ("Softmax",)])
def test_scores_in_dictionaries(tail: tuple[str, ...], tmp_path: Path) -> None:
    # as converters of scikit-learn write them unless told otherwise: a label, and a dictionary for each image
    proto = Build(tail=tail).model()
    (before,) = [one.name for one in proto.graph.output]
    node = helper.make_node("ZipMap", [before], ["by_class"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])
    label = helper.make_node("ArgMax", [before], ["label"], axis=1, keepdims=0)
    proto.graph.node.extend([node, label])
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    del proto.graph.output[:]
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    proto.graph.output.append(helper.make_value_info("by_class", helper.make_sequence_type_proto(kind)))
    spec = save(proto, tmp_path)
    model = assay.load_model(spec)
    with model.held():
        scores = model.oracle().answers(X)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    own = np.array([[one[k] for k in range(4)] for one in session.run(["by_class"], {"pixels": X.numpy()})[0]])
    torch.testing.assert_close(scores.softmax(1) if tail else scores, torch.from_numpy(own).float())
    named = assay.load_model(spec, output="by_class")
    assert torch.equal(named.module(X), model.module(X))
