"""What the graph of a compiled program tells of it: a train mode that was compiled in, and steps without a slope."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

# operators whose derivative is zero, or that cut the graph, by their names without namespace and overload
_FLAT = frozenset(
    {
        "round",
        "round_",
        "floor",
        "floor_",
        "ceil",
        "ceil_",
        "trunc",
        "trunc_",
        "fix",
        "sign",
        "sign_",
        "sgn",
        "heaviside",
    }
    | {"bucketize", "searchsorted", "argmax", "argmin", "one_hot", "detach", "detach_", "quantize_per_tensor"}
    | {"quantize_per_channel", "fake_quantize_per_tensor_affine", "wrap_with_set_grad_enabled", "floor_divide"}
    | {"quantize_per_tensor_dynamic", "choose_qparams"}
)
_BATCH_NORMS = frozenset(
    {"batch_norm", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update"}
    | {"_native_batch_norm_legit", "_native_batch_norm_legit_functional", "batch_norm_with_update"}
)


@dataclasses.dataclass(frozen=True)
class GraphFacts:
    """Layers compiled in train mode, steps without a slope on the way from the image, and what draws random numbers."""

    training: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the draws."""
        if not self.draws:
            return ()
        return (
            f"The program draws random numbers ({', '.join(self.draws)}): it answers differently from call to call.",
        )


def of_program(graph: fx.Graph, images: str) -> GraphFacts:
    """Return the facts of a graph of torch.export, whose argument `images` is called so."""
    touched: set[fx.Node] = set()
    cuts: dict[str, None] = {}
    training: dict[str, None] = {}
    drawn: dict[str, None] = {}
    for node in graph.nodes:
        if node.op == "placeholder" and node.name == images:
            touched.add(node)
        if node.op != "call_function":
            continue
        name = _plain(getattr(node.target, "__name__", str(node.target)))
        if any(one in touched for one in node.all_input_nodes):
            touched.add(node)
            if name in _FLAT:
                cuts[name] = None
        values = _arguments(node)
        if _trains(name, values):
            training[_layer(name)] = None
        elif torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and not _has_mode(values):
            drawn[name] = None
    return _facts(training, cuts, drawn)


def of_script(graph: Any) -> GraphFacts:
    """Return the facts of the inlined graph of a TorchScript module in eval mode."""
    cuts: dict[str, None] = {}
    training: dict[str, None] = {}
    drawn: dict[str, None] = {}
    for node in _nodes(graph):
        name = node.kind().partition("::")[2]
        if name in _FLAT:
            cuts[name] = None
        if node.schema() == "(no schema)":
            continue
        schema = torch._C.parse_schema(node.schema())
        inputs = zip(schema.arguments, node.inputs(), strict=False)
        values = {one.name: _constant(value) for one, value in inputs}
        if _trains(name, values):
            training[_layer(name)] = None
        elif name in _DRAWS:
            drawn[name] = None
    return _facts(training, cuts, drawn)


_DRAWS = frozenset(
    {
        "rand",
        "randn",
        "rand_like",
        "randn_like",
        "randint",
        "randint_like",
        "bernoulli",
        "bernoulli_",
        "normal",
        "normal_",
    }
    | {"uniform_", "multinomial", "randperm", "exponential_", "poisson"}
)


def _facts(training: Mapping[str, None], cuts: Mapping[str, None], drawn: Mapping[str, None]) -> GraphFacts:
    return GraphFacts(tuple(training), tuple(cuts), tuple(drawn))


def _plain(name: str) -> str:
    return name.partition(".")[0]


def _layer(name: str) -> str:
    if "batch_norm" in name:
        return "batch norm's statistics of the batch"
    return "attention's dropout" if "attention" in name else name.removeprefix("native_").rstrip("_")


def _arguments(node: fx.Node) -> dict[str, Any]:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    given = {one.name: one.default_value for one in schema.arguments if one.has_default_value()}
    given.update({one.name: value for one, value in zip(schema.arguments, node.args, strict=False)})
    given.update(node.kwargs)
    return given


def _has_mode(values: Mapping[str, Any]) -> bool:
    return any(name in values for name in ("train", "training", "dropout_p"))


def _trains(name: str, values: Mapping[str, Any]) -> bool:
    """Whether an operator was compiled in train mode. Instance norm, which has no statistics, is the same in either."""
    on = values.get("train") is True or values.get("training") is True
    if name in _BATCH_NORMS:
        return on and values.get("running_mean", None) is not None
    if "batch_norm" in name:
        return False
    chance = values.get("p", values.get("dropout_p"))
    if "dropout" in name:
        return on and chance != 0
    return on or (isinstance(values.get("dropout_p"), float) and values["dropout_p"] > 0)


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


_UNKNOWN = object()


def _constant(value: Any) -> Any:
    node = value.node()
    if node.kind() != "prim::Constant":
        # what the module says of its own mode, and weights
        return _UNKNOWN
    return value.toIValue()
