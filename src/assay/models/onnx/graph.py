"""Changes of an ONNX graph: which tensor is the scores, and what a converter can read."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.models.onnx.reading import OnnxFile, Port

# what may stand between the activation at the end and the output, and moves no value
_PASSING = frozenset({"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_ENDS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "ArgMax": "argmax"}
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class Head:
    """The end of a network: the file's output, the tensor that is attacked, and the activation between the two.

    `end` is "softmax", "sigmoid", "argmax", or "" where the output itself is attacked.
    """

    output: Port
    tensor: str
    end: str = ""


def chosen_output(file: OnnxFile, name: str | None, spec: str) -> Port:
    """Return the output called `name`, or the one that can be class scores. Raises `BadInput` where that is open."""
    listed = "; ".join(map(str, file.outputs))
    if name is not None:
        found = next((one for one in file.outputs if one.name == name), None)
        if found is None:
            near = did_you_mean(name, [one.name for one in file.outputs])
            raise BadInput(f"{spec!r} has no output {name!r}.{near} It has: {listed}.")
        return _before_map(file, found)
    if len(file.outputs) == 1:
        return _before_map(file, file.outputs[0])
    scores = [one for one in map(functools.partial(_before_map, file), file.outputs) if _may_be_scores(one)]
    if len(scores) == 1:
        return scores[0]
    which = "none of which is [N, K]" if not scores else f"{len(scores)} of which may be class scores"
    first = (scores or list(file.outputs))[0].name
    raise BadInput(
        f"{spec!r} has {len(file.outputs)} outputs, {which}: {listed}. Say which holds the class scores: "
        f"{spec}{'&' if '?' in spec else '?'}output={first}."
    )


def _before_map(file: OnnxFile, output: Port) -> Port:
    """Return the scores `[N, K]` that a list of dictionaries, class to score, is made of; any other output as it is."""
    if output.dtype:
        return output
    node = next((one for one in file.proto.graph.node if output.name in one.output), None)
    if node is None or node.op_type != "ZipMap":
        return output
    classes = max(len(one.strings) + len(one.ints) for one in node.attribute)
    return Port(node.input[0], "float32", (None, classes))


def _may_be_scores(port: Port) -> bool:
    if port.dtype not in _FLOATS or port.shape is None:
        return False
    # [N, K], and [N, K, 1, 1] of networks that pool last
    return len(port.shape) >= 2 and set(port.shape[2:]) <= {1}


def head_of(file: OnnxFile, output: Port) -> Head:
    """Return where a softmax, a sigmoid or an argmax at the end begins."""
    node = _last(file, output)
    if node is None or node.op_type not in _ENDS or node.domain not in ("", "ai.onnx"):
        return Head(output, output.name)
    return Head(output, node.input[0], _ENDS[node.op_type])


def refuse_sorted(file: OnnxFile, output: Port, spec: str) -> None:
    """Raise `BadInput` for scores that are the largest few, in order of their size: none of them is a class's own."""
    node = _last(file, output)
    if node is not None and node.op_type == "TopK":
        raise BadInput(
            f"The output {output.name!r} of {spec!r} is the largest scores in order of their size (TopK), expected one "
            "score for each class in the order of the classes. Export the model without it, or name an output from "
            "before it: ?output=NAME."
        )


def _last(file: OnnxFile, output: Port) -> Any:
    """Return the node that an output comes out of, None where it is no node's; what moves no value is passed over."""
    makers = {name: node for node in file.proto.graph.node for name in node.output}
    name = output.name
    while (node := makers.get(name)) is not None and node.op_type in _PASSING:
        name = node.input[0]
    return node


def with_outputs(proto: Any, tensors: Sequence[str]) -> Any:
    """Return a copy of a graph in which `tensors` are outputs, after all others."""
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for tensor in tensors:
        known = next((one for one in changed.graph.value_info if one.name == tensor), None)
        changed.graph.output.append(known or onnx.ValueInfoProto(name=tensor))
    return changed


def for_conversion(proto: Any, tensor: str) -> Any:
    """Return a whole graph, changed in place, as converters read it: what leads to `tensor`, and nothing else.

    Weights that go through `Identity`, or stand in `Constant` nodes, become plain weights; attributes of training are
    left out, and half precision becomes float32. None of that moves a value by more than rounding.
    """
    import onnx

    graph = proto.graph
    _only_what_leads_to(graph, tensor, onnx)
    _plain_weights(graph, onnx)
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            kept = [one for one in node.attribute if one.name != "training_mode" or one.i]
            del node.attribute[:]
            node.attribute.extend(kept)
    _in_single_precision(graph, onnx)
    # shapes of what is inside are stale now, and nobody needs them
    del graph.value_info[:]
    return proto


def _only_what_leads_to(graph: Any, tensor: str, onnx: Any) -> None:
    needed, kept = _leading_to(graph, tensor)
    whole = [onnx.NodeProto.FromString(one.SerializeToString()) for one in kept]
    del graph.node[:]
    graph.node.extend(whole)
    weights = [one for one in graph.initializer if one.name in needed]
    output = next((one for one in (*graph.output, *graph.value_info) if one.name == tensor), None)
    output = output or onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None)
    names = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in names]
    for field, values in ((graph.initializer, weights), (graph.output, [output]), (graph.input, inputs)):
        copies = [type(one).FromString(one.SerializeToString()) for one in values]
        del field[:]
        field.extend(copies)


def _leading_to(graph: Any, tensor: str) -> tuple[set[str], list[Any]]:
    """Return the names that a tensor is computed from, and the nodes, each after those that it needs.

    A file may list them in another order: onnxruntime takes that, and its own tools write it.
    """
    makers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    needed, done, kept = {tensor}, set(), []
    # a node comes back once all that it needs is done
    stack = [(makers[tensor], False)] if tensor in makers else []
    while stack:
        at, ready = stack.pop()
        if ready:
            kept.append(graph.node[at])
        elif at not in done:
            done.add(at)
            names = _read_by(graph.node[at])
            needed.update(names)
            stack.append((at, True))
            stack += [(makers[name], False) for name in reversed(names) if name in makers]
    return needed, kept


def _read_by(node: Any) -> list[str]:
    """Return the names that a node reads, and those that graphs inside of it read."""
    names = list(node.input)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            names += [name for one in inner.node for name in _read_by(one)]
            names += [one.name for one in inner.output]
    return names


def _plain_weights(graph: Any, onnx: Any) -> None:
    weights = {one.name: one for one in graph.initializer}
    kept = []
    for node in graph.node:
        tensor = None
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in weights:
            tensor = weights[node.input[0]]
        if tensor is None:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            continue
        copy = onnx.TensorProto.FromString(tensor.SerializeToString())
        copy.name = node.output[0]
        graph.initializer.append(copy)
        weights[copy.name] = copy
    del graph.node[:]
    graph.node.extend(kept)


def _in_single_precision(graph: Any, onnx: Any) -> None:
    halves, single = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16), onnx.TensorProto.FLOAT
    for at, one in enumerate(graph.initializer):
        if one.data_type in halves:
            array = onnx.numpy_helper.to_array(one).astype("float32")
            graph.initializer[at].CopyFrom(onnx.numpy_helper.from_array(array, one.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in halves:
                attribute.i = single
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in halves:
            value.type.tensor_type.elem_type = single
