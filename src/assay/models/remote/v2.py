"""The Open Inference Protocol (v2), as Triton, KServe, MLServer and others speak it: JSON, and binary where it works.

Source: the protocol's definition, https://github.com/kserve/open-inference-protocol, and its extension for binary data,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.core.errors import BadInput, ModelError
from assay.models.remote.answers import numbers, only, parsed
from assay.models.remote.asking import Asking, told_of_model
from assay.models.remote.client import EndpointError, Reply, Rows
from assay.models.remote.pixels import FLOATS, INTEGERS, LAYOUTS, Numbers, from_bfloat16, in_json, little
from assay.models.remote.transport import Answered, Transport, excerpt
from assay.models.static_batch import filled

BINARY = ("auto", "on", "off")

# images of fewer numbers are not worth the two rows that looking for the binary form costs
_WORTH_IT = 1024
_LENGTH = "inference-header-content-length"


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What the user says of a model beside its name, "" or None where nothing is said.

    `input` and `output` are names of tensors, `layout` nchw or nhwc, `binary` auto, on or off, `classes` their number,
    and `top` 1 asks for the first label alone, by the parameter `classification`.
    """

    version: str = ""
    input: str = ""
    output: str = ""
    layout: str = ""
    binary: str = "auto"
    classes: int | None = None
    top: int | None = None


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a server says of a model: its input as sent, the sides of an image where they are fixed, and its output.

    `batch` is the number of images that it takes, None for any; a `single` one is sent without a dimension for it.
    """

    name: str
    versions: tuple[str, ...]
    input: str
    numbers: Numbers
    batch: int | None
    single: bool
    shape: tuple[int | None, int | None, int | None]
    output: str
    output_type: str
    classes: int | None


class V2(Asking):
    """A client of the Open Inference Protocol. The server's metadata are read when it is made.

    Raises `BadInput` for a model or tensor that the server does not have, and for one that is no image classifier's.
    """

    def __init__(
        self, transport: Transport, model: str, wishes: Wishes, params: Mapping[str, str] | None = None
    ) -> None:
        base = transport.address
        path = f"/v2/models/{model}" + (f"/versions/{wishes.version}" if wishes.version else "")
        self._where = base.under(path)
        self._params = dict(params or {})
        self.signature = read(told_of_model(transport, self._where, self._params), self._where.shown, wishes)
        if self.signature.batch is not None:
            transport.limits = dataclasses.replace(transport.limits, batch=self.signature.batch)
        self._top = wishes.top
        labels = wishes.top is not None or self.signature.output_type in INTEGERS
        facts: dict[str, Any] = {
            "protocol": "v2", "url": self._where.url, "model": self.signature.name, "version": wishes.version,
            "versions": self.signature.versions, "input": self.signature.input, "output": self.signature.output,
            "datatype": self.signature.numbers.datatype, "layout": self.signature.numbers.layout,
        }  # fmt: skip
        facts |= {"params": self._params} if self._params else {}
        facts |= {"top": wishes.top} if wishes.top else {}
        facts |= {"binary": True} if wishes.binary == "on" else {}
        super().__init__(transport, facts, self.signature.classes, labels)
        self._binary: bool | None = {"on": True, "off": False, "auto": None}[wishes.binary]
        if wishes.binary == "auto" and (labels or _values(self.signature.shape) < _WORTH_IT):
            self._binary = False
        if self.signature.numbers.datatype == "BF16":
            self._binary = True
        self._looking = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_looking": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._looking = threading.Lock()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of how images get there."""
        lost = self.signature.numbers.loses
        return (f"The endpoint {self._where.shown}: {lost}.",) if lost else ()

    @property
    def levels(self) -> bool:
        """Whether images go as grey levels."""
        return self.signature.numbers.whole

    def content(self, row: Rows) -> bytes:
        """Return the bytes of one row as it is sent."""
        return little(self.signature.numbers.of(row[None]))

    def ask(self, rows: Rows) -> Reply:
        """Ask about rows `[N, C, H, W]`."""
        self.fits(rows, self.signature.shape)
        looked = None
        if self._binary is None:
            with self._looking:
                looked = self._looked(rows[:1])
            if looked is not None and len(rows) == 1:
                return looked
        reply = self._request(rows, binary=bool(self._binary))
        return reply if looked is None else dataclasses.replace(reply, extra=reply.extra + looked.extra + 1)

    def _looked(self, row: Rows) -> Reply | None:
        # another thread may have looked meanwhile
        return None if self._binary is not None else self._look(row)

    def _look(self, row: Rows) -> Reply:
        """Ask about one row in both forms: binary is taken where it gives the same scores to the last bit."""
        told = self._request(row, binary=False)
        try:
            again = self._request(row, binary=True, tries=2)
        except (EndpointError, ModelError):
            self._binary = False
        else:
            self._binary = bool(np.array_equal(told.scores, again.scores))
        # a server that failed at the second may have counted it
        return dataclasses.replace(told, extra=2 * told.extra + 1)

    def _request(self, rows: Rows, *, binary: bool, tries: int | None = None) -> Reply:
        whole = filled(rows, self.signature.batch)
        given = self.signature.numbers.of(whole)
        given = given[0] if self.signature.single else given
        content, headers = self._body(given, binary)
        where = self._where.under("/infer")
        answered = self.transport.send("POST", where, content, headers=headers, params=self._params, tries=tries)
        scores = self._scores(answered, len(whole))[: len(rows)]
        return Reply(np.ascontiguousarray(scores), answered.retries, answered.doubtful, len(whole) - len(rows))

    def _body(self, given: Rows, binary: bool) -> tuple[bytes, dict[str, str]]:
        import orjson

        said = self.signature
        image: dict[str, Any] = {"name": said.input, "shape": list(given.shape), "datatype": said.numbers.datatype}
        output: dict[str, Any] = {"name": said.output}
        if self._top is not None:
            output["parameters"] = {"classification": self._top}
        elif binary:
            output["parameters"] = {"binary_data": True}
        request: dict[str, Any] = {"id": str(next(self._count)), "inputs": [image]}
        request |= {"outputs": [output]} if said.output else {}
        if not binary:
            image["data"] = in_json(given).reshape(-1)
            return orjson.dumps(request, option=orjson.OPT_SERIALIZE_NUMPY), {"content-type": "application/json"}
        data = little(given)
        image["parameters"] = {"binary_data_size": len(data)}
        head = orjson.dumps(request)
        return head + data, {"content-type": "application/octet-stream", _LENGTH: str(len(head))}

    def _scores(self, answered: Answered, n: int) -> Rows:
        shown, length = self._where.shown, answered.headers.get(_LENGTH, "")
        head, tail = answered.body, b""
        if length.isdigit():
            head, tail = answered.body[: int(length)], answered.body[int(length) :]
        answer = parsed(head, answered, shown)
        outputs = answer.get("outputs") if isinstance(answer, dict) else None
        if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
            raise ModelError(
                f"The endpoint {shown} answered no outputs: {excerpt(head[:2000].decode('utf-8', 'replace'))}"
            )
        self.same_version(str(answer.get("model_version") or ""))
        wanted = self.signature.output or (str(outputs[0].get("name")) if len(outputs) == 1 else "")
        at = 0
        for one in outputs:
            size = _size_of(one)
            if one.get("name") == wanted:
                return self._read(one, None if size is None else tail[at : at + size], n)
            at += size or 0
        names = ", ".join(str(one.get("name")) for one in outputs)
        raise ModelError(
            f"The endpoint {shown} answered {names or 'nothing'}, expected the output {wanted or 'of scores alone'}."
        )

    def _read(self, output: Mapping[str, Any], raw: bytes | None, n: int) -> Rows:
        shown = self._where.shown
        if self._top is not None:
            return self.checked(_first_labels(output, shown), n)
        kind = str(output.get("datatype", ""))
        if kind in (*INTEGERS, "INT8") and not self.labels:
            raise ModelError(
                f"The endpoint {shown} answered {kind}, and its metadata say {self.signature.output_type}: class "
                "numbers, where scores were announced? Put its metadata right."
            )
        return self.checked(_shaped(_values_of(output, raw, shown), output, n, shown), n)


