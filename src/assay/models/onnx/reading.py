"""What an ONNX file is: its graph, all files that it consists of, and their digest."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.models.foreign import ONNX, what_else
from assay.models.model_file import check_there, nearly

EXTRA = "pip install 'assay[onnx]'"
STANDARD_DOMAINS = ("", "ai.onnx")

_PIECE = 1 << 22
# activations are rounded by these: their derivative is 0 almost everywhere
_ROUNDING = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
)
# what draws random numbers; Dropout does where it was exported in train mode
_DRAWING = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
)


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or output: its name, NumPy type ("" for what is no tensor), and shape, None for what varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sides = "?" if self.shape is None else ", ".join("?" if one is None else str(one) for one in self.shape)
        return f"{self.name} [{sides}] {self.dtype or 'no tensor'}"


@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """An ONNX model as read: where it lies, what it takes and gives, and the digest of all of its bytes.

    `proto` is the graph without the weights that lie in other files. `domains` are those of operators that are not
    ONNX's own, `operators` the names of all.
    """

    path: Path
    proto: Any
    digest: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: frozenset[str]
    domains: frozenset[str]

    @property
    def rounds(self) -> tuple[str, ...]:
        """The operators that round values between layers, as a quantised network does."""
        return tuple(sorted(_ROUNDING & self.operators))

    @property
    def draws(self) -> tuple[str, ...]:
        """The operators that may draw random numbers."""
        return tuple(sorted(_DRAWING & self.operators))

    @property
    def half(self) -> bool:
        """Whether it computes in half precision somewhere."""
        import onnx

        halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        casts = (one for node in self.proto.graph.node if node.op_type == "Cast" for one in node.attribute)
        return any(one.data_type in halves for one in _tensors(self.proto.graph)) or any(
            one.name == "to" and one.i in halves for one in casts
        )

    def whole(self) -> Any:
        """Return the graph with all of its weights, a copy that may be changed."""
        import onnx

        return onnx.load(str(self.path))

    def class_names(self, count: int) -> tuple[str, ...] | None:
        """Return the names of `count` classes where the file's metadata say them."""
        said = {one.key.lower(): one.value for one in self.proto.metadata_props}
        for key in ("names", "classes", "class_names", "labels"):
            names = _names_in(said.get(key, ""))
            if len(names) == count and len(set(names)) == count:
                return names
        return None


def needed(name: str, what: str) -> Any:
    """Import a library of the extra `onnx`. Raises `BadInput` with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise BadInput(f"{what} needs {name}, which is not installed. Install it with: {EXTRA}") from error
        raise BadInput(f"{what} needs {name}, which could not be imported: {error}. Reinstall it: {EXTRA}") from error


def read(path: Path, spec: str) -> OnnxFile:
    """Read an ONNX file. Raises `BadInput` for one that is missing, damaged, incomplete, or something else."""
    onnx = needed("onnx", spec)
    _check_there(path, spec)
    content = path.read_bytes()
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:
        raise _no_onnx(path) from error
    if not proto.graph.node or not proto.opset_import:
        raise _no_onnx(path)
    content_digest = hashlib.blake2b(content, digest_size=16)
    for place, end in sorted(_outside(proto, onnx, path).items()):
        _add_file(content_digest, path, place, end)
    nodes = list(_nodes(proto.graph))
    weights = {one.name for one in proto.graph.initializer}
    return OnnxFile(
        # not resolved: in a cache of links the weights lie beside the link
        path.absolute(),
        proto,
        content_digest.hexdigest(),
        # files of an early version list the weights among the inputs
        tuple(_port(one, onnx) for one in proto.graph.input if one.name not in weights),
        tuple(_port(one, onnx) for one in proto.graph.output),
        frozenset(node.op_type for node in nodes),
        frozenset(node.domain for node in nodes) - frozenset(STANDARD_DOMAINS),
    )


def _check_there(path: Path, spec: str) -> None:
    if path.is_dir():
        inside = sorted(one.name for one in path.glob("*.onnx"))
        found = f" It holds {', '.join(inside[:3])}." if inside else ""
        raise BadInput(f"{path} (from {spec!r}) is a folder, expected an ONNX file.{found}")
    check_there(path, spec)
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty (0 bytes), expected an ONNX file. Copy or download it again.")


def _no_onnx(path: Path) -> BadInput:
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:8] == b"ORTM":
        return BadInput(
            f"{path} is a model in onnxruntime's own format (.ort), expected ONNX. Give the .onnx file it was made of."
        )
    said = what_else(path)
    if said and said != ONNX:
        return BadInput(f"{path} is no ONNX file but {said}")
    return BadInput(f"{path} is no ONNX file, or a damaged one: its graph cannot be read. Copy or export it again.")


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _tensors(inner)


def _outside(proto: Any, onnx: Any, path: Path) -> dict[str, int]:
    """Return the files that hold weights of the graph, by their names in it, and how many bytes each has to have."""
    found: dict[str, int] = {}
    for tensor in _tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        facts = {one.key: one.value for one in tensor.external_data}
        place = facts.get("location", "")
        parts = Path(place).parts
        if not place or Path(place).is_absolute() or ".." in parts:
            raise BadInput(
                f"{path} keeps weights in {place!r}, expected a file beside it. Save the model again with its weights "
                "in a file of the same folder."
            )
        try:
            end = int(facts.get("offset", 0)) + int(facts.get("length", 0))
        except ValueError as error:
            raise BadInput(f"{path} says of its weights in {place!r} where they lie, but in no numbers.") from error
        found[place] = max(end, found.get(place, 0))
    return found


def _add_file(content: Any, path: Path, place: str, end: int) -> None:
    """Add a file of weights to a running digest."""
    file = path.parent / place
    if not file.is_file():
        raise BadInput(
            f"{path} keeps its weights in a second file, {place}, which is not beside it.{nearly(file)} Copy both into "
            "one folder; a file renamed after the export is not found either."
        )
    if file.stat().st_size < end:
        raise BadInput(
            f"{file} has {file.stat().st_size} bytes, and {path.name} has weights in it up to byte {end}: it was not "
            "copied whole, or belongs to another model. Copy it again."
        )
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            content.update(piece)


def _port(value: Any, onnx: Any) -> Port:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Port(value.name, "", None)
    dtype = ""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if not kind.HasField("shape"):
        return Port(value.name, dtype, None)
    # exporters of Paddle write -1 for what varies
    sides = (one.dim_value if one.HasField("dim_value") else 0 for one in kind.shape.dim)
    return Port(value.name, dtype, tuple(side if side > 0 else None for side in sides))


def _names_in(text: str) -> tuple[str, ...]:
    """Return the names in a list or a numbered dictionary, as JSON or as Python prints it; () for anything else."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(value, dict):
            try:
                numbered = {int(key): name for key, name in value.items()}
            except (TypeError, ValueError):
                continue
            value = [numbered[k] for k in sorted(numbered)] if sorted(numbered) == list(range(len(numbered))) else []
        if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            return tuple(value)
    return ()
