"""Models behind an endpoint: `v2:URL/MODEL`, `v1:URL/MODEL`, and `remote:endpoint.yaml` that describes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import torch
from torch import nn

from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.models.classifier import Classifier
from assay.models.deployed import Deployed
from assay.models.loaders.python import described
from assay.models.normalized import log_probabilities
from assay.models.spec import Options, Request, sized, take_apart

if TYPE_CHECKING:
    from assay.models.remote.asking import Asking
    from assay.models.remote.description import Description
    from assay.models.remote.template import Templated
    from assay.models.remote.transport import Transport
    from assay.spending import Limits

# what a server of either protocol is asked under, which users copy with the address
_ENDINGS = ("/infer", ":predict", "/metadata")

Shape = tuple[int | None, int | None, int | None]


@dataclasses.dataclass(frozen=True)
class _Said:
    """What is said of an endpoint: its address, settings as written in a name, headers, parameters, and retries."""

    url: str
    settings: Mapping[str, str]
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    again: tuple[int | str, ...] = (429, 502, 503, 504, "reset", "timeout")
    outputs: str = "logits"
    names: tuple[str, ...] | None = None


def load_v2(request: Request) -> Classifier:
    """Load `URL/MODEL` from a server that speaks the Open Inference Protocol."""
    return _of_protocol("v2", request, _Said(request.name, request.settings))


def load_v1(request: Request) -> Classifier:
    """Load `URL/MODEL` from a server that speaks version 1 of the protocol, as TensorFlow Serving does."""
    return _of_protocol("v1", request, _Said(request.name, request.settings))


def load(request: Request) -> Classifier:
    """Load the endpoint that a file describes; settings in the name stand above those in the file."""
    _libraries()
    from assay.models.remote.description import read

    file = Path(request.name).expanduser()
    told = read(file)
    try:
        settings = {**_settings(told, file.parent), **request.settings}
        count, names = _classes_of(request.settings.get("classes"), told.classes, file.parent)
        settings |= {} if count is None else {"classes": str(count)}
        said = _Said(told.url, settings, told.headers, told.params, told.retry.on, _outputs(told), names)
        request = dataclasses.replace(request, options=_options(told, request.options))
        if told.protocol == "json":
            return _classifier(_templated(told, said, count), request, said, (None, None, None))
        return _of_protocol(told.protocol, request, said)
    except BadInput as error:
        raise BadInput(f"{file.name}  {error}") from error


def _of_protocol(protocol: str, request: Request, said: _Said) -> Classifier:
    _libraries()
    from assay.models.remote.v1 import V1
    from assay.models.remote.v2 import V2

    base, model, version = _place(protocol, said.url)
    wishes = _wishes(said.settings, version)
    transport = _transport(base, said)
    if protocol == "v2":
        client = V2(transport, model, wishes, said.params)
        return _classifier(client, request, said, client.signature.shape)
    older = V1(transport, model, wishes, said.params)
    return _classifier(older, request, said, older.shape)


def _classifier(client: Asking, request: Request, said: _Said, shape: Shape) -> Classifier:
    """Return an endpoint's client as a classifier, with the options of its name.

    `shape` are the channels, height and width that the server states, None where it leaves one open.
    """
    from assay.models.remote.module import Endpoint

    options = _agreed(request.options, shape, client.shown)
    if client.levels and options.mean is not None:
        raise BadInput(
            f"The endpoint {client.shown} takes grey levels 0 to 255, and normalised images are none. Leave mean and "
            "std out: what takes bytes normalises them itself."
        )
    random = _choice(said.settings, "random", ("yes", "no")) == "yes"
    module = Endpoint(client, client.classes if client.labels else None, random=random).eval()
    made = described(module, request.spec, options)
    if "probabilities" in (said.outputs, request.outputs):
        made = dataclasses.replace(made, module=log_probabilities(made.module), outputs="probabilities")
    if "twin" in said.settings:
        made = _with_place_for_a_twin(made, client)
    unseen = (
        f"The weights behind {client.shown} cannot be seen, and may change at any time: the digest holds its address "
        "and what it says of its version alone."
    )
    return dataclasses.replace(
        made,
        access=Access.LABELS if client.labels else Access.SCORES,
        identity=client.identity,
        notes=(*made.notes, *client.notes, unseen),
        random=random,
        classes=said.names,
    )


class _OfArrays(nn.Module):
    """A module asked with arrays, as `Deployed` asks."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Any) -> Any:
        return self.module(torch.from_numpy(x)).numpy()


