"""Version 1 of the prediction protocol, as TensorFlow Serving, KServe and Vertex speak it: instances and predictions.

Source: the REST interface of TensorFlow Serving, https://www.tensorflow.org/tfx/serving/api_rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from assay.core.errors import BadInput, ModelError
from assay.models.remote.address import Address
from assay.models.remote.answers import numbers, one_whole_number_each, only, parsed
from assay.models.remote.asking import Asking, told_of_model
from assay.models.remote.client import EndpointError, Reply, Rows
from assay.models.remote.pixels import Numbers, little
from assay.models.remote.transport import Transport, excerpt
from assay.models.remote.v2 import Wishes, layout_of

_TYPES = {"DT_FLOAT": "FP32", "DT_DOUBLE": "FP64", "DT_HALF": "FP16", "DT_BFLOAT16": "BF16", "DT_UINT8": "UINT8"}
_TYPES |= {"DT_INT32": "INT32", "DT_INT64": "INT64"}


@dataclasses.dataclass(frozen=True)
class _Told:
    """What a server's metadata say of a model, None where they say nothing."""

    numbers: Numbers
    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    classes: int | None = None


class V1(Asking):
    """A client of version 1 of the protocol. The model's state and signature are read when it is made.

    Raises `BadInput` for a model that the server does not have, and where nobody says in which order the sides of an
    image are.
    """

    def __init__(
        self, transport: Transport, model: str, wishes: Wishes, params: Mapping[str, str] | None = None
    ) -> None:
        self._params = dict(params or {})
        self._input = wishes.input
        self._output = wishes.output
        where = transport.address.under(
            f"/v1/models/{model}" + (f"/versions/{wishes.version}" if wishes.version else "")
        )
        self._where = dataclasses.replace(where, path=f"{where.path}:predict")
        version = _version(transport, where, self._params)
        told = _signature(transport, where, self._params, wishes)
        self._numbers = told.numbers
        self.shape = told.shape
        classes = told.classes if wishes.classes is None else wishes.classes
        facts = {
            "protocol": "v1", "url": where.url, "version": wishes.version or version, "input": self._input,
            "output": self._output, "datatype": self._numbers.datatype, "layout": self._numbers.layout,
        }  # fmt: skip
        super().__init__(transport, {**facts, **({"params": self._params} if self._params else {})}, classes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of how images get there."""
        return (f"The endpoint {self._where.shown}: {self._numbers.loses}.",) if self._numbers.loses else ()

    @property
    def levels(self) -> bool:
        """Whether images go as grey levels."""
        return self._numbers.whole

    def content(self, row: Rows) -> bytes:
        """Return the bytes of one row as it is sent."""
        return little(self._numbers.of(row[None]))

    def ask(self, rows: Rows) -> Reply:
        """Ask about rows `[N, C, H, W]`."""
        import orjson

        self.fits(rows, self.shape)
        given = self._numbers.in_json(rows)
        instances = [{self._input: one} for one in given] if self._input else given
        content = orjson.dumps({"instances": instances}, option=orjson.OPT_SERIALIZE_NUMPY)
        kind = {"content-type": "application/json"}
        answered = self.transport.send("POST", self._where, content, headers=kind, params=self._params)
        answer = parsed(answered.body, answered, self._where.shown)
        found = self._found(answer, len(rows))
        one_whole_number_each(found, len(rows), self._where.shown)
        scores = self.checked(numbers(found, self._where.shown), len(rows))
        return Reply(scores, answered.retries, answered.doubtful)

    def _found(self, answer: Any, n: int) -> Any:
        told = answer.get("predictions", answer.get("outputs")) if isinstance(answer, Mapping) else None
        if isinstance(told, Mapping):
            return self._chosen(told)
        if not isinstance(told, list):
            raise ModelError(f"The endpoint {self._where.shown} answered no predictions: {excerpt(str(answer))}")
        if len(told) != n and not (told and not isinstance(told[0], (list, Mapping))):
            raise ModelError(f"The endpoint {self._where.shown} answered {len(told)} predictions for {n} images.")
        return [self._chosen(one) if isinstance(one, Mapping) else one for one in told]

    def _chosen(self, outputs: Mapping[str, Any]) -> Any:
        names = list(outputs)
        if self._output in outputs:
            return outputs[self._output]
        if not self._output and len(names) == 1:
            return outputs[names[0]]
        raise ModelError(
            f"The endpoint {self._where.shown} answers {', '.join(names) or 'nothing'}; say which of them the scores "
            f"are: output={names[0] if names else 'NAME'}."
        )


def _version(transport: Transport, where: Address, params: Mapping[str, str]) -> str:
    state = told_of_model(transport, where, params)
    versions = state.get("model_version_status") if isinstance(state, Mapping) else None
    ready = [one for one in versions or [] if isinstance(one, Mapping) and one.get("state") == "AVAILABLE"]
    # the newest is asked where none is named
    return max((str(one.get("version", "")) for one in ready), key=lambda one: (len(one), one), default="")


def _signature(transport: Transport, where: Address, params: Mapping[str, str], wishes: Wishes) -> _Told:
    inputs, outputs = _tensors(transport, where, params)
    if not inputs:
        if not wishes.layout:
            raise BadInput(
                f"The endpoint {where.shown} does not say in which order it takes the sides of an image. Say "
                "layout=nhwc (channels last, as TensorFlow) or layout=nchw (channels first, as PyTorch)."
            )
        return _Told(Numbers("FP32", wishes.layout))
    image, scores = (
        only(inputs, wishes.input, "input", where.shown),
        only(outputs, wishes.output, "output", where.shown),
    )
    sides = _sides(image)
    if len(sides) != 4:
        raise BadInput(
            f"The input {image['name']} of {where.shown} has the shape {sides}, expected that of images: [N, H, W, C]."
        )
    layout = wishes.layout or layout_of(sides[1:], where.shown, str(image["name"]))
    order = (sides[3], sides[1], sides[2]) if layout == "nhwc" else (sides[1], sides[2], sides[3])
    channels, height, width = (side if side > 0 else None for side in order)
    last = _sides(scores)[-1:]
    datatype = str(image.get("dtype", ""))
    return _Told(
        Numbers(_TYPES.get(datatype, datatype), layout), (channels, height, width),
        last[0] if last and last[0] > 1 else None,
    )  # fmt: skip


def _tensors(transport: Transport, where: Address, params: Mapping[str, str]) -> tuple[list[Any], list[Any]]:
    """Return inputs and outputs of the signature that is asked; none from servers that state none."""
    try:
        answered = transport.send("GET", where.under("/metadata"), params=params)
    except EndpointError as error:
        if error.status in (400, 403, 404, 405, 501):
            # only TensorFlow Serving has it
            return [], []
        raise
    try:
        told = parsed(answered.body, answered, where.shown)
        signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
        parts = [[{"name": name, **one} for name, one in signature[part].items()] for part in ("inputs", "outputs")]
    except (ModelError, KeyError, TypeError, AttributeError):
        return [], []
    return parts[0], parts[1]


def _sides(tensor: Mapping[str, Any]) -> list[int]:
    dimensions = (tensor.get("tensor_shape") or {}).get("dim") or []
    return [int(one.get("size", -1)) for one in dimensions]
