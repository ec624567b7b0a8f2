"""Models behind an endpoint: `v2:URL/MODEL`, `v1:URL/MODEL`, and `remote:endpoint.yaml` that describes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.models.classifier import Classifier
from assay.models.loaders.python import described
from assay.models.spec import Options, Request

if TYPE_CHECKING:
    from assay.models.remote.asking import Asking
    from assay.models.remote.transport import Transport

# what a server of either protocol is asked under, which users copy with the address
_ENDINGS = ("/infer", ":predict", "/metadata")


def load_v2(request: Request) -> Classifier:
    """Load `URL/MODEL` from a server that speaks the Open Inference Protocol."""
    from assay.models.remote.answers import libraries
    from assay.models.remote.v2 import V2

    libraries()
    settings = dict(request.settings)
    base, model, version = _place(request, "/v2/models/", "/versions/")
    wishes = _wishes(settings, version)
    client = V2(_transport(base, settings), model, wishes)
    return classifier(client, request, client.signature.shape)


def load_v1(request: Request) -> Classifier:
    """Load `URL/MODEL` from a server that speaks version 1 of the protocol, as TensorFlow Serving does."""
    raise NotImplementedError


def load(request: Request) -> Classifier:
    """Load the endpoint that a file describes."""
    raise NotImplementedError


def classifier(client: Asking, request: Request, shape: tuple[int | None, int | None, int | None]) -> Classifier:
    """Return an endpoint's client as a classifier, with the options of its name.

    `shape` are the channels, height and width that the server states, None where it leaves one open. Raises `BadInput`
    where options contradict it, and for an endpoint off this machine without a limit of queries.
    """
    from assay.models.remote.module import Endpoint

    if client.limits.queries is None and client.limits.budget is None and not client.loopback:
        raise BadInput(
            f"The endpoint {client.shown} is not on this machine, and nothing says how often it may be asked. Give a "
            "limit: ?queries=10000 in the name, or limits: {queries: 10000} in an endpoint.yaml."
        )
    options = _agreed(request.options, shape, client.shown)
    random = _choice(request.settings, "random", ("yes", "no")) == "yes"
    module = Endpoint(client, client.classes if client.labels else None, random=random).eval()
    made = described(module, request.spec, options)
    server = (
        f"The weights behind {client.shown} cannot be seen, and may change at any time: the digest holds its address "
        "and "
        "what it says of its version alone."
    )
    return dataclasses.replace(
        made,
        random=random,
        access=Access.LABELS if client.labels else Access.SCORES,
        identity=client.identity,
        notes=(*made.notes, *client.notes, server),
    )


def _agreed(options: Options, shape: tuple[int | None, int | None, int | None], shown: str) -> Options:
    """Return the options with the server's own size where the user gives none."""
    channels, height, width = shape
    final = options.final_size
    if final is not None and any(side not in (None, given) for side, given in zip((height, width), final, strict=True)):
        raise BadInput(
            f"size is {final[0]}x{final[1]}, and the endpoint {shown} takes images of "
            f"{height or 'any'}x{width or 'any'}."
        )
    if final is None and height is not None and width is not None:
        # an image of that size: how pictures come to it is for the user to say
        options = dataclasses.replace(options, size=(height, width))
    return options if channels is None else dataclasses.replace(options, channels=channels)


def _place(request: Request, marker: str, versions: str) -> tuple[str, str, str]:
    """Return the URL of the server, the model and "" or its version, of `URL/MODEL` in any of the forms in use."""
    url = request.name
    for ending in _ENDINGS:
        url = url.removesuffix(ending)
    url, _, version = url.partition(versions) if versions in url else (url, "", "")
    base, found, model = url.partition(marker)
    if not found:
        base, _, model = url.rstrip("/").rpartition("/")
    if not model or "/" in model or base.endswith(("//", ":", "/")) or "://" not in base:
        scheme = request.spec.partition(":")[0]
        raise BadInput(
            f"{scheme}: expects the address of a server and the name of a model, such as "
            f"{scheme}:http://127.0.0.1:8080/my-model."
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


def _transport(base: str, settings: Mapping[str, str]) -> Transport:
    from assay.models.remote.address import Address
    from assay.models.remote.transport import Transport

    plain = _choice(settings, "plain_http", ("yes", "no")) == "yes"
    return Transport(Address.of(base, plain_http=plain), limits_of(settings), ca=settings.get("ca", ""))


def limits_of(settings: Mapping[str, str]) -> Any:
    """Return the limits that the settings of a name state. Raises `BadInput` for what are no such numbers."""
    from assay.models.remote.client import Limits

    read: dict[str, tuple[Callable[[str], Any], float]] = {
        "queries": (int, 1), "price": (float, 0), "budget": (float, 0), "per_second": (float, 1e-6),
        "parallel": (int, 1), "batch": (int, 1), "timeout": (float, 1e-3), "tries": (int, 1),
    }  # fmt: skip
    found = {name: _number(settings, name, kind, least) for name, (kind, least) in read.items()}
    limits = Limits(**{name: value for name, value in found.items() if value is not None})
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