def _with_place_for_a_twin(made: Classifier, client: Asking) -> Classifier:
    """Return the classifier as one whose gradients another network may give."""
    if client.labels:
        raise BadInput(
            f"The endpoint {client.shown} answers labels alone, from which no search computes an objective. Leave "
            "twin= out, and attack the twin and judge on the endpoint: surrogate= of an attack, or assay transfer."
        )
    return dataclasses.replace(made, module=Deployed(_OfArrays(made.module)).eval())


def _templated(told: Description, said: _Said, classes: int | None) -> Templated:
    from assay.models.remote.template import Answer, Templated

    assert told.answer is not None, "the description was checked"
    labels = told.answer.outputs == "labels"
    if classes is None and (labels or told.answer.labels):
        raise BadInput(
            "The answer holds labels, and nothing says what the classes are. Name them in their order, classes: "
            "labels.txt (one a line) or classes: [cat, dog], or give their number: classes: 10."
        )
    answer = Answer(told.answer.scores, told.answer.labels, labels)
    return Templated(
        _transport(said.url, said), told.request, answer, image=_image(told), classes=classes, names=said.names,
        params=said.params, version=said.settings.get("version", ""),
    )  # fmt: skip


def _image(told: Description) -> Any:
    from assay.models.remote.pixels import Numbers, Picture

    kind, _, quality = told.image.partition(":")
    if kind == "floats" and not quality:
        if told.layout == "":
            raise BadInput(
                "image: floats needs the order of an image's sides. Say layout: nchw (channels first, as PyTorch) or "
                "layout: nhwc (channels last, as TensorFlow)."
            )
        return Numbers("FP32", told.layout)
    if told.layout:
        raise BadInput(f"layout is for image: floats; a picture ({told.image}) has its own.")
    if kind == "png" and not quality:
        return Picture()
    if kind == "jpeg" and quality.isdecimal() and 1 <= int(quality) <= 100:
        return Picture(int(quality))
    raise BadInput(f"image is {told.image!r}, expected png, jpeg:QUALITY (1 to 100, such as jpeg:95), or floats.")


def _classes_of(stated: str | None, told: Any, folder: Path) -> tuple[int | None, tuple[str, ...] | None]:
    """Return the number of classes and their names, None where nobody says them."""
    if stated is not None:
        return _number({"classes": stated}, "classes", int, 2), None
    if isinstance(told, str):
        file = folder / Path(told).expanduser()
        try:
            names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"classes names {told}, which could not be read: {error}") from error
    elif isinstance(told, tuple):
        names = told
    else:
        if told is not None and told < 2:
            raise BadInput(f"classes is {told}, expected 2 or more.")
        return told, None
    twice = sorted({name for name in names if names.count(name) > 1})
    if len(names) < 2 or twice:
        fault = f"{', '.join(twice[:3])} twice" if twice else f"{len(names)} names"
        raise BadInput(f"classes holds {fault}, expected the name of every class once, in their order.")
    return len(names), names


def _settings(told: Description, folder: Path) -> dict[str, str]:
    """Return what a file says under the names, and in the form, of options in a name."""
    limits = {name: value for name, value in told.limits if name != "currency"}
    flat = {
        **limits, "tries": told.retry.tries, "version": told.version, "input": told.input, "output": told.output,
        "binary": told.binary, "top": told.top, "layout": told.layout if told.protocol != "json" else "",
        "plain_http": "yes" if told.plain_http else "", "random": "yes" if told.random else "",
        "ca": str(folder / Path(told.ca).expanduser()) if told.ca else "",
        "currency": told.limits.currency,
    }  # fmt: skip
    return {name: str(value) for name, value in flat.items() if value not in (None, "")}


def _options(told: Description, given: Options) -> Options:
    """Return the options of images that the file states, or those of the name where it has any."""
    names = ("size", "channels", "mean", "std", "resize", "crop", "pad", "interpolation", "threshold")
    stated = {name: getattr(told, name) for name in names if getattr(told, name) is not None}
    if given != Options():
        return given
    return take_apart("endpoint", stated, frozenset(names))[1]


def _outputs(told: Description) -> str:
    stated = told.answer.outputs if told.answer is not None else told.outputs
    return "probabilities" if stated == "probabilities" else "logits"


def _agreed(options: Options, shape: Shape, shown: str) -> Options:
    """Return the options with the server's own size where the user gives none."""
    channels, height, width = shape
    final = options.final_size
    if final is not None and any(side not in (None, given) for side, given in zip((height, width), final, strict=True)):
        raise BadInput(
            f"size is {final[0]}x{final[1]}, and the endpoint {shown} takes images of "
            f"{height or 'any'}x{width or 'any'}."
        )
    options = sized(options, height, width)
    return options if channels is None else dataclasses.replace(options, channels=channels)


