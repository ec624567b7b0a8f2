"""An endpoint described in a file: where it is, what is sent, what the answer means, and how much may be asked."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from assay.core.errors import BadInput, did_you_mean

# more than any description holds; aliases that multiply would otherwise fill the memory
_MOST_NODES = 10_000

Where = tuple[str | int, ...]


def _text(value: Any) -> Any:
    # a version or a number is written without quotes
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]
Again = Annotated[int, Field(ge=400, le=599)] | Literal["reset", "timeout"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerPart(_Part):
    """Where scores and labels stand in the answer, and what they are."""

    scores: str = Field("", description="Path of the scores: result.scores, [*].score")
    labels: str = Field("", description="Path of the labels, where they say which score is whose")
    outputs: Literal["logits", "probabilities", "labels"] = Field(
        "logits", description="What the scores are; labels: only the first label counts"
    )

    @model_validator(mode="after")
    def _complete(self) -> AnswerPart:
        if self.outputs == "labels" and not self.labels:
            raise ValueError("outputs: labels needs to know where a label stands: labels: result.label.")
        if self.outputs != "labels" and not self.scores:
            raise ValueError("Say where the scores stand, scores: result.scores, or take outputs: labels.")
        return self


class LimitsPart(_Part):
    """What the endpoint may be asked."""

    queries: Annotated[int, Field(ge=1)] | None = Field(None, description="The most rows it answers")
    price: float = Field(0.0, ge=0, description="What one row costs")
    budget: Annotated[float, Field(gt=0)] | None = Field(None, description="The most that all may cost")
    currency: str = Field("", description="The currency of price and budget")
    per_second: Annotated[float, Field(gt=0)] | None = Field(None, description="The most requests a second")
    parallel: int = Field(1, ge=1, description="Requests under way at once")
    batch: int = Field(16, ge=1, description="The most rows of one request")
    timeout: float = Field(30.0, gt=0, description="Seconds that one request may take")


class RetryPart(_Part):
    """When a request is sent again, and how often it is sent at most."""

    tries: int = Field(5, ge=1, description="How often a request is sent at most")
    on: tuple[Again, ...] = Field((429, 502, 503, 504, "reset", "timeout"), description="After what")


class Description(_Part):
    """What a file says of an endpoint."""

    protocol: Literal["json", "v2", "v1"] = Field("json", description="json is any API that takes and gives JSON")
    url: str = Field(description="Its address; for v2 and v1 with the model's name at the end")
    version: Text = Field("", description="The model's version: asked for (v2, v1), or a name of yours (json)")
    image: str = Field("", description="json: png, jpeg:QUALITY, or floats")
    request: Any = Field(None, description="json: what is sent, with $image or $images where images go")
    answer: AnswerPart | None = Field(None, description="json: where the scores stand in the answer")
    outputs: Literal["logits", "probabilities"] | None = Field(None, description="v2, v1: what the scores are")
    classes: int | tuple[Text, ...] | str | None = Field(None, description="Their number, names, or a file of names")
    input: str = Field("", description="v2, v1: the tensor that takes the image")
    output: str = Field("", description="v2, v1: the tensor of the scores")
    binary: str = Field("", description="v2: auto, on or off")
    top: int | None = Field(None, description="v2: 1 asks for the first label alone")
    layout: str = Field("", description="nchw or nhwc, where images go as numbers")
    size: Any = Field(None, description="Height and width of an image")
    channels: int | None = Field(None, description="1 or 3")
    mean: Any = Field(None, description="Taken from an image, per channel, before it is sent as floats")
    std: Any = Field(None, description="Divided by, per channel, before it is sent as floats")
    resize: Any = Field(None, description="How pictures come to their size, as for files of weights")
    crop: Any = Field(None, description="As for files of weights")
    pad: Any = Field(None, description="As for files of weights")
    interpolation: str | None = Field(None, description="As for files of weights")
    threshold: float | None = Field(None, description="The score above which a single score means class 1")
    headers: dict[str, Text] = Field(default_factory=dict, description="Secrets as ${NAME} of the environment")
    params: dict[str, Text] = Field(default_factory=dict, description="The query of the address; no secrets")
    ca: str = Field("", description="A file of certificates to trust")
    plain_http: bool = Field(False, description="Allows http:// to another machine")
    random: bool = Field(False, description="Says that its answers are drawn")
    limits: LimitsPart = Field(default_factory=LimitsPart, description="What it may be asked")
    retry: RetryPart = Field(default_factory=RetryPart, description="When a request is sent again")

    @model_validator(mode="after")
    def _of_its_protocol(self) -> Description:
        if self.protocol == "json":
            missing = [name for name in ("image", "request", "answer") if not getattr(self, name)]
            if missing:
                raise ValueError(f"protocol: json needs {', '.join(missing)}. {_EXAMPLES[missing[0]]}")
            foreign = [name for name in ("input", "output", "binary", "top", "outputs") if getattr(self, name)]
        else:
            foreign = [name for name in ("image", "request", "answer") if getattr(self, name)]
        if foreign:
            inside = " What the scores are stands in answer: {outputs: …}." if "outputs" in foreign else ""
            raise ValueError(f"protocol: {self.protocol} has no {', '.join(foreign)}.{inside}")
        return self


_EXAMPLES = {
    "url": "Write its address, such as 'url: https://host/predict'.",
    "image": "Say how an image is sent, such as 'image: png'.",
    "request": "Write what is sent, such as 'request: {inputs: $image}'.",
    "answer": "Say where the scores stand, such as 'answer: {scores: result.scores, outputs: probabilities}'.",
}


def read(path: Path) -> Description:
    """Return what a file says of an endpoint. Raises `BadInput` that names the line and column of every slip."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""  # noqa: PTH208  # names alone
        raise BadInput(f"There is no file {path}.{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The endpoint's file {path} could not be read: {error}") from error
    raw, places = _plain(text, path.name)
    try:
        return Description.model_validate(raw)
    except ValidationError as error:
        lines = [_line(dict(one), places, path.name) for one in error.errors()]
        raise BadInput("\n".join(dict.fromkeys(lines))) from None