def read(metadata: Any, shown: str, wishes: Wishes) -> Signature:
    """Return what metadata say, checked: one image goes in, and one row of scores per image comes out.

    Raises `BadInput` for tensors that fit no image classifier, or where there is a choice that the user has to make.
    """
    told = metadata if isinstance(metadata, dict) else {}
    images, found = ([one for one in told.get(key) or () if isinstance(one, dict)] for key in ("inputs", "outputs"))
    if not images:
        return _unstated(told, shown, wishes)
    image, scores = only(images, wishes.input, "input", shown), only(found, wishes.output, "output", shown)
    sides = [int(side) for side in image.get("shape") or ()]
    if len(sides) not in (3, 4):
        raise BadInput(
            f"The input {image['name']} of {shown} has the shape {sides}, expected that of images: [N, C, H, W] or "
            "[N, H, W, C]."
        )
    single = len(sides) == 3
    batch = sides[0] if not single and sides[0] > 0 else None
    layout = wishes.layout or layout_of(sides[-3:], shown, str(image["name"]))
    if layout not in LAYOUTS:
        raise BadInput(f"layout is {layout!r}, expected nchw (channels first) or nhwc (channels last).")
    order = sides[-3:] if layout == "nchw" else [sides[-1], sides[-3], sides[-2]]
    channels, height, width = (side if side > 0 else None for side in order)
    kind = str(scores.get("datatype", ""))
    if kind not in FLOATS and kind != "BF16" and kind not in (*INTEGERS, "INT8") and not wishes.top:
        raise BadInput(
            f"The output {scores['name']} of {shown} is {kind or 'of no type'}, expected scores (FP32) or class "
            "numbers (INT64). Where the server names labels as text, describe it in an endpoint.yaml."
        )
    classes = _classes(scores, wishes, labels=kind in (*INTEGERS, "INT8"), shown=shown)
    versions = tuple(str(one) for one in metadata.get("versions") or ())
    return Signature(
        str(metadata.get("name", "")), versions, str(image["name"]), Numbers(str(image.get("datatype", "")), layout),
        1 if single else batch, single, (channels, height, width), str(scores["name"]), kind, classes,
    )  # fmt: skip