def _place(protocol: str, url: str) -> tuple[str, str, str]:
    """Return the URL of the server, the model and "" or its version, of `URL/MODEL` in any of the forms in use."""
    for ending in _ENDINGS:
        url = url.removesuffix(ending)
    url, _, version = url.rstrip("/").partition("/versions/")
    base, found, model = url.partition(f"/{protocol}/models/")
    if not found:
        base, _, model = url.rpartition("/")
    unnamed = not model or "/" in model or url.endswith(f"/{protocol}/models")
    if unnamed or base.endswith(("//", ":", "/")) or "://" not in base:
        raise BadInput(
            f"{protocol}: expects the address of a server and the name of a model, such as "
            f"{protocol}:http://127.0.0.1:8080/my-model."
        )
    return base, unquote(model), version


def _wishes(settings: Mapping[str, str], version: str) -> Any:
    from assay.models.remote.v2 import BINARY, Wishes

    stated = settings.get("version", "")
    if version and stated and version != stated:
        raise BadInput(f"version is {stated!r}, and the address says {version!r}. Leave one out.")
    top = _number(settings, "top", int, 1)
    if top not in (None, 1):
        raise BadInput(f"top is {top}; expected 1, the first label alone. Without it, scores are asked for.")
    return Wishes(
        version or stated, settings.get("input", ""), settings.get("output", ""), settings.get("layout", "").lower(),
        _choice(settings, "binary", BINARY) or "auto", _number(settings, "classes", int, 2), top,
    )  # fmt: skip


def _transport(base: str, said: _Said) -> Transport:
    """Return what sends requests. Raises `BadInput` for an endpoint off this machine without a limit of queries."""
    from assay.models.remote.address import Address, check_params
    from assay.models.remote.secrets import Headers
    from assay.models.remote.transport import Transport

    check_params(said.params)
    plain = _choice(said.settings, "plain_http", ("yes", "no")) == "yes"
    address, limits = Address.of(base, plain_http=plain), _limits(said.settings)
    if limits.queries is None and limits.budget is None and not address.loopback:
        raise BadInput(
            f"The endpoint {address.shown} is not on this machine, and nothing says how often it may be asked. Give a "
            "limit: ?queries=10000 in the name, or limits: {queries: 10000} in an endpoint.yaml."
        )
    return Transport(
        address, limits, Headers(said.headers), ca=said.settings.get("ca", ""),
        again=frozenset(one for one in said.again if isinstance(one, int)),
        broken=frozenset(one for one in said.again if isinstance(one, str)),
    )  # fmt: skip


def _limits(settings: Mapping[str, str]) -> Limits:
    from assay.spending import Limits

    read: dict[str, tuple[Callable[[str], Any], float]] = {
        "queries": (int, 1), "price": (float, 0), "budget": (float, 0), "per_second": (float, 1e-6),
        "parallel": (int, 1), "batch": (int, 1), "timeout": (float, 1e-3), "tries": (int, 1),
    }  # fmt: skip
    found = {name: _number(settings, name, kind, least) for name, (kind, least) in read.items()}
    known = {name: value for name, value in found.items() if value is not None}
    limits = Limits(**known, currency=settings.get("currency", ""))
    if limits.budget is not None and not limits.price:
        raise BadInput(f"budget is {limits.budget:g}, and no price says what a row costs. Give one: price=0.0006.")
    return limits


def _number(settings: Mapping[str, str], name: str, kind: Callable[[str], Any], least: float) -> Any:
    if name not in settings:
        return None
    try:
        value = kind(settings[name])
    except ValueError:
        value = None
    if value is None or not least <= value < float("inf"):
        what = "a whole number" if kind is int else "a number"
        raise BadInput(f"{name} is {settings[name]!r}, expected {what} of at least {least:g}.")
    return value


def _choice(settings: Mapping[str, str], name: str, words: tuple[str, ...]) -> str | None:
    if name in settings and settings[name] not in words:
        raise BadInput(f"{name} is {settings[name]!r}, expected {' or '.join(words)}.")
    return settings.get(name)


def _libraries() -> None:
    """Raise `BadInput` where the extra `remote` is not installed."""
    try:
        import httpx2
        import orjson
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed. Install it with: pip install 'assay[remote]'") from error
    del httpx2, orjson