def _plain(text: str, name: str) -> tuple[Any, dict[Where, str]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        root = YAML(typ="safe", pure=True).compose(io.StringIO(text))
        places: dict[Where, str] = {}
        if root is not None:
            _mark(root, (), name, places)
        raw = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise BadInput(f"{place}  This is not YAML: {error.problem or error.context}.") from None
    except (YAMLError, RecursionError):
        raise BadInput(f"{name}: This is not YAML, or nested too deep.") from None
    if not isinstance(raw, Mapping):
        raise BadInput(f"{name} describes no endpoint. It needs: url, image, request, answer.")
    return raw, places


def _mark(node: Any, path: Where, name: str, places: dict[Where, str]) -> None:
    places[path] = f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if len(places) > _MOST_NODES or len(path) > 30:
        raise BadInput(f"{name} is nested too deep or repeats itself too often to describe an endpoint.")
    value = node.value
    for at, part in enumerate(value if isinstance(value, list) else ()):
        if isinstance(part, tuple):
            _mark(part[1], (*path, str(part[0].value)), name, places)
        else:
            _mark(part, (*path, at), name, places)


def _line(one: dict[str, Any], places: dict[Where, str], name: str) -> str:
    path: Where = tuple(one["loc"])
    kind, last = str(one["type"]), str(path[-1]) if path else ""
    # what pydantic adds for the kinds of a union stands in no file
    while path and path not in places and kind not in ("missing",):
        path = path[:-1]
    place = places.get(path if kind != "missing" else path[:-1], name)
    label = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    if kind == "missing":
        said = f"is missing. {_EXAMPLES.get(last, 'Write it.')}"
    elif kind == "extra_forbidden":
        known = _keys(path[:-1])
        said = f"Unknown key.{did_you_mean(last, known)} There are: {', '.join(known)}."
    elif kind == "value_error":
        said = str(one["ctx"]["error"])
    else:
        message = str(one["msg"])
        said = f"{one['input']!r}: {message[:1].lower()}{message[1:]}."
    return f"{place}  {label}: {said}" if label else f"{place}  {said}"


def _keys(path: Where) -> list[str]:
    parts: dict[Where, type[BaseModel]] = {("answer",): AnswerPart, ("limits",): LimitsPart, ("retry",): RetryPart}
    return list(parts.get(path, Description).model_fields)