def _unstated(metadata: Mapping[str, Any], shown: str, wishes: Wishes) -> Signature:
    """Return what the user says of a model whose server says nothing."""
    if not wishes.input or not wishes.layout:
        raise BadInput(
            f"The endpoint {shown} does not say what its model takes. State its tensors where the model is configured "
            "(in MLServer's model-settings.json), or say what they are: ?input=NAME&layout=nchw&size=224."
        )
    versions = tuple(str(one) for one in metadata.get("versions") or ())
    return Signature(
        str(metadata.get("name", "")), versions, wishes.input, Numbers("FP32", wishes.layout), None, False,
        (None, None, None), wishes.output, "FP32", wishes.classes,
    )  # fmt: skip


def layout_of(sides: list[int], shown: str, name: str) -> str:
    """Return nchw or nhwc of an image's sides. Raises `BadInput` where neither end has 1 or 3, or both have."""
    first, last = sides[0] in (1, 3), sides[2] in (1, 3)
    if first == last:
        raise BadInput(
            f"The input {name} of {shown} has the shape {sides} per image, which does not say where the channels are. "
            "Say layout=nchw or layout=nhwc."
        )
    return "nchw" if first else "nhwc"


def _classes(scores: Mapping[str, Any], wishes: Wishes, *, labels: bool, shown: str) -> int | None:
    sides = [int(side) for side in scores.get("shape") or ()]
    while len(sides) > 2 and sides[-1] == 1:
        sides.pop()
    told = sides[-1] if not labels and sides and sides[-1] > 0 and len(sides) in (1, 2) else None
    # one number per image may be all that the shape says: [N]
    told = None if len(sides) == 1 and told == 1 else told
    if told is not None and wishes.classes is not None and told != wishes.classes:
        raise BadInput(f"classes is {wishes.classes}, and the endpoint {shown} answers {told} scores per image.")
    found = told if wishes.classes is None else wishes.classes
    if found is None and (labels or wishes.top):
        raise BadInput(f"The endpoint {shown} answers class numbers. Say how many classes there are: classes=10.")
    return found


def _values(shape: tuple[int | None, int | None, int | None]) -> int:
    channels, height, width = shape
    # a side that is not fixed is taken for that of a photograph
    return (channels or 3) * (height or 224) * (width or 224)


def _size_of(output: Mapping[str, Any]) -> int | None:
    parameters = output.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if isinstance(size, int) and size >= 0 else None


def _values_of(output: Mapping[str, Any], raw: bytes | None, shown: str) -> Rows:
    if raw is None:
        return numbers(output.get("data"), shown)
    kind = str(output.get("datatype", ""))
    types = {**FLOATS, **INTEGERS, "INT8": np.int8, "BF16": np.uint16}
    if kind not in types:
        raise ModelError(f"The endpoint {shown} answered {kind or 'no type'} in binary form, expected numbers.")
    kind_of = np.dtype(types[kind]).newbyteorder("<")
    size = int(output["parameters"]["binary_data_size"])
    if len(raw) != size or size % kind_of.itemsize:
        raise ModelError(f"The endpoint {shown} answered {len(raw)} bytes, and announced {size} of {kind}.")
    found = np.frombuffer(raw, kind_of)
    return from_bfloat16(found) if kind == "BF16" else found.astype(np.float32)


def _shaped(values: Rows, output: Mapping[str, Any], n: int, shown: str) -> Rows:
    try:
        return values.reshape([int(side) for side in output.get("shape") or ()] or values.shape)
    except (TypeError, ValueError):
        raise ModelError(
            f"The endpoint {shown} answered {values.size} numbers for {n} images, and says that their shape is "
            f"{output.get('shape')}."
        ) from None


def _first_labels(output: Mapping[str, Any], shown: str) -> Rows:
    # "score:index" or "score:index:label", the first of each image
    data = np.asarray(output.get("data") or [], dtype=object).reshape(-1)
    try:
        return np.array([int(str(one).split(":")[1]) for one in data], dtype=np.float32)
    except (IndexError, ValueError):
        raise ModelError(
            f"The endpoint {shown} answered {excerpt(str(data[:3].tolist()))} for the parameter classification, "
            'expected texts such as "0.97:3:cat".'
        ) from None
